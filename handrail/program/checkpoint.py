"""Save without loss, and go on exactly where the run was.

Machines stop: rented ones are taken back, laptops sleep, people press Ctrl-C.
A checkpoint is all that the next update depends on: weights, the optimizer's
averages, the random state and the number of the update. The data needs none:
a batch follows from its number. So a resumed run ends with the same weights.

The trap: a machine that stops *while saving* leaves half a file where the only
good one was. So the new checkpoint is written beside the old one, forced to
the disk, and only then given its name. Half-written ones never have a name.
"""

import os
import shutil
import signal
import sys

from accelerate.utils import gather_object
from safetensors import SafetensorError


def checkpoints(folder):
    """Return the whole checkpoints, oldest first, as {updates made: folder}."""
    return {int(path.name): path for path in sorted(folder.glob("[0-9]*")) if path.name.isdigit()}


def flush(path):
    """Wait until a file or folder is on the disk, not only in the machine's memory."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def save(accelerator, folder, step, keep=2):
    """Write the checkpoint folder/STEP, whole or not at all (OSError, and those before it stay); keep the newest `keep`."""
    new, path = folder / f"{step:08}.part", folder / f"{step:08}"
    try:
        accelerator.save_state(new, safe_serialization=False)
    except (OSError, RuntimeError) as error:  # torch's word for a full disk is RuntimeError
        shutil.rmtree(new, ignore_errors=True)
        raise OSError(f"the checkpoint of update {step} could not be written: {error}") from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for part in [*new.rglob("*"), new]:
            flush(part)
        shutil.rmtree(path, ignore_errors=True)
        new.rename(path)
        flush(folder)
        for old in list(checkpoints(folder).values())[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def resume(accelerator, folder):
    """Load the newest checkpoint that all processes can read; return how many updates it has seen, 0 when there is none."""
    if accelerator.is_main_process:
        for part in folder.glob("*.part"):
            print(f"{part.name} was cut off while it was written; it is not used")
            shutil.rmtree(part)
    found = checkpoints(folder)
    alike = all(there == [*found] for there in gather_object([[*found]]))  # or each goes on from an update of its own
    for step, path in reversed(found.items() if alike else ()):
        try:
            problem = accelerator.load_state(path) or ""
        except Exception as error:  # damaged, or of another model
            problem = repr(error)[:300]
        if not (problem := max(gather_object([problem]))):
            return step
        accelerator.print(f"checkpoint {path} cannot be used: {problem}")
    if found or not alike:
        what = "fits this model" if alike else "is on all machines: share that folder between them, or copy it from the first to all"
        accelerator.print(f"No checkpoint in {folder} {what}. To start anew, move that folder away.")
        sys.exit(2)
    return 0


def save_model(accelerator, model, tokenizer, folder):
    """Write a trained model as a plain Transformers folder: beside it first, so that no half of one has its name."""
    whole = accelerator.get_state_dict(model)  # all processes give their part of the weights, and the first has them all
    if accelerator.is_main_process:
        new, names = folder.with_name(f"{folder.name}.part"), dict(model.named_parameters()) | dict(model.named_buffers())
        model.save_pretrained(new, state_dict={name: whole[name] for name in names if name in whole})  # a table with two names once
        tokenizer.save_pretrained(new)
        for file in list(new.iterdir()):
            os.renames(file, folder / file.name)  # what else lies there, its card for instance, stays
        print(f"the model is in {folder}")
    accelerator.wait_for_everyone()  # a process that is gone takes the others with it


def requests_to_stop():
    """Return a list that is empty until Ctrl-C or SIGTERM comes: the update under way is finished before the run stops."""
    asked = []
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda number, _: asked.append(number))
    return asked


def run(main, kept="What was learned is saved, and the same command goes on from there."):
    """Run a script's main(). What can stop it becomes a sentence, with what is `kept`, and an exit code."""
    try:
        main()
    except KeyboardInterrupt:
        print(f"\nStopped. {kept}")
        sys.exit(130)
    except FloatingPointError as error:
        sys.exit(f"Stopped: {error}. Most often the learning rate is too high: try a third of it, from the last checkpoint.")
    except (OSError, SafetensorError) as error:
        print(f"Stopped: {error}\nMend that first. {kept}", file=sys.stderr)
        sys.exit(2)
