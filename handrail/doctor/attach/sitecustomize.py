"""Python imports this file when it starts under `watch`: it lets the doctor in when torch comes.

`python`, `torchrun` and `accelerate launch` all start Python, so this reaches every process that
trains.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


class WhenTorchComes(importlib.abc.MetaPathFinder):
    """Waits for `import torch`; imports nothing by itself.

    Libraries that only ask whether torch is there do not import it yet.
    """

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        others = (
            finder.find_spec(name, path, target)
            for finder in sys.meta_path
            if finder is not self and hasattr(finder, "find_spec")
        )
        spec = next(filter(None, others), None)
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            sys.meta_path.remove(self)
            execute(module)
            let_in()

        spec.loader.exec_module = exec_module
        return spec


def let_in():
    try:
        importlib.import_module(os.environ["HANDRAIL_DOCTOR"] + ".watch").attach()
    except Exception as error:  # the program runs all the same
        print(f"handrail: the doctor could not be attached: {error!r}", file=sys.stderr)


def run_own():
    """Run the sitecustomize that this machine has of its own, which ours hides."""
    sys.path = [folder for folder in sys.path if os.path.abspath(folder or ".") != HERE]
    own = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if own is not None and own.loader is not None:
        own.loader.exec_module(importlib.util.module_from_spec(own))


if os.environ.get("HANDRAIL_WATCH"):
    open(os.path.join(os.environ["HANDRAIL_WATCH"], f"python-{os.getpid()}"), "w").close()
    sys.meta_path.insert(0, WhenTorchComes())
run_own()
