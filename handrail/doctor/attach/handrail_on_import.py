"""Waits for a module to be imported. Standard library only: it runs before anything else does."""

import importlib.abc
import sys


class WhenImported(importlib.abc.MetaPathFinder):
    """Calls a function with a module once that has been imported; imports nothing by itself."""

    def __init__(self, calls):
        self.calls = dict(calls)
        for name in [name for name in calls if name in sys.modules]:
            self.calls.pop(name)(sys.modules[name])
        sys.meta_path.insert(0, self)

    def remove(self):
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name, path=None, target=None):
        if name not in self.calls:
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
            execute(module)
            if name in self.calls:  # else it came twice
                self.calls.pop(name)(module)

        spec.loader.exec_module = exec_module
        return spec
