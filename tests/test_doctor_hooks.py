"""The doctor hears what a program does, however it is written: what it misses, it cannot check."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.functional import cross_entropy as bound_before

from handrail import Doctor
from handrail.doctor.token_rows import rows_of

V, T, B = 40, 24, 4


class Body(torch.nn.Module):
    """A causal model without its head."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(V, 16)
        self.rnn = torch.nn.GRU(16, 16, batch_first=True)

    def forward(self, x):
        return self.rnn(self.embed(x))[0]


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.lm_head = Body(), torch.nn.Linear(16, V, bias=False)

    def forward(self, x, targets=None):
        scores = self.lm_head(self.body(x))
        if targets is None:
            return scores
        return scores, F.cross_entropy(scores.flatten(0, 1), targets.flatten())


class Fused(torch.autograd.Function):
    """A loss of hidden states, a weight and targets; its gradients are made in the forward."""

    @staticmethod
    def forward(context, hidden, weight, targets, ignore):
        with torch.enable_grad():
            hidden, weight = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
            loss = torch._C._nn.cross_entropy_loss(hidden @ weight.T, targets, None, 1, ignore, 0.0)
            made = torch.autograd.grad(loss, [hidden, weight])
        context.save_for_backward(*made)
        return loss.detach(), None

    @staticmethod
    def backward(context, gradient, _):
        hidden, weight = context.saved_tensors
        return hidden * gradient, weight * gradient, None, None


def picked(scores, y, mask):
    chosen = scores.log_softmax(-1).gather(-1, y.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return -(chosen * mask).sum() / mask.sum()


def in_pieces(model, x, y):
    hidden = model.body(x)
    parts = zip(hidden.chunk(3, 1), y.chunk(3, 1), strict=True)
    losses = [
        F.cross_entropy(model.lm_head(h).flatten(0, 1), t.flatten(), reduction="sum")
        for h, t in parts
    ]
    return sum(losses) / (y != -100).sum()


def each(scores, y, mask):
    losses = F.cross_entropy(scores.flatten(0, 1), y.clamp(min=0).flatten(), reduction="none")
    return (losses * mask.flatten()).sum() / mask.sum()


def log_of_probabilities(scores, y, mask):
    flat, y = scores.flatten(0, 1), y.flatten()
    probabilities = flat.softmax(-1)[torch.arange(len(y)), y.clamp(min=0)]
    return -(probabilities.log() * mask.flatten()).sum() / mask.sum()


def lse(scores, y, mask):
    chosen = scores.gather(-1, y.clamp(min=0)[..., None]).squeeze(-1)
    return ((scores.logsumexp(-1) - chosen) * mask).sum() / mask.sum()


WAYS = {  # how a loss is computed, of a model, rows, targets, and which targets count
    "in the model": lambda m, x, y, k: m(x, y)[1],
    "a head apart": lambda m, x, y, k: F.cross_entropy(
        m.lm_head(m.body(x)).flatten(0, 1), y.flatten()
    ),
    "a head apart, from a view": lambda m, x, y, k: F.cross_entropy(
        m.lm_head(m.body(x)[:, :]).transpose(1, 2), y
    ),
    "a weight apart": lambda m, x, y, k: F.cross_entropy(
        (m.body(x) @ m.lm_head.weight.T).flatten(0, 1), y.flatten()
    ),
    "forward by its name": lambda m, x, y, k: m.forward(x, y)[1],
    "a fused function": lambda m, x, y, k: Fused.apply(
        m.body(x).flatten(0, 1), m.lm_head.weight, y.flatten(), -100
    )[0],
    "nll_loss": lambda m, x, y, k: F.nll_loss(m(x).log_softmax(-1).flatten(0, 1), y.flatten()),
    "a name of its own": lambda m, x, y, k: bound_before(m(x).flatten(0, 1), y.flatten()),
    "each token": lambda m, x, y, k: each(m(x), y, k),
    "picked": lambda m, x, y, k: picked(m(x), y, k),
    "logsumexp": lambda m, x, y, k: lse(m(x), y, k),
    "log of probabilities": lambda m, x, y, k: log_of_probabilities(m(x), y, k),
    "in pieces": lambda m, x, y, k: in_pieces(m, x, y),
}
if hasattr(F, "linear_cross_entropy"):
    WAYS["linear_cross_entropy"] = lambda m, x, y, k: F.linear_cross_entropy(
        m.body(x).flatten(0, 1), m.lm_head.weight, y.flatten()
    )
    WAYS["linear_cross_entropy, in pieces"] = lambda m, x, y, k: F.linear_cross_entropy(
        m.body(x).flatten(0, 1),
        m.lm_head.weight,
        y.flatten(),
        options=torch.nn.LinearCrossEntropyOptions(),
    )


@pytest.fixture
def listening():
    """Doctors made in a test leave nothing behind in this process."""
    made = []
    yield lambda *args, **kwargs: made.append(Doctor(*args, **kwargs)) or made[-1]
    for doctor in made:
        doctor.close()


def train(way, ahead, updates=5):
    """Train on targets so many places ahead, a third of them left out; return the weights."""
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(updates):
        rows = torch.randint(0, V, (B, T + 2))
        x, y = rows[:, :T], rows[:, ahead : T + ahead].clone()
        mask = (torch.arange(T) >= T // 3).expand(B, T).float()
        y[:, : T // 3] = -100
        way(model, x, y, mask).backward()
        optimizer.step()
        optimizer.zero_grad()
    return [p.detach() for p in model.parameters()]


class Kept:
    """A probe that keeps what it is shown."""

    def __init__(self):
        self.passes = []

    def passed(self, seen):
        self.passes.append(seen)


@pytest.mark.parametrize("way", WAYS)
def test_a_loss_over_tokens_is_heard_however_it_is_computed(listening, way):
    """Targets two places ahead are named, right ones are not, no bit is changed by listening."""
    alone = train(WAYS[way], 1)
    doctor = listening()
    doctor.probes.append(kept := Kept())
    heard = train(WAYS[way], 1)
    trained = rows_of(next(seen for seen in kept.passes if seen.ids is not None)).trained
    assert not trained[:, : T // 3 + 1].any() and trained[:, T // 3 + 1 :].all()
    assert not doctor.findings and not doctor.left_out, doctor.report()
    assert all(map(torch.equal, alone, heard))
    doctor.close()
    doctor = listening()
    train(WAYS[way], 2)
    assert [f.name for f in doctor.findings] == ["labels-shifted-twice"], doctor.report()
    assert type(doctor.trained) in (Model, Body)
