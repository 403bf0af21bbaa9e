"""Does the Trainer drop a column that the loss or the collator asks for by name?"""

from types import CodeType

from ..findings import finding

LIBRARIES = ("transformers", "trl", "peft", "datasets")  # their own code asks for what may be there


class Columns:
    """Compares the names of dropped columns with the strings in the program's own code."""

    def __init__(self, doctor):
        self.doctor = doctor

    def columns_dropped(self, trainer, dropped):
        collator = trainer.data_collator
        collate = collator if hasattr(collator, "__code__") else type(collator).__call__
        asking = {"compute_loss": type(trainer).compute_loss, "the data collator": collate}
        for place, function in asking.items():
            asked = sorted(dropped & strings_in(function))
            if asked:
                evidence = f"{place} asks for {', '.join(map(repr, asked))}"
                yield finding("columns-dropped", evidence, self.doctor.updates)


def strings_in(function):
    """Return the strings in the code of a function of the program, and of those inside it."""
    code = getattr(function, "__code__", None)
    if code is None or function.__module__.split(".")[0] in LIBRARIES:
        return set()
    found, waiting = set(), [code]
    while waiting:
        for constant in waiting.pop().co_consts:
            if isinstance(constant, CodeType):
                waiting.append(constant)
            elif isinstance(constant, str):
                found.add(constant)
    return found
