"""What was chosen for this project, and the machine that it runs on.

A training run is a handful of decisions. settings.toml lists them, one per
line, each with its reason, so that the same command means the same thing next
month and on another machine. An option that you type after a command, such as
`--updates 500`, overrides settings.toml for that one run.

The trap: without a GPU, most libraries quietly train on the CPU instead, and a
run of ten minutes becomes a day. So this program stops unless you add --cpu.
"""

import argparse
import os
import sys
import tomllib
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers.utils.logging import disable_progress_bar

ROOT = Path(__file__).resolve().parent  # this project
OUT = ROOT / "out"  # everything that the program makes; not in git

SETTINGS = {  # name: (default, meaning)
    "data": ("", "your texts: a file, a folder, or a data set of the Hugging Face hub"),
    "kinds": ([".txt", ".md", ".jsonl", ".json", ".csv", ".parquet"], "files that are read"),
    "column": ("text", "the column of a table that holds the text"),
    "vocabulary": (1024, "how many different tokens the tokenizer may learn"),
    "size": ("1m", "how large a new model is: one of SIZES in model.py"),
    "base": ("", "a trained model to continue from; none: a new model"),
    "method": ("full", "of fine-tuning: full trains all weights, lora small corrections"),
    "updates": (1000, "how many times the weights are changed"),
    "batch": (32, "rows of text (or examples) per update, over all GPUs together"),
    "context": (256, "tokens per row: how far the model can look back"),
    "lr": (3e-3, "learning rate: how far each update moves the weights"),
    "seed": (0, "fixes every random choice, so that a run can be repeated exactly"),
    "rows_at_once": (0, "rows that fit into memory together; 0: the whole batch"),
    "every": (0, "updates between two checkpoints; 0: a tenth of the run"),
    "compile": (False, "torch.compile: a slow start, then faster updates"),
    "prompt": ("", "the start of a text, which the model finishes now and then"),
}
NO_GPU = """This machine has no GPU that PyTorch can use. Add --cpu to the same command (fine for a
first small model, slow for more), or run it on a machine with a GPU. If there is one here, its
driver does not match this PyTorch: compare `nvidia-smi` and `python -m torch.utils.collect_env`."""


def refuse(text):
    """Print what is wrong and how to fix it, and end with exit code 2."""
    print(text, file=sys.stderr, flush=True)
    if torch.distributed.is_initialized():  # the threads that talk to other processes can hang
        sys.stdout.flush()
        os._exit(2)
    sys.exit(2)


def require(path, command):
    """Return `path`; if it does not exist yet, end with exit code 2 and name the command."""
    if not path.exists():
        cpu = " --cpu" if "--cpu" in sys.argv else ""
        refuse(f"{path} does not exist yet. First: {command}{cpu}")
    return path


def read(purpose, arguments=None, step=""):
    """Return all settings as one object; the later of these wins.

    The defaults, settings.toml, its part for `step` (such as `finetune.lr`), the typed options.
    """
    try:
        written = tomllib.loads((ROOT / "settings.toml").read_text(encoding="utf-8"))
    except ValueError as error:  # not TOML, or not UTF-8
        refuse(f"settings.toml cannot be read: {error}")
    if step and step not in written:
        refuse(f"settings.toml has no settings for {step} yet. First: handrail {step}")
    chosen = {name: default for name, (default, _) in SETTINGS.items()}
    chosen |= written | written.get(step, {})

    numbers = {name for name, (default, _) in SETTINGS.items() if type(default) in (int, float)}
    parser = argparse.ArgumentParser(description=purpose)
    for name in sorted(numbers):  # each can be typed as an option
        default, meaning = SETTINGS[name]
        value = str(chosen[name])  # as typed, so that a mistake in settings.toml is named as well
        parser.add_argument(f"--{name}", type=type(default), default=value, help=meaning)
    parser.add_argument("--out", type=Path, default=OUT, help="folder for what this run makes")
    parser.add_argument("--cpu", action="store_true", help="use the CPU, knowing that it is slow")
    chosen |= vars(parser.parse_args(arguments))
    for name in numbers:
        least = 0 if SETTINGS[name][0] == 0 else 1e-12
        if not least <= chosen[name] < float("inf"):
            refuse(f"{name} = {chosen[name]}: it must be a number above 0")

    out = chosen["out"] = chosen["out"].resolve()
    other = out.parent != ROOT and (out.parent / "settings.toml").exists()
    if other or out.is_file() or (out / "settings.toml").exists():
        refuse(f"--out {out} is a file or another project: choose a new folder")
    return argparse.Namespace(**chosen, step=step)


def start(settings):
    """Return the Accelerator, which puts everything on the GPU in the right number format.

    Ends with exit code 2 if there is no GPU and --cpu was not typed.
    """
    if not settings.cpu and not torch.accelerator.is_available():
        refuse(NO_GPU)
    precision = "no"  # numbers of 32 bits; a CUDA GPU is about twice as fast with 16
    if torch.cuda.is_available() and not settings.cpu:
        # bf16 where the card has it in hardware; a T4, for example, has not
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    torch.use_deterministic_algorithms(settings.cpu)  # a CPU then repeats a run bit for bit
    set_seed(settings.seed)
    disable_progress_bar()  # for files of a few kilobytes
    return Accelerator(cpu=settings.cpu, mixed_precision=precision)
