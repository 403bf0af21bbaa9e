"""Do several processes read different rows, and train one model?"""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import torch

from ..findings import finding
from ..hooks import grouped

AT, LAST = 8, 24  # the update at which each process tells what it has; until when the others wait


class Ranks:
    """Lets the processes of one machine compare notes through files: none waits for another."""

    def __init__(self, doctor):
        self.doctor, self.compared = doctor, False
        port = os.environ.get("MASTER_PORT", 0)
        own = Path(tempfile.gettempdir(), f"handrail-rows-{os.getppid()}-{port}")
        self.own = "HANDRAIL_WATCH" not in os.environ
        self.folder = own if self.own else Path(os.environ["HANDRAIL_WATCH"])

    def rows_read(self):
        doctor, update = self.doctor, self.doctor.updates
        world = torch.distributed.get_world_size() if grouped() else 1
        if world < 2 or not AT <= update <= LAST:
            return
        if update == AT:
            self.folder.mkdir(exist_ok=True)
            notes = [sorted(doctor.rows.rows), some_weights(doctor.trained), doctor.read]
            (self.folder / f"rows-{doctor.rank}").write_text(json.dumps(notes))
        elif doctor.rank == 0 and not self.compared:
            files = [file for file in self.folder.glob("rows-*") if file.name != "rows-0"]
            others = [json.loads(file.read_text()) for file in files if file.stat().st_size]
            if len(others) == world - 1:
                self.compared = True
                mine = json.loads((self.folder / "rows-0").read_text())
                yield from self.compare(mine, others)

    def compare(self, mine, others):
        rows, weights, read = mine
        alike = [theirs for _, theirs, _ in others if len(theirs) == len(weights)]
        apart = [theirs for theirs in alike if theirs != weights]
        if apart:
            differ = sum(a != b for a, b in zip(apart[0], weights, strict=True))
            evidence = (
                f"after update {AT}, of {len(weights)} weights that were compared {differ} differ "
                "between two processes"
            )
            yield finding("ranks-train-apart", evidence, self.doctor.updates)
        shares = []
        for their_rows, _, their_read in others:
            same = their_read == read and len(set(read)) > 4 and not apart
            common = len(set(their_rows) & set(rows)) / max(1, len(their_rows))
            shares.append(1.0 if same else common)
        if max(shares) > 0.9:
            evidence = f"{max(shares):.0%} of the rows of another process are those of process 0"
            yield finding("ranks-share-data", evidence, self.doctor.updates)

    def ended(self):
        if self.own:
            with suppress(OSError):
                (self.folder / f"rows-{self.doctor.rank}").unlink()
                self.folder.rmdir()  # the last one out


def some_weights(model):
    """Return a few values of the first trained tensor; none where processes hold parts of it."""
    named = model.named_parameters() if model is not None else ()
    for name, p in named:
        if p.requires_grad and type(p) is torch.nn.Parameter and "_flat_param" not in name:
            return p.detach().flatten()[:32].tolist()
    return []
