"""What was chosen, and which machine it runs on.

A training run is a handful of decisions. They stand in settings.toml, one
line each with its reason, so that the same command means the same thing next
month and on another machine. A flag typed after a command wins for that run.

The trap: without a GPU, libraries train on the CPU and do not say so; a run of
ten minutes becomes a day. So `start` refuses, unless you said --cpu.
"""

import argparse
import sys
import tomllib
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers.utils.logging import disable_progress_bar

ROOT = Path(__file__).parent  # this project
OUT = ROOT / "out"  # all that is made, none of it in git

FLAGS = {
    "updates": (int, 1000, "how many times the weights are changed"),
    "batch": (int, 32, "rows of text in one update, over all processes"),
    "context": (int, 256, "tokens in one row: how far back the model can look"),
    "lr": (float, 3e-3, "learning rate: how far each update moves the weights"),
    "seed": (int, 0, "fixes every random choice, so that a run can be repeated"),
}
KINDS = [".txt", ".md", ".jsonl", ".json", ".csv", ".parquet"]  # of files that are read
DEFAULTS = {"column": "text", "kinds": KINDS, "base": "", "rows_at_once": 0, "every": 0, "compile": False}

NO_GPU = """No GPU that torch can use was found on this machine. The choices:
  - add --cpu to the same command: right for a first small model, slow for more
  - run the same command on a machine with a GPU, rented or borrowed
  - if there is a GPU here, its driver and this torch do not fit together:
    compare `nvidia-smi` with `python -m torch.utils.collect_env`"""


def refuse(text):
    """Say on the error stream what is at fault and how to mend it, and end with exit code 2."""
    print(text, file=sys.stderr)
    sys.exit(2)


def made(path, by):
    """Return `path`, which the command `by` makes; end with exit code 2 and name that command if it is not there yet."""
    if not path.exists():
        refuse(f"{path} is not there yet. First: {by}")
    return path


def read(purpose, arguments=None, step=""):
    """Return the settings as one object: settings.toml, what it has for `step` alone, overruled by the flags typed."""
    chosen = {name: default for name, (_, default, _) in FLAGS.items()} | DEFAULTS
    try:
        written = tomllib.loads((ROOT / "settings.toml").read_text(encoding="utf-8"))
    except ValueError as error:  # no TOML, or no UTF-8
        refuse(f"settings.toml cannot be read: {error}")
    if step in ("finetune", "dpo", "grpo") and step not in written:
        refuse(f"settings.toml says nothing of {step} yet. First: handrail {'finetune' if step == 'finetune' else 'align'}")
    chosen |= written | written.get(step, {})
    parser = argparse.ArgumentParser(description=purpose, argument_default=argparse.SUPPRESS)
    for name, (kind, _, meaning) in FLAGS.items():
        parser.add_argument(f"--{name}", type=kind, help=f"{meaning} ({chosen[name]})")
    parser.add_argument("--cpu", action="store_true", help="use the CPU, knowing that it is slow")
    chosen |= {"cpu": False} | vars(parser.parse_args(arguments))
    for name, (kind, example, _) in FLAGS.items():
        if not isinstance(chosen[name], (kind, int)) or not (0 < chosen[name] < float("inf") or name == "seed"):
            refuse(f"{name} = {chosen[name]!r}, typed or in settings.toml: it has to be a number above 0, such as {example}")
    return argparse.Namespace(**chosen)


def start(settings):
    """Return the Accelerator, which places everything on the device and picks its number format.

    Exits with code 2 when there is no GPU and the CPU was not asked for.
    """
    if not settings.cpu and not torch.accelerator.is_available():
        refuse(NO_GPU)
    precision = "no"  # 32-bit numbers; a CUDA card is about twice as fast with 16
    if torch.cuda.is_available() and not settings.cpu:
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    torch.use_deterministic_algorithms(settings.cpu)  # the CPU then repeats a run bit for bit
    set_seed(settings.seed)
    disable_progress_bar()  # for files of some kilobytes
    return Accelerator(cpu=settings.cpu, mixed_precision=precision)
