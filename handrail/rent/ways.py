"""`handrail rent`: the four ways to a bigger machine, and which is for whom."""

import shlex
from pathlib import Path

from handrail.project import Stop

WAYS = """Only the long run needs a bigger machine: the small steps before it are cheap here, and go along as files.
First, what it needs and costs:     handrail rehearse {folder} --gpus 1

  handrail rent notebook {folder}     free, an hour or so of a small GPU; you carry the model home by hand.
                              For a first look.
  handrail rent jobs {folder}         Hugging Face Jobs: starts, trains, ends by itself. A time limit caps the bill.
                              For most. Needs an account with credit (hf auth login).
  handrail rent ssh user@host {folder}    any machine that you rented (RunPod, Lambda, Vast, a university): it is
                              set up, trains while your laptop is closed, and the model is fetched. You end the bill.
  handrail rent sky {folder}          a task file for SkyPilot, if you use it: the cheapest of many clouds.

On the machine itself the command is the one you know, and more GPUs are one word more:
  python pretrain.py     ·     torchrun --nproc_per_node 8 pretrain.py
A machine that can be taken back at any moment: python sync.py TARGET pretrain.py keeps its checkpoints elsewhere."""


def main(words):
    """Run `handrail rent [jobs | ssh | sky | notebook] ...`; return the exit code."""
    way, rest = (words[0] if words else ""), words[1:]
    if way == "jobs":
        from handrail.rent.jobs import main
    elif way == "ssh":
        from handrail.rent.ssh import main
    elif way == "sky":
        from handrail.rent.sky import main
    elif way == "notebook":
        from handrail.rent.service import main
    elif way in ("", "-h", "--help") or (Path(way) / "settings.toml").exists():
        print(
            WAYS.format(
                folder=shlex.quote(way)
                if way and Path(way).is_dir()
                else "."
                if Path("settings.toml").exists()
                else "first-model"
            )
        )
        return 0
    else:
        raise Stop(
            f"There is no way {way!r} to rent. The ways: notebook jobs ssh sky; `handrail rent` tells them apart."
        )
    return main(rest)
