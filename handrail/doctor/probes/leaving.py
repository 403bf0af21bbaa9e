"""Probe G: what is loaded at the start and left behind at the end; and what the model writes."""

import os
from collections import Counter
from pathlib import Path

import torch

from ..findings import Finding
from ..no_trace import no_trace
from ..token_rows import rows_of

COPY = 24  # tokens in a row that nobody writes twice by chance


class Leaving:
    """Follows checkpoints that are read, folders that are written, and text that is generated."""

    def __init__(self, doctor):
        self.doctor, self.folders, self.given, self.taken, self.loaded_at, self.last = (
            doctor,
            {},
            [],
            False,
            None,
            None,
        )
        self.runs, self.copied, self.said, self.fresh = Counter(), 0, 0, True
        self.read, self.reached = (
            [],
            True,
        )  # tensors of the files that were read; are they those of the model that is trained?

    # --- resuming ---

    def loaded(self, file, found):
        """A file that was read before the first update: does it hold an optimizer's state, is it a checkpoint in mid-run?"""
        if self.doctor.updates:
            return
        if isinstance(found, dict):
            parts = [found, *(value for value in found.values() if isinstance(value, dict))]
            self.read += [
                value
                for part in parts
                for value in part.values()
                if isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim
            ][:500]
        if isinstance(found, dict) and "param_groups" in found and "state" in found:
            self.given.append(file)
        elif isinstance(found, dict):
            inside = [
                name
                for name, value in found.items()
                if isinstance(value, dict) and "param_groups" in value
            ]
            self.given += [f"{file}[{name!r}]" for name in inside]
            places = [
                found[name]
                for name in (
                    "step",
                    "epoch",
                    "iter",
                    "iter_num",
                    "global_step",
                    "update",
                    "updates",
                )
                if isinstance(found.get(name), int)
            ]
            tensors = any(
                isinstance(value, dict) and any(isinstance(v, torch.Tensor) for v in value.values())
                for value in found.values()
            )
            if places and max(places) > 0 and tensors and not inside:
                self.loaded_at = (file, max(places))
            beside = [
                other
                for end in ("bin", "pt")
                for other in Path(file).parent.glob(f"optimizer*.{end}")
                if Path(file).is_file()
            ]  # not beside a buffer
            if (
                beside
                and found
                and all(isinstance(value, torch.Tensor) for value in found.values())
            ):
                self.loaded_at = (f"{file}, beside {beside[0].name},", "some")

    def loaded_optimizer(self):
        self.taken = True

    def resuming(self, folder):
        """A Trainer goes on from a checkpoint."""
        self.taken, self.given, self.loaded_at, self.fresh, self.read, self.reached = (
            False,
            [],
            (folder, "some"),
            True,
            [],
            True,
        )

    def before_step(self, optimizer):
        if self.fresh and self.read and self.doctor.trained is not None:
            mine = list(self.doctor.trained.parameters())
            found = sum(
                any(value.shape == p.shape and torch.equal(value.to(p), p) for value in self.read)
                for p in mine
            )
            self.reached = found >= 0.9 * min(
                len(mine), len(self.read)
            )  # else a teacher's, or those of a model that got another head
            self.doctor.loaded |= found > 0
            self.read = []

    def after_step(self, optimizer):
        doctor, update = self.doctor, self.doctor.updates
        first, self.fresh = self.fresh, False
        if first and not self.taken and self.reached and (self.given or self.loaded_at):
            what = (
                f"{self.given[0]} holds the optimizer's state, and optimizer.load_state_dict was not called"
                if self.given
                else f"{self.loaded_at[0]} is a checkpoint of a run, and no state of an optimizer was read from it"
            )
            yield Finding(
                "resume-without-optimizer",
                "warning",
                "The run continues without the optimizer's averages: the loss will jump.",
                what,
                [
                    ("only the weights are loaded", 0.7),
                    ("a new training on old weights, meant so", 0.3),
                ],
                "save and load model and optimizer together (accelerator.save_state / load_state)",
                0,
            )
        seen = doctor.now.passes[-1] if doctor.now.passes else None
        if seen is not None and (rows := rows_of(seen)) is not None:
            self.last = seen.ids
            if (update <= 20 or update % 10 == 0) and len(self.runs) < 500_000:
                for row in rows.lists():
                    self.runs.update(set(runs(row)))

    # --- generating ---

    def generated(self, model, inputs, mask, found):
        if not isinstance(inputs, torch.Tensor) or inputs.ndim != 2:
            return
        decoder = not getattr(getattr(model, "config", None), "is_encoder_decoder", False)
        pad = getattr(self.doctor.tokenizer, "pad_token_id", None)
        right = (
            (mask[:, -1] == 0)
            if isinstance(mask, torch.Tensor) and mask.shape == inputs.shape
            else (inputs[:, -1] == pad)
            if pad is not None
            else torch.zeros(1, dtype=torch.bool)
        )
        if decoder and inputs.size(0) > 1 and bool(right.any()):
            yield Finding(
                "right-padded-generation",
                "certain",
                "Prompts of a batch are padded on the right: the model continues after padding.",
                f"{int(right.sum())} of {inputs.size(0)} prompts end in padding",
                [("tokenizer.padding_side is 'right'", 0.95)],
                "padding_side='left' when generating",
                self.doctor.updates,
            )
        if isinstance(found, torch.Tensor) and self.runs:
            for row in found[:, inputs.size(1) :].tolist():
                pieces = list(runs(row))
                self.said += bool(pieces)
                self.copied += bool(pieces) and sum(
                    piece in self.runs for piece in pieces
                ) > 0.5 * len(pieces)
            if self.copied >= 2 and self.copied > 0.5 * self.said:
                yield Finding(
                    "copied-output",
                    "warning",
                    "What the model writes is copied from what it was trained on.",
                    f"{self.copied} of {self.said} texts consist mostly of {COPY} and more tokens in a row from the training data",
                    [("too many passes over too little text", 0.9)],
                    "stop earlier, more text; look for copies before sharing the model",
                    self.doctor.updates,
                )

    # --- saving ---

    def saved(self, model, folder, state):
        """Keep the model's logits on a row, as they are now: it may be trained on. Weights of another kind, an average for example, are not compared."""
        other = any(
            name in state and not torch.equal(state[name].to(p), p)
            for name, p in model.named_parameters()
        )
        ids = self.last[:1] if self.last is not None and not other else None
        self.folders[os.path.abspath(folder)] = (model, ids, ids is not None and logits(model, ids))

    def ended(self):
        latest, self.folders = list(self.folders.items())[-2:], {}
        for folder, (model, ids, before) in latest:
            folder = (
                folder if os.path.isdir(folder) else os.path.splitext(folder)[0]
            )  # written beside, then moved to its place
            if not os.path.isdir(folder) or self.doctor.rank:
                continue
            names = os.listdir(folder)
            inside = any(
                name.startswith("tokenizer") or name in ("vocab.json", "spiece.model")
                for name in names
            ) or any(Path(folder).parent.glob("tokenizer*/tokenizer*"))
            final = folder == latest[-1][0] or folder == os.path.splitext(latest[-1][0])[0]
            if final and self.doctor.tokenizer is not None and self.last is not None and not inside:
                yield Finding(
                    "saved-without-tokenizer",
                    "certain",
                    "The folder of the model holds no tokenizer: nobody can use it without guessing.",
                    f"{folder}: {', '.join(sorted(names)[:6])}",
                    [("only model.save_pretrained was called", 0.95)],
                    "tokenizer.save_pretrained into the same folder",
                    self.doctor.updates,
                )
            yield from self.reloaded(folder, model, names, ids, before)

    def reloaded(self, folder, model, names, ids, before):
        """Load what was saved, and compare its logits with those that the model had when it was saved."""
        if (
            before is None
            or ids is None
            or "config.json" not in names
            or os.environ.get("WORLD_SIZE", "1") != "1"
        ):
            return
        from transformers.utils import logging

        level = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            with torch.random.fork_rng([]):
                again = (
                    type(model)
                    .from_pretrained(folder, dtype=next(model.parameters()).dtype)
                    .to(next(model.parameters()).device)
                )
        except (OSError, ValueError) as error:
            yield Finding(
                "reload-differs",
                "certain",
                "The saved folder cannot be loaded again.",
                f"{folder}: {error!r}"[:300],
                [("files are missing or damaged", 0.9)],
                "save with save_pretrained, and load it once before you rely on it",
                self.doctor.updates,
            )
            return
        finally:
            logging.set_verbosity(level)
        gap = (before - logits(again, ids)).abs().max().item()
        mine, theirs = dict(model.named_parameters()), dict(again.named_parameters())
        differ = [
            name
            for name in mine
            if name in theirs
            and (
                mine[name].shape != theirs[name].shape
                or not torch.allclose(mine[name].float(), theirs[name].float(), atol=1e-5)
            )
        ]
        if (
            gap > (1e-3 if differ else 0.05) * before.abs().max().item()
        ):  # equal weights: one of the two may calculate in 16 bits
            yield Finding(
                "reload-differs",
                "certain",
                "The model that was saved is not the one that was trained: loaded again it gives other logits.",
                f"{folder}: logits differ by up to {gap:.2g}"
                + (
                    f"; weights differ in {', '.join(differ[:4])}"
                    if differ
                    else "; the weights are equal"
                ),
                [
                    ("it was saved before training was over", 0.4),
                    ("wrong names, tied weights, or weights left in a wrapper", 0.4),
                    ("another model was saved", 0.2),
                ],
                "unwrap the model, save after the last update, load once and compare",
                self.doctor.updates,
            )


def runs(row):
    """Yield hashes of some runs of a row's tokens; which ones depends on the tokens alone."""
    for i in range(len(row) - COPY + 1):
        if row[i] % 4 == row[i + 1] % 4:
            yield hash(tuple(row[i : i + COPY]))


def logits(model, ids):
    """Return the model's logits for a row, or None if it gives none for token ids alone (an encoder-decoder, a model of one's own)."""
    with no_trace(model):
        try:
            return model(input_ids=ids).logits.float()
        except (TypeError, AttributeError, ValueError):
            return None
