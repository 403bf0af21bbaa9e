"""Inputs, targets and tokens that do not belong together: the loss falls, little is learned."""

import random

import pytest
import torch
import torch.nn.functional as F

from handrail import Doctor

V, T, B = 48, 32, 16


@pytest.fixture
def listening():
    """Doctors made in a test leave nothing behind in this process."""
    made = []
    yield lambda *args, **kwargs: made.append(Doctor(*args, **kwargs)) or made[-1]
    for doctor in made:
        doctor.close()


class Reads(torch.nn.Module):
    """A causal model: a token and the one before it."""

    def __init__(self):
        super().__init__()
        self.embed, self.before = torch.nn.Embedding(V, 32), torch.nn.Embedding(V, 32)
        self.inner, self.head = torch.nn.Linear(32, 64), torch.nn.Linear(64, V)

    def forward(self, ids):
        before = F.pad(self.before(ids)[:, :-1], (0, 0, 1, 0))
        return self.head(self.inner(self.embed(ids) + before).relu())


def chain(length):
    """Return a text in which some tokens are frequent, and each depends on the one before it."""
    rng = random.Random(0)
    follow = [[rng.randrange(int(V * rng.random()) + 1) for _ in range(3)] for _ in range(V)]
    text = [0]
    while len(text) < length:
        text.append(rng.choice(follow[text[-1]]) if rng.random() < 0.9 else rng.randrange(V))
    return torch.tensor(text)


RUNS = {  # how a run is made: what should be said of it
    "right": set(),
    "view for transpose": {"view-for-transpose"},
    "a transpose": set(),
    "shuffled apart": {"inputs-and-targets-apart"},
    "inputs of no meaning": {"only-frequencies-learned"},
    "young": set(),
}


@pytest.mark.parametrize("how", RUNS)
def test_targets_that_do_not_belong_to_their_inputs(listening, how):
    """A view that mixes places and classes, rows shuffled apart, inputs that say nothing: named.

    The right way next to each is not, nor is a run that has only just begun.
    """
    torch.manual_seed(0)
    text = chain(60_000)
    x, y = text[:-1][: 1800 * T].view(-1, T), text[1:][: 1800 * T].view(-1, T)
    places = torch.randperm(len(x))
    x, y = x[places], y[places if how != "shuffled apart" else torch.randperm(len(y))]
    if how == "inputs of no meaning":
        x = torch.randint(0, V, x.shape)
    model, doctor = Reads(), listening()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for step in range(10 if how == "young" else 110):
        rows, targets = x[step * B : step * B + B], y[step * B : step * B + B]
        scores = model(rows)
        if how == "view for transpose":
            loss = F.cross_entropy(scores.view(B, V, T), targets)
        elif how == "a transpose":
            loss = F.cross_entropy(scores.transpose(1, 2), targets)
        else:
            loss = F.cross_entropy(scores.flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    doctor.close()
    names = {found.name for found in doctor.findings}
    assert names == RUNS[how] and not doctor.left_out, doctor.report()


@pytest.mark.parametrize("way, named", [("causal", True), ("both ways", False), ("no mask", False)])
def test_masked_labels_on_a_model_that_reads_one_way(listening, way, named):
    """The default collator masks 15 % of the tokens; a causal model then learns from hardly any.

    A model that reads both ways is trained so on purpose, even where it predicts one place later.
    """
    torch.manual_seed(0)
    model, doctor, mask = Reads(), listening(), V - 1
    if way == "both ways":
        model.embed.register_forward_hook(lambda _, args, output: output + output.mean(1, True))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    text = chain(20_000).clamp(max=V - 2)
    for step in range(8):
        rows = text[step * B * T : (step + 1) * B * T].view(B, T)
        chosen = torch.rand(rows.shape) < 0.15
        hidden = chosen & (torch.rand(rows.shape) < 0.8) & torch.tensor(way != "no mask")
        scores = model(rows.where(~hidden, mask))
        labels = rows.where(chosen, -100)
        loss = F.cross_entropy(scores[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    doctor.close()
    names = {found.name for found in doctor.findings}
    assert names == ({"masked-labels-on-causal-model"} if named else set()), doctor.report()


def tokenizer_of(kind):
    """Return a tokenizer trained on English: with bytes, an unknown token, or neither."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    unknown = "<unk>" if "unknown" in kind else None
    raw = Tokenizer(models.BPE(unk_token=unknown))
    alphabet = []
    if kind == "bytes":
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder, alphabet = decoders.ByteLevel(), pre_tokenizers.ByteLevel.alphabet()
    else:
        raw.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind == "small letters":
        raw.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
        raw.normalizer = normalizers.Sequence([raw.normalizer, normalizers.Lowercase()])
    words = "the quick brown fox jumps over the lazy dog THE QUICK BROWN FOX JUMPS OVER A LAZY DOG"
    special = [unknown] if unknown else ["<end>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator([words] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token=unknown)


@pytest.mark.parametrize(
    "kind, text, named",
    [
        ("neither", "the quick fox, капитан, jumps ", True),
        ("neither", "the quick brown fox\njumps ", False),
        ("bytes", "the quick fox, капитан à midi, jumps ", False),
        ("small letters", "The Quick fox jumps à déjà vu ", False),
        ("an unknown token", "the quick fox й jumps over the lazy dog over and over ", False),
        ("an unknown token", "капитан ", True),
    ],
)
def test_text_that_is_lost_on_the_way_to_tokens(listening, kind, text, named):
    """Letters that vanish without a trace, or a text that is unknown for the most part: named."""
    doctor, tokenizer = listening(), tokenizer_of(kind)
    for _ in range(4):
        tokenizer([text * 20, text * 9], truncation=True, max_length=20)
        assert tokenizer.backend_tokenizer.truncation["max_length"] == 20  # as the program left it
    tokenizer.encode(text)
    names = {found.name for found in doctor.findings}
    assert names == ({"text-lost-in-tokens"} if named else set()), doctor.report()


def test_what_was_not_heard_is_said(listening):
    """A loss that is no loss over tokens: the report says that labels were not checked."""
    torch.manual_seed(0)
    model, doctor = Reads(), listening()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(3):
        model(torch.randint(0, V, (4, 12))).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    doctor.close()
    assert "labels were not checked" in doctor.report()
