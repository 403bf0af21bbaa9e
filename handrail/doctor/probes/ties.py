"""Are the word vectors and the head, where they are meant to be one matrix, still one?"""

import torch

from ..findings import finding

AT = 20  # the update at which those that began alike are compared again


class Ties:
    """Compares embeddings and heads of one shape before the first update, and later."""

    def __init__(self, doctor):
        self.doctor, self.alike = doctor, None

    def before_step(self, optimizer):
        model, number = self.doctor.trained, self.doctor.now.number
        if self.alike is None and model is not None and number == 1:
            self.alike = [pair for pair in pairs(model) if same(*pair[:2])]
        if number == 2 and model is not None:
            yield from self.configured(model)

    def after_step(self, optimizer):
        if self.doctor.updates != AT:
            return
        for embedding, head, names in self.alike or ():
            if not same(embedding, head):
                gap = (embedding - head).abs().max().item()
                evidence = (
                    f"{names}: equal before the first update, now up to {gap:.2g} apart; each has "
                    "a gradient of its own"
                )
                yield finding("tied-weights-apart/equal-at-first", evidence, AT)

    def configured(self, model):
        """Transformers: the configuration says that they are one."""
        config = getattr(model, "config", None)
        if not getattr(config, "tie_word_embeddings", False) or not hasattr(model, "tie_weights"):
            return
        one, other = model.get_input_embeddings(), model.get_output_embeddings()
        one, other = getattr(one, "weight", None), getattr(other, "weight", None)
        if one is None or other is None or one is other or one.shape != other.shape:
            return
        if one.data_ptr() != other.data_ptr() and one.requires_grad and other.requires_grad:
            evidence = "tie_word_embeddings is true, and the two matrices are two tensors"
            yield finding("tied-weights-apart", evidence, 2)


def pairs(model):
    """Yield (embedding matrix, head matrix, their names) that have one shape and are two."""
    tables = {torch.nn.Embedding: [], torch.nn.Linear: []}
    for name, module in model.named_modules():
        if type(module) in tables and module.weight.requires_grad:
            tables[type(module)].append((name, module.weight))
    for name, embedding in tables[torch.nn.Embedding]:
        for other, head in tables[torch.nn.Linear]:
            if embedding is not head and embedding.shape == head.shape:
                yield embedding, head, f"{name} and {other}"


def same(one, other):
    return one.data_ptr() == other.data_ptr() or torch.equal(one.detach(), other.detach())
