"""Save everything, and resume exactly where the run was.

Machines stop: rented ones are taken back, laptops sleep, people press Ctrl-C.
A checkpoint saves everything that the next update needs: the weights, the
optimizer's averages, the random state, the number of the update. The data need
not be saved: the number of an update alone decides which batch it gets.

The trap: if the machine dies *while saving*, you are left with half a file in
place of your only good one. So the new checkpoint is written next to the old
ones under another name, and gets its own name only when it is whole.
"""

import json
import os
import shutil
import signal
import sys
from contextlib import suppress

from accelerate.utils import gather_object
from safetensors import SafetensorError

from identity import check_run, move_away
from settings import refuse


def checkpoints(folder):
    """Return the whole checkpoints, oldest first, as {updates made: folder}."""
    return {int(path.name): path for path in sorted(folder.glob("[0-9]*")) if path.name.isdigit()}


def save(accelerator, folder, step, run, keep=2):
    """Write folder/STEP, whole or not at all (then OSError), and keep the newest `keep`."""
    part, whole = folder / f"{step:08}.part", folder / f"{step:08}"
    try:
        accelerator.save_state(part, safe_serialization=False)
    except (OSError, RuntimeError) as error:  # PyTorch's word for a full disk is RuntimeError
        shutil.rmtree(part, ignore_errors=True)
        free = f"{shutil.disk_usage(folder).free / 1e6:,.0f} MB are free there"
        raise OSError(f"checkpoint {step} could not be written ({free}): {error}") from error
    accelerator.wait_for_everyone()  # every process has written its part
    if accelerator.is_main_process:
        (part / "run.json").write_text(json.dumps(run, indent=1))
        os.sync()  # it is on the disk now, not only in the machine's memory
        shutil.rmtree(whole, ignore_errors=True)
        part.rename(whole)
        for old in [*list(checkpoints(folder).values())[:-keep], *folder.glob("*.part")]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    if not all(gather_object([whole.exists()])):
        refuse(f"{folder} must be on a disk that all machines share: --out names another folder.")


def resume(accelerator, folder, run):
    """Load the newest checkpoint of `run`; return how many updates it has seen, or 0."""
    found = checkpoints(folder)
    if len(set(gather_object([max(found, default=0)]))) > 1:
        refuse(f"{folder} must be on a disk that all machines share: --out names another folder.")
    for step, path in reversed(found.items()):
        problem = ""
        try:
            check_run(path, run)
            accelerator.load_state(path)
        except Exception as error:  # damaged: try the one before
            problem = f"{path} cannot be loaded: {error!r:.300}"
        problem = max(gather_object([problem]))  # "" if every process could load it
        if not problem:
            over = " It is finished: nothing is trained." if step >= run["updates"] else ""
            accelerator.print(f"Resuming after update {step:,}.{over}")
            return step
        accelerator.print(problem)
    if found:
        why = f"No checkpoint in {folder} can be used (those of FSDP need FSDP)."
        refuse(f"{why} To start again: {move_away(folder.parent)}")
    return 0


# --- Stopping

REQUESTS = []  # the signals that asked this program to stop
STOPPING = b"\nStopping after this update. Ctrl-C again stops at once, without saving.\n"


def requests_to_stop():
    """Return a list that is empty until Ctrl-C, SIGTERM or a closed terminal asks to stop."""

    def note(number, _):
        REQUESTS.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C
        with suppress(OSError):  # the terminal is closed
            os.write(2, STOPPING)

    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(kind) != signal.SIG_IGN:  # `nohup` ignores a closed terminal
            signal.signal(kind, note)
    return REQUESTS


def run(main, kept="The same command resumes from the newest checkpoint, if there is one."):
    """Run main(); turn what can stop it into one line and an exit code."""
    try:
        main()
    except (OSError, SafetensorError) as error:
        refuse(f"\nStopped: {error}\nFix that first. {kept}")
    except (KeyboardInterrupt, Exception) as error:
        # Ctrl-C also ends the compiler that torch.compile has started: that error is no news
        if not isinstance(error, KeyboardInterrupt) and not REQUESTS:
            raise
        with suppress(OSError):  # the terminal is closed
            print(f"\nStopped. {kept}", flush=True)
        sys.exit(130)
