"""A Python with PyTorch and the Hugging Face libraries imported: each program runs in a fork of it.

Importing them takes 4 to 7 seconds of CPU, and the tests start some 250 programs. A fork is a
process of its own, with its own folder, environment, output, exit code and end; nothing of handrail
and nothing of a learner's was imported before it. What depends on how a process starts (signals,
torchrun, the doctor's way in) is started cold.
"""

import atexit
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path


def serve():
    """Read requests, a line each, and answer with exit codes; return (in a fork) the program that
    is to be run.
    """
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import torch  # noqa: F401
    from transformers import (  # noqa: F401
        AutoModelForCausalLM,
        AutoTokenizer,
        Qwen3ForCausalLM,
        pipeline,
    )

    for line in sys.stdin:
        request = json.loads(line)
        if pid := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
            continue
        for number, name in enumerate(("in", "out", "err")):
            os.dup2(
                os.open(
                    Path(request["streams"]) / name,
                    os.O_RDONLY if name == "in" else os.O_WRONLY | os.O_APPEND,
                ),
                number,
            )
        sys.stdin = open(0)
        if request["room"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["room"], request["room"]))
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        sys.argv = request["words"]
        sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
        return sys.argv[0]


@cache
def server():
    """Start it, once for each test worker."""
    return subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def run(words, cwd=None, env=None, input="", room=None):
    """Run a Python program (a file and its arguments) as subprocess.run would, on a disk with
    `room` bytes for a file; return what came of it.
    """
    with tempfile.TemporaryDirectory() as streams:
        for name, text in (("in", input), ("out", ""), ("err", "")):
            Path(streams, name).write_text(text)
        request = {
            "words": [str(word) for word in words],
            "cwd": str(cwd or os.getcwd()),
            "env": dict(env or os.environ),
            "room": room,
            "streams": streams,
        }
        there = server()
        print(json.dumps(request), file=there.stdin, flush=True)
        code = int(there.stdout.readline())
        return subprocess.CompletedProcess(
            words, code, *(Path(streams, name).read_text() for name in ("out", "err"))
        )


def to_its_end(program):
    """Run the program and end as Python does, except that its modules are not taken apart: in a
    fork that takes two seconds.
    """
    code = 0
    try:
        exec(
            compile(Path(program).read_bytes(), program, "exec"),
            {"__name__": "__main__", "__file__": program},
        )
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code != end.code and end.code is not None:
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    if wanted := serve():  # only in a fork: from here on it is that program
        to_its_end(wanted)
