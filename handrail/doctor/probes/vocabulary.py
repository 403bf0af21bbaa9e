"""Does the tokenizer belong to the model, does it know what is learned, can new tokens learn?"""

import torch

from ..findings import finding
from ..token_rows import answers_of, rows_of

LOOKED_AT = 24  # updates
FEW = 8  # targets that have to be looked at
UNKNOWN = 0.5  # of the targets
EMBEDDINGS = ("embed", "wte", "token_adapter")  # parts of the names of their weights


class Vocabulary:
    """Compares the size of the embedding with the tokenizer's, and the rows with what is frozen."""

    def __init__(self, doctor):
        self.doctor, self.looks = doctor, 0
        self.words = None  # rows of the embedding before it grew

    def resized(self, before, after):
        self.words = before if after > before else self.words

    def lost(self, seen):
        yield from self.compared(seen)

    def passed(self, seen):
        yield from self.compared(seen)

    def compared(self, seen):
        """Before the model falls over such ids (or, on a GPU, reads past the end of the table)."""
        doctor, tokenizer, table = self.doctor, self.doctor.used, table_of(seen.module)
        if tokenizer is None or seen.ids is None or self.looks > 2:
            return
        if table is None or not hasattr(table, "weight"):
            return
        sizes = {"rows": table.weight.size(0), "words": len(tokenizer)}
        rows, words = sizes["rows"], sizes["words"]
        if any(len(known) == rows for known in doctor.tokenizers):
            return  # one of two tokenizers, as in a translation
        kind = type(tokenizer).__name__
        if rows > 1.2 * words + 128 and doctor.updates == 0:
            evidence = f"{type(table).__name__} with {rows:,} rows; the tokenizer is a {kind}"
            yield finding("vocabulary-mismatch/unused", evidence, **sizes)
        if words > rows:
            added = [word for word, i in tokenizer.get_added_vocab().items() if i >= rows]
            evidence = f"ids from {rows:,} on have no row: {added[:5] or kind}"
            name = "new-tokens-untrained/not-resized" if added else "vocabulary-mismatch"
            yield finding(name, evidence, **sizes)

    def after_step(self, optimizer):
        if self.doctor.now.age > LOOKED_AT:
            return
        for seen in self.doctor.now.passes:
            rows = rows_of(seen)
            self.looks += rows is not None
            yield from self.unknown(answers_of(seen) or rows)
            if rows is not None and not answers_of(seen):
                yield from self.frozen(rows)

    def unknown(self, rows):
        """Most of what is to be written is the unknown token."""
        doctor = self.doctor
        unknown = {getattr(known, "unk_token_id", None) for known in doctor.tokenizers}
        if rows is None or rows.targets is None or len(unknown) != 1 or None in unknown:
            return
        ends = doctor.ends() | {doctor.tokenizer.pad_token_id, -1} - {None}
        if unknown <= ends or rows.ahead not in (0, 1, 2):
            return
        told = rows.targets[~torch.isin(rows.targets, torch.tensor(sorted(ends)))]
        number = int((told == unknown.pop()).sum())
        if len(told) >= FEW and number > UNKNOWN * len(told):
            evidence = f"{number} of {len(told)} targets are {doctor.tokenizer.unk_token!r}"
            yield finding("text-lost-in-tokens/targets", evidence, doctor.updates)

    def frozen(self, rows):
        """Tokens that were added, are in the rows, and cannot learn."""
        model = self.doctor.trained
        if model is None or any(
            p.requires_grad and any(part in name for part in EMBEDDINGS)
            for name, p in model.named_parameters()
        ):
            return
        if self.words:
            new = [i for i in rows.ids.unique().tolist() if i >= self.words]
            grew = f"the embedding grew from {self.words:,} rows"
        else:
            new = like_new(table_of(model), rows)
            grew = "their rows are the mean of all rows, as resize_token_embeddings makes them"
        if new:
            evidence = (
                f"{grew}; {self.doctor.decode(new[:5])} are read, and no embedding is trained"
            )
            yield finding("new-tokens-untrained", evidence, self.doctor.updates)


def like_new(table, rows):
    """Return the ids that were read whose embedding is still the mean of all, as when added."""
    weight = getattr(table, "weight", None)
    if weight is None or weight.ndim != 2:
        return []
    ids = rows.ids[rows.real].unique()
    read = weight[ids.clamp(max=len(weight) - 1).to(weight.device)].float()
    far = (read - weight.float().mean(0)).norm(dim=1)
    padding = ~read.any(1)  # its row is 0
    return ids[((far < 0.1 * far.median()) & ~padding).cpu()].tolist()


def table_of(model):
    """Return a model's embedding of tokens, or None if it does not say."""
    try:
        return model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
