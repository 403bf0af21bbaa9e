"""`handrail rent`: the four ways to a bigger machine, and which is for whom."""

import shlex
from importlib import import_module
from pathlib import Path

from handrail.project import Stop, usual

MODULES = {"jobs": "jobs", "ssh": "ssh", "sky": "sky", "notebook": "service"}
WAYS = """Only the long run needs a bigger machine. The small steps before it are cheap
here, and their files go along. First, what the run needs and costs:
  handrail estimate {folder}

Four ways:

  handrail rent notebook {folder}
      Free, about an hour of a small GPU; you carry the model home by hand.
      For a first look.

  handrail rent jobs {folder}
      Hugging Face Jobs: starts, trains, ends by itself. A time limit caps the
      bill. For most. Needs an account with credit (hf auth login).

  handrail rent ssh user@host {folder}
      Any machine that you rented (RunPod, Lambda, Vast, a university): it is
      set up, trains while your laptop is closed, and the model is fetched.
      You end the bill.

  handrail rent sky {folder}
      A task file for SkyPilot, if you use it: the cheapest of many clouds.

On the machine itself the command is the one you know, also for more GPUs:
  python pretrain.py
  torchrun --nproc_per_node 8 pretrain.py
On a machine that can be taken back at any moment, this keeps the checkpoints
elsewhere too:
  python sync.py TARGET pretrain.py"""


def main(words):
    """Run `handrail rent [jobs | ssh | sky | notebook] ...`; return the exit code."""
    way = words[0] if words else usual()
    if way in MODULES:
        return import_module(f"handrail.rent.{MODULES[way]}").main(words[1:])
    if way in ("-h", "--help"):
        way = usual()
    elif words and not (Path(way) / "settings.toml").exists():
        raise Stop(
            f"There is no way {way!r} to rent. The ways: notebook jobs ssh sky; "
            "`handrail rent` tells them apart."
        )
    print(WAYS.format(folder=shlex.quote(way)))
    return 0
