"""Python imports this file when it starts under `watch`: it lets the doctor in when torch comes.

`python`, `torchrun` and `accelerate launch` all start Python, so this reaches every process that
trains.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys

from handrail_on_import import WhenImported

HERE = os.path.dirname(os.path.abspath(__file__))


def let_in(torch):
    try:
        importlib.import_module(os.environ["HANDRAIL_DOCTOR"] + ".watch").attach()
    except Exception as error:  # the program runs all the same
        print(f"handrail: the doctor could not be attached: {error!r}", file=sys.stderr)


def run_own():
    """Run the sitecustomize that this machine has of its own, which ours hides."""
    sys.path = [folder for folder in sys.path if os.path.abspath(folder or ".") != HERE]
    own = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if own is not None and own.loader is not None:
        sys.modules["sitecustomize"] = importlib.util.module_from_spec(own)
        own.loader.exec_module(sys.modules["sitecustomize"])


if os.path.isdir(os.environ.get("HANDRAIL_WATCH", "")):  # what is left running has it no more
    open(os.path.join(os.environ["HANDRAIL_WATCH"], f"python-{os.getpid()}"), "w").close()
    WhenImported({"torch": let_in})
run_own()
