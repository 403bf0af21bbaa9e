"""The doctor's newer mechanisms: each names a tiny training that is broken, and not its twin."""

import copy
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from handrail import Doctor
from handrail.doctor.watch import watch


@pytest.fixture
def found():
    """Run a training under a doctor; return {name: level} of what it found."""
    made = []

    def watch(train, *args):
        torch.manual_seed(0)
        doctor = Doctor()
        made.append(doctor)
        train(*args)
        doctor.close()
        assert not [reason for reason in doctor.left_out if "failed" in reason], doctor.left_out
        return {finding.name: finding.level for finding in doctor.findings}

    yield watch
    for doctor in made:
        doctor.close()


class Reader(nn.Module):
    """Reads a row of numbers with a GRU, and says which of three classes it is of."""

    def __init__(self, batch_first):
        super().__init__()
        self.gru = nn.GRU(4, 16, batch_first=batch_first)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1])


class Writer(nn.Module):
    """A language model whose attention runs over the places of a row, or over the rows."""

    def __init__(self, batch_first):
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=batch_first)
        self.head = nn.Linear(16, 20)
        self.batch_first = batch_first

    def forward(self, ids):
        x = self.embedding(ids)
        size = x.size(1 if self.batch_first else 0)
        mask = nn.Transformer.generate_square_subsequent_mask(size)
        return self.head(x + self.attention(x, x, x, attn_mask=mask)[0])


def classify(model, rows, updates=24, optimizer=None, after=lambda step: None):
    """Train a model on rows of classes that differ in their mean."""
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), 1e-2)
    for step in range(updates):
        labels = torch.randint(0, 3, (12,))
        x = rows(labels)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
        after(step)


def sequences(labels):
    return torch.randn(len(labels), 7, 4) + labels[:, None, None]


def columns(labels):
    return torch.randn(len(labels), 4) + labels[:, None]


def dense(*layers):
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), *layers, nn.Linear(16, 3))


@pytest.mark.parametrize("right", [True, False])
def test_rows_of_a_batch_that_see_each_other(found, right):
    """batch_first forgotten runs without an error and mixes strangers: named; its twin is quiet."""
    said = found(classify, Reader(right), sequences)
    assert said == ({} if right else {"rows-see-each-other": "warning"})
    normal = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    assert not found(classify, normal, columns)


@pytest.mark.parametrize("right", [True, False])
def test_rows_of_a_language_model_that_see_each_other(found, right):
    """In a language model it is certain: a row's next token is no business of the other rows."""

    def train():
        model = Writer(right)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(4):
            ids = (torch.randint(0, 20, (6, 1)) + torch.arange(12) * 3) % 20
            logits = model(ids[:, :-1])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    said = found(train)
    assert said.get("rows-see-each-other") == (None if right else "certain")


@pytest.mark.parametrize("right", [True, False])
def test_only_the_first_batch_is_read(found, right):
    """next(iter(loader)) in the loop: certain after twenty updates; one iterator is fine."""

    def train():
        labels = torch.arange(96) % 3
        loader = DataLoader(TensorDataset(columns(labels), labels), batch_size=12)
        model = dense()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        batches = (batch for _ in range(4) for batch in loader)
        for _ in range(24):
            x, y = next(batches) if right else next(iter(loader))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    assert found(train) == ({} if right else {"first-batch-only": "certain"})


@pytest.mark.parametrize("right", [True, False])
def test_a_best_copy_that_is_the_live_weights(found, right):
    """best = model.state_dict() is no copy: loading it at the end restores nothing."""

    def train():
        model, kept = dense(), {}

        def after(step):
            if step == 3:
                kept.update(best=copy.deepcopy(model.state_dict()) if right else model.state_dict())

        classify(model, columns, after=after)
        model.load_state_dict(kept["best"])

    assert found(train) == ({} if right else {"copy-is-live": "certain"})


@pytest.mark.parametrize("right", [True, False])
def test_an_average_that_nobody_uses(found, right):
    """An average of the weights is kept through the run and then forgotten."""

    def train():
        model = dense()
        average = torch.optim.swa_utils.AveragedModel(model)
        classify(model, columns, after=lambda step: average.update_parameters(model))
        if right:
            with torch.no_grad():
                average.eval()(columns(torch.tensor([0, 1, 2])))

    assert found(train) == ({} if right else {"average-never-used": "warning"})


@pytest.mark.parametrize("right", [True, False])
def test_a_head_that_was_copied_where_it_was_to_be_shared(found, right):
    """The head begins as a clone of the word vectors: from the first update on they are two."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(20, 16)
            self.head = nn.Linear(16, 20, bias=False)
            weight = self.embedding.weight
            weight.data *= 0.1
            self.head.weight = weight if right else nn.Parameter(weight.detach().clone())

        def forward(self, ids):
            return self.head(self.embedding(ids))

    def train():
        model = Tied()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(24):
            ids = (torch.randint(0, 20, (6, 1)) + torch.arange(12) * 3) % 20
            loss = nn.functional.cross_entropy(model(ids[:, :-1]).mT, ids[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    assert found(train) == ({} if right else {"tied-weights-apart": "warning"})


@pytest.mark.parametrize("right", [True, False])
def test_a_schedule_that_is_moved_once_an_epoch(found, right):
    """Made for all updates, stepped once an epoch: the rate never gets anywhere."""

    def train():
        model = dense()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=48)
        every = 1 if right else 12
        move = lambda step: (step + 1) % every or schedule.step()  # noqa: E731
        classify(model, columns, 48, optimizer, move)

    assert found(train) == ({} if right else {"scheduler-miscounted": "certain"})


@pytest.mark.parametrize("length, said", [(60, None), (5, "warning")])
def test_a_schedule_of_epochs_that_is_moved_with_every_update(found, length, said):
    """T_max = epochs, stepped every batch: the rate swings up and down."""

    def train():
        model = dense()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=length)
        classify(model, columns, 30, optimizer, lambda step: schedule.step())

    assert found(train).get("scheduler-miscounted") == said


@pytest.mark.parametrize("decay", [0.1, 300.0])
def test_weight_decay_that_is_stronger_than_the_gradient(found, decay):
    """A weight decay far too large only shrinks the weights: named by comparing both steps."""

    def train():
        model = dense()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=decay)
        classify(model, columns, 32, optimizer)

    assert ("weight-decay-dominates" in found(train)) == (decay > 1)


@pytest.mark.parametrize("dead", [0, 11, 14])
def test_units_that_are_dead(found, dead):
    """A layer whose units were thrown far below 0: no gradient ever reaches them again."""

    def train():
        model = dense(nn.Linear(16, 16), nn.ReLU())
        with torch.no_grad():
            model[2].bias[:dead] = -1000
        classify(model, columns, 104)

    assert found(train) == ({"dead-units": "warning"} if dead > 12 else {})


@pytest.mark.parametrize("size", [1, 255])
def test_inputs_that_were_not_scaled(found, size):
    """Pixels from 0 to 255 into a first layer: a warning; divided by 255, or normalised: none."""

    def rows(labels):
        return (torch.rand(len(labels), 4) + labels[:, None]) / 3 * size

    said = found(classify, dense(), rows)
    assert said.get("inputs-not-scaled") == ("warning" if size > 1 else None)
    normal = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))
    assert "inputs-not-scaled" not in found(classify, normal, rows)


@pytest.mark.parametrize("right", [True, False])
def test_train_and_val_measured_one_after_the_other(found, right):
    """nanoGPT's own way to evaluate is no overlap; with val in train it is one."""

    def train():
        data = torch.randint(0, 60, (1200,))
        halves = {"train": data[:1000] if right else data, "val": data[1000:]}
        model = nn.Sequential(nn.Embedding(60, 16), nn.Linear(16, 60))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

        def loss_of(half, rows):
            starts = torch.randint(0, len(halves[half]) - 33, (rows,)).tolist()
            ids = torch.stack([halves[half][start : start + 33] for start in starts])
            return nn.functional.cross_entropy(model(ids[:, :-1]).mT, ids[:, 1:])

        for step in range(61):
            if step % 20 == 0:
                with torch.no_grad():
                    [loss_of(half, 12) for half in halves for _ in range(6)]
            optimizer.zero_grad()
            loss_of("train", 16).backward()
            optimizer.step()

    said = found(train)
    assert said.get("train-val-overlap") == (None if right else "warning")
    assert "too-many-epochs" not in said or not right


def series(labels):
    """Return (B, F, T) of smooth series, as a convolution reads them."""
    return (torch.randn(len(labels), 3, 40).cumsum(2) + 3 * labels[:, None, None]) / 5


@pytest.mark.parametrize("right", [True, False])
def test_a_view_that_was_meant_to_be_a_transpose(found, right):
    """Pictures and series that are viewed into another order look alright by their shape."""
    model = nn.Sequential(nn.Conv1d(3, 8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))

    def rows(labels):
        given = series(labels).transpose(1, 2).contiguous()  # (B, T, F), as a file has them
        return given.transpose(1, 2) if right else given.view(len(labels), 3, 40)

    said = found(classify, model, rows)
    assert said.get("view-for-transpose") == (None if right else "warning"), said


@pytest.mark.parametrize("right", [True, False])
def test_an_answer_of_a_row_that_depends_on_the_other_rows(found, right):
    """With a loss on numbers, too: batch_first is missing, and one answer per row comes out."""

    class Forecaster(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(4, 8, batch_first=right), nn.Linear(8, 1)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1]).squeeze(-1)

    def train():
        model = Forecaster()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(24):
            x = torch.randn(12, 7, 4)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), x[:, :, 0].mean(1)).backward()
            optimizer.step()

    said = found(train)
    assert said.get("rows-see-each-other") == (None if right else "warning"), said


@pytest.mark.parametrize("right", [True, False])
def test_a_state_whose_names_the_model_does_not_know(found, right):
    """strict=False loads what fits, and says nothing where nothing does."""

    def train():
        model, state = nn.Sequential(nn.Linear(4, 3)), nn.Sequential(nn.Linear(4, 3)).state_dict()
        state = state if right else {f"module.{name}": value for name, value in state.items()}
        model.load_state_dict(state, strict=False)
        classify(model, columns, updates=4)

    assert found(train).get("nothing-loaded") == (None if right else "certain")


@pytest.mark.parametrize("dim, said", [(-1, None), (1, "certain")])
def test_a_teacher_whose_probabilities_are_over_the_places(found, dim, said):
    """A softmax over another dimension than the student's: each loss is a number all the same."""

    def train():
        model, teacher = nn.Linear(4, 5), nn.Linear(4, 5)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(4):
            x = torch.randn(6, 7, 4)
            wanted = teacher(x).softmax(dim).detach()
            optimizer.zero_grad()
            nn.functional.kl_div(model(x).log_softmax(-1), wanted, reduction="batchmean").backward()
            optimizer.step()

    assert found(train).get("targets-over-another-dimension") == said


@pytest.mark.parametrize("first, said", [(1, None), (0, "certain")])
def test_the_blank_of_ctc_is_no_class(found, first, said):
    """A class with the number of the blank cannot be written."""

    def train():
        model = nn.Linear(4, 6)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(4):
            scores = model(torch.randn(20, 3, 4)).log_softmax(-1)  # (T, B, C)
            targets = torch.randint(first, 6, (3, 5))
            targets[:, -1] = first
            lengths = torch.full((3,), 20), torch.full((3,), 5)
            optimizer.zero_grad()
            nn.CTCLoss()(scores, targets, *lengths).backward()
            optimizer.step()

    assert found(train).get("blank-in-targets") == said


@pytest.mark.parametrize("right", [True, False])
def test_an_optimizer_of_frozen_weights_only(found, right):
    """Backward runs, because the inputs want a gradient, and the optimizer steps: in vain."""

    def train():
        model = nn.Linear(4, 3).requires_grad_(right)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(6):
            x = torch.randn(12, 4).requires_grad_()
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), torch.randint(0, 3, (12,))).backward()
            optimizer.step()

    assert found(train).get("weights-do-not-move") == (None if right else "certain")


@pytest.mark.parametrize("right", [True, False])
def test_two_views_that_are_one(found, right):
    """Contrastive learning on pairs of equal pictures: nothing is left to recognise."""

    def train():
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(24):
            x = torch.randn(12, 8)
            a, b = x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)
            one, other = model(a), model(b if right else a)
            optimizer.zero_grad()
            nn.functional.cross_entropy(one @ other.T, torch.arange(12)).backward()
            optimizer.step()

    assert found(train).get("views-are-equal") == (None if right else "warning")


@pytest.mark.parametrize("right", [True, False])
def test_a_preference_that_is_never_learned(found, right):
    """Of two answers, chosen and rejected are mixed up at random: the loss stays at ln 2."""

    def train():
        model = nn.Linear(8, 1)
        nn.init.zeros_(model.weight)
        optimizer = torch.optim.SGD(model.parameters(), 0.05)
        for _ in range(80):
            good = torch.randn(256, 8) + (1.0 if right else 0.0)
            optimizer.zero_grad()
            gap = model(good) - model(torch.randn(256, 8))
            (-nn.functional.logsigmoid(gap)).mean().backward()
            optimizer.step()

    assert found(train).get("nothing-learned") == (None if right else "warning")


@pytest.mark.parametrize("right", [True, False])
def test_a_best_copy_that_is_saved_late(found, tmp_path, right):
    """The state was taken at the best update, and the file holds the weights of the last one."""

    def train():
        model = nn.Linear(4, 3)
        best = copy.deepcopy(model.state_dict()) if right else model.state_dict()
        classify(model, columns, updates=6)
        torch.save(best, tmp_path / "best.pt")

    assert found(train).get("copy-is-live") == (None if right else "warning")


class Cacher(nn.Module):
    """A language model that adds up what it has read, and takes the sum along as its cache."""

    def __init__(self, counts_on):
        super().__init__()
        self.embedding, self.places = nn.Embedding(20, 16), nn.Embedding(32, 16)
        self.head, self.counts_on = nn.Linear(16, 20), counts_on

    def forward(self, ids, cache=(0, 0)):
        start = cache[1] if self.counts_on else 0
        places = self.places(torch.arange(start, start + ids.size(1)))
        total = cache[0] + (self.embedding(ids) + places).cumsum(1)
        return self.head(total), (total[:, -1:], start + ids.size(1))


@pytest.mark.parametrize("drawn", [True, False])
@pytest.mark.parametrize("right", [True, False])
def test_a_cache_that_changes_what_is_said(found, right, drawn):
    """New tokens whose positions start from 0 again: certain; a right cache is quiet."""

    def write(model):
        model.eval()
        with torch.no_grad():
            logits, cache = model(torch.arange(6).repeat(6, 1))
            for _ in range(5):
                chances = logits[:, -1].softmax(-1)
                new = chances.multinomial(1) if drawn else chances.argmax(-1, keepdim=True)
                logits, cache = model(new, cache)
            model(torch.arange(6).repeat(6, 1))  # a text that is begun and left

    def train():
        model = Cacher(right)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(4):
            model.train()
            ids = (torch.randint(0, 20, (6, 1)) + torch.arange(12) * 3) % 20
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(ids[:, :-1])[0].mT, ids[:, 1:]).backward()
            optimizer.step()
            write(model)  # a sample after each update

    assert found(train).get("cache-differs") == (None if right else "certain")


class Recurrent(nn.Module):
    """Reads from left to right."""

    def __init__(self):
        super().__init__()
        self.embedding, self.gru = nn.Embedding(20, 16), nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(16, 20)

    def forward(self, ids):
        return self.head(self.gru(self.embedding(ids))[0])


@pytest.mark.parametrize("shifted", [True, False])
def test_a_policy_whose_tokens_are_picked_where_they_are_read(found, shifted):
    """A reward times the log-probability of the token that is read, not of the one that follows:
    certain, in a second training too.
    """

    def train():
        model = Recurrent()
        for rewards in (False, True):
            optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
            for _ in range(30):
                ids = torch.randint(0, 20, (6, 10))
                logits, picked = model(ids), ids
                if shifted or not rewards:
                    logits, picked = logits[:, :-1], ids[:, 1:]
                chances = logits.log_softmax(-1).gather(-1, picked.unsqueeze(-1)).squeeze(-1)
                each = torch.randn(6, 1) if rewards else 1
                optimizer.zero_grad()
                (-(each * chances)).mean().backward()
                optimizer.step()

    assert found(train).get("labels-not-shifted") == (None if shifted else "certain")


@pytest.mark.parametrize("how", ["resumed", "per epoch"])
def test_a_schedule_that_is_made_anew_by_a_resume(found, how):
    """Two halves of a run in one process: each moves its schedule half of the way, and both all
    of it. Moved once per epoch, it hardly moves.
    """

    def train():
        model = nn.Linear(4, 3)
        for start in (0, 20):
            optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=40)
            if start and how == "resumed":
                schedule.last_epoch = start
            for step in range(20):
                optimizer.zero_grad()
                targets = torch.randint(0, 3, (8,))
                nn.functional.cross_entropy(model(torch.randn(8, 4)), targets).backward()
                optimizer.step()
                if how == "resumed" or step % 10 == 9:
                    schedule.step()

    named = {"resumed": None, "per epoch": "certain"}
    assert found(train).get("scheduler-miscounted") == named[how]


@pytest.mark.parametrize("how", ["view", "permute", "noise"])
def test_pictures_whose_channels_were_moved_by_view(found, how):
    """NumPy's pictures are (H, W, 3); a view makes three mixed channels of them. Pictures are
    smooth: what alternates along their rows is colours. Noise says nothing.
    """

    def train():
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 100, 5))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        for _ in range(22):
            small = torch.rand(8, 3, 3, 3)
            pictures = nn.functional.interpolate(small, 12, mode="bilinear").permute(0, 2, 3, 1)
            pictures = torch.rand(8, 12, 12, 3) if how == "noise" else pictures.contiguous()
            moved = pictures.permute(0, 3, 1, 2).contiguous()
            given = moved if how == "permute" else pictures.view(8, 3, 12, 12)
            nn.functional.cross_entropy(model(given), torch.randint(0, 5, (8,))).backward()
            optimizer.step()
            optimizer.zero_grad()

    named = {"view": "warning", "permute": None, "noise": None}
    assert found(train).get("view-for-transpose") == named[how]


def test_single_tokens_that_continue_nothing(found):
    """A model that keeps its state in itself, and rows of one token that are texts of their own."""

    class Stateful(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.gru = nn.Embedding(20, 16), nn.GRU(16, 16, batch_first=True)
            self.head, self.state = nn.Linear(16, 20), None

        def forward(self, ids):
            out, self.state = self.gru(self.embedding(ids), self.state)
            self.state = self.state.detach()
            return self.head(out)

    def train(model):
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(3):
            ids = torch.randint(0, 20, (6, 8))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(ids).mT, ids).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for ids in (torch.randint(0, 20, (6, width)) for width in (4, 1, 1, 1, 1, 1)):
                model(ids)

    assert "cache-differs" not in found(train, Stateful())
    alone = nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 20))
    assert "cache-differs" not in found(train, alone)


@pytest.mark.parametrize("how, said", [("cut", "certain"), ("whole", None), ("packed", None)])
def test_answers_that_are_all_cut_at_one_length(found, how, said):
    """All rows are as long as the maximum, and only a few still end: their ends were cut off."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    def row():
        size = 3 if how == "whole" else int(torch.randint(3, 9, ()))
        question, answer = torch.randint(9, 40, (size,)), torch.randint(9, 40, (6,))
        return [(t, 0) for t in question.tolist()] + [(t, 1) for t in [*answer.tolist(), 2]]

    def train():
        words = {"<eos>" if i == 2 else f"w{i}": i for i in range(40)}
        core = Tokenizer(models.WordLevel(words, unk_token="w0"))
        PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>")
        rows = [row() for _ in range(60)]
        if how == "packed":
            text = [pair for one in rows for pair in one]
            rows = [text[i : i + 10] for i in range(0, 600, 10)]
        rows = torch.tensor([one[:10] for one in rows])
        model = nn.Sequential(nn.Embedding(40, 16), nn.Linear(16, 40))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for batch in rows.split(20):
            ids, learned = batch.unbind(-1)
            labels = ids.where(learned > 0, -100)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(ids)[:, :-1].mT, labels[:, 1:]).backward()
            optimizer.step()

    assert found(train).get("answer-truncated") == said


@pytest.mark.parametrize("size, said", [(6, None), (20, "warning")])
def test_prompts_longer_than_all_that_was_trained(found, size, said):
    """Where long rows were cut or dropped, the model is asked later with longer ones."""
    from transformers import LlamaConfig, LlamaForCausalLM

    def train():
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
        config = LlamaConfig(vocab_size=40, num_attention_heads=2, eos_token_id=2, **sizes)
        model = LlamaForCausalLM(config)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        for _ in range(3):
            ids = torch.randint(9, 40, (4, 12))
            optimizer.zero_grad()
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
        ids = torch.randint(9, 40, (3, size))
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=2)

    assert found(train).get("answer-truncated") == said


@pytest.mark.parametrize("how", ["detached", "cleared", "mixed", "every second"])
def test_gradients_of_the_other_ones_loss(found, how):
    """A GAN's fakes that are not detached: the generator also learns from the other's loss."""

    def train():
        maker, judge = nn.Linear(4, 3), nn.Linear(3, 1)
        of_maker = torch.optim.SGD(maker.parameters(), 0.01)
        of_judge = torch.optim.SGD(judge.parameters(), 0.01)
        for step in range(12):
            if how != "every second" or step % 2 == 0:
                of_maker.zero_grad()
            of_judge.zero_grad()
            fake = maker(torch.randn(12, 4))
            if how == "every second":  # a slower one, on purpose
                judge(fake).square().mean().backward()
                of_judge.step()
                if step % 2:
                    of_maker.step()
                continue
            seen = fake.detach() if how == "detached" else fake
            (judge(seen).mean() - judge(torch.randn(12, 3)).mean()).backward()
            of_judge.step()
            if how == "cleared":
                of_maker.zero_grad()
            (-judge(maker(torch.randn(12, 4))).mean()).backward()
            of_maker.step()

    assert found(train).get("gradients-of-another-loss") == ("warning" if how == "mixed" else None)


@pytest.mark.parametrize("kind", [torch.int64, torch.float16])
def test_ids_that_went_through_16_bits(found, kind):
    """A table of ids kept as float16: neighbours above 2048 are one from then on."""

    def train():
        model = nn.Sequential(nn.Embedding(6100, 4), nn.Linear(4, 3))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(3):
            ids = torch.randint(0, 6000, (900,)).to(kind).long()
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(ids), ids % 3).backward()
            optimizer.step()

    said = found(train).get("ids-rounded")
    assert said == (None if kind is torch.int64 else "certain")


def test_rows_that_are_read_twice_are_no_views(found):
    """A policy and a value, or two tasks of one model, read the same rows: nobody compares them."""

    def two_models():
        policy, value = nn.Linear(8, 4), nn.Linear(8, 1)
        optimizer = torch.optim.AdamW([*policy.parameters(), *value.parameters()], 1e-2)
        for _ in range(24):
            x = torch.randn(12, 8)
            chosen = torch.distributions.Categorical(logits=policy(x)).log_prob(
                torch.arange(12) % 4
            )
            optimizer.zero_grad()
            ((value(x)[:, 0] - x[:, 0]) ** 2 - 0.1 * chosen).mean().backward()
            optimizer.step()

    def two_tasks():
        model = dense()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(24):
            labels = torch.randint(0, 3, (12,))
            x = columns(labels)
            optimizer.zero_grad()
            (nn.functional.cross_entropy(model(x), labels) + model(x).square().mean()).backward()
            optimizer.step()

    for train in (two_models, two_tasks):
        assert "views-are-equal" not in found(train)


@pytest.mark.parametrize("right", [True, False])
def test_a_head_that_is_added_after_the_optimizer_was_made(found, right):
    """A layer that comes later gets gradients, and no optimizer has it."""

    def train():
        model = dense()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        classify(model, columns, 12, optimizer)
        model.append(nn.Linear(3, 3))
        if right:
            optimizer.add_param_group({"params": model[-1].parameters()})
        classify(model, columns, 12, optimizer)

    assert found(train) == ({} if right else {"no-gradient": "warning"})


@pytest.mark.parametrize("right", [True, False])
def test_a_new_head_that_is_frozen(found, right):
    """Frozen with the weights that were loaded, a new head stays random, as with LoRA."""

    def train():
        known, body = (nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 16)) for _ in "ab")
        body.load_state_dict(known.state_dict())
        model = nn.Sequential(body.requires_grad_(False), nn.Linear(16, 16), nn.Linear(16, 3))
        model[2].requires_grad_(right)
        learning = [p for p in model.parameters() if p.requires_grad]
        classify(model, columns, 12, torch.optim.AdamW(learning, 1e-2))

    assert found(train) == ({} if right else {"no-gradient": "warning"})


@pytest.mark.parametrize("seed, said", [(0, "warning"), (None, None)])
def test_a_seed_in_the_loop(found, seed, said):
    """Seeded alike before each update, all that is drawn comes again; another seed is fine."""

    def train():
        step = iter(range(1000))

        def rows(labels):
            torch.manual_seed(next(step) if seed is None else seed)
            return columns(labels)

        classify(dense(), rows)

    assert found(train).get("same-random-numbers") == said


def test_a_seed_in_a_loop_that_draws_nothing(found):
    """Without a number drawn there is nothing that could come again."""

    def train():
        model, x, labels = dense(), columns(torch.arange(12) % 3), torch.arange(12) % 3
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(24):
            torch.manual_seed(0)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), labels).backward()
            optimizer.step()

    assert "same-random-numbers" not in found(train)


@pytest.mark.parametrize("way", ["new", "anew", "kept"])
def test_a_generator_that_is_made_anew_in_each_update(found, way):
    """The times of a diffusion are the same in every update, in no order, as with one seed."""

    class Denoiser(nn.Module):
        def __init__(self):
            super().__init__()
            self.time, self.out = nn.Embedding(50, 4), nn.Linear(8, 4)

        def forward(self, x, t):
            return self.out(torch.cat([x, self.time(t)], 1))

    def train():
        model, kept = Denoiser(), torch.randint(0, 50, (32,))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(24):
            own = torch.Generator().manual_seed(0) if way == "anew" else None
            times = kept if way == "kept" else torch.randint(0, 50, (32,), generator=own)
            x = torch.randn(32, 4)
            optimizer.zero_grad()
            (model(x, times) - x).square().mean().backward()
            optimizer.step()

    assert found(train).get("same-random-numbers") == ("warning" if way == "anew" else None)


@pytest.mark.parametrize("right", [True, False])
def test_masked_tokens_whose_labels_are_the_mask(found, right):
    """Labels that are no copy of the inputs are masked with them: there is one thing to predict."""

    def train():
        model = nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 20))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(24):
            ids = torch.randint(1, 20, (8, 12))
            labels, hidden = ids.clone() if right else ids, torch.rand(ids.shape) < 0.2
            ids[hidden] = 0
            loss = nn.functional.cross_entropy(model(ids).mT, labels.where(hidden, -100))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    assert found(train).get("one-target-only") == (None if right else "warning")


def write(batches):
    """Train a tiny language model on batches of ids (B, T)."""
    model = nn.Sequential(nn.Embedding(60, 16), nn.Linear(16, 60))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for ids in batches:
        loss = nn.functional.cross_entropy(model(ids[:, :-1]).mT, ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def told(number):
    """Return a text of so many phrases, each one of twelve."""
    phrases = torch.randint(0, 60, (12, 14), generator=torch.Generator().manual_seed(0))
    return phrases[torch.randint(0, 12, (number,))].flatten()


def cut(text, rows=16):
    starts = torch.randint(0, len(text) - 41, (rows, 1))
    return text[starts + torch.arange(41)]


@pytest.mark.parametrize("right", [True, False])
def test_val_that_shares_phrases_with_train(found, right):
    """New texts of known phrases are no overlap; a part of the text that was read is one."""

    def train():
        text = told(600)
        model = write(cut(text) for _ in range(100))
        val = cut(told(100) if right else text[:1400], 48)
        with torch.no_grad():
            nn.functional.cross_entropy(model(val[:, :-1]).mT, val[:, 1:])

    assert ("train-val-overlap" in found(train)) != right


@pytest.mark.parametrize("kind", ["phrases", "few", "epochs", "text"])
def test_many_epochs_of_what_is_no_sample(found, kind):
    """Where few texts are possible, they come again; a sample of many should not."""

    def train():
        few = torch.stack([(torch.arange(25) * 7 + i) % 60 for i in range(48)])
        many = torch.randint(0, 60, (48, 25))
        text = torch.randint(0, 60, (1500,))
        batches = {
            "phrases": lambda: cut(told(60)),
            "few": lambda: few[torch.randint(0, 48, (16,))],
            "text": lambda: cut(text, 48),
        }
        if kind == "epochs":
            write(many[i] for _ in range(25) for i in torch.randperm(48).split(16))
        else:
            write(batches[kind]() for _ in range(100))

    assert ("too-many-epochs" in found(train)) == (kind in ("epochs", "text"))


def test_rewards_are_no_labels(found):
    """Actions picked one by one, each weighed by its reward: that loss may rise, and it is no
    cross-entropy."""

    def train():
        model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2), nn.Softmax(-1))
        optimizer = torch.optim.Adam(model.parameters(), 3e-2)
        for step in range(24):
            picked = [torch.distributions.Categorical(model(torch.randn(1, 4))) for _ in range(6)]
            chosen = [each.log_prob(each.sample()) for each in picked]
            rewards = torch.linspace(0.1, 1, 6) * (1 + step)
            optimizer.zero_grad()
            sum(-one * reward for one, reward in zip(chosen, rewards, strict=True)).backward()
            optimizer.step()

    assert not found(train)


@pytest.mark.parametrize("order", ["right", "wrong", "never cleared"])
def test_clipping_before_backward(found, order):
    """What is stepped with is not what was clipped; an old gradient that it cut is no momentum."""

    def train():
        model = dense()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(8):
            labels = torch.randint(0, 3, (12,))
            loss = nn.functional.cross_entropy(model(columns(labels)), labels)
            if order != "never cleared":
                optimizer.zero_grad()
            if order != "right":
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            loss.backward()
            if order == "right":
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()

    late = {"clipped-before-backward": "certain"}
    both = late | {"gradients-not-zeroed": "certain"}
    assert found(train) == {"right": {}, "wrong": late, "never cleared": both}[order]


@pytest.mark.parametrize("right", [True, False])
def test_backward_of_a_loss_times_itself(found, right):
    """loss.backward(loss) runs, and the steps shrink with the loss; another factor is nobody's
    mistake."""

    def train():
        model = dense()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(4):
            labels = torch.randint(0, 3, (12,))
            loss = nn.functional.cross_entropy(model(columns(labels)), labels)
            optimizer.zero_grad()
            loss.backward(torch.tensor(0.5) if right else loss)
            optimizer.step()

    assert found(train) == ({} if right else {"gradient-times-loss": "certain"})


@pytest.mark.parametrize("kind", ["column", "flat", "pairs"])
def test_two_learned_values_that_make_all_pairs(found, kind):
    """An actor's (B, 1) less a critic's (B,); not where the pairs were asked for by [:, None]."""

    def train():
        actor, critic = nn.Linear(4, 3), nn.Linear(4, 1)
        optimizer = torch.optim.AdamW([*actor.parameters(), *critic.parameters()], 1e-2)
        for _ in range(6):
            x = torch.randn(12, 4)
            spread = actor(x).square().sum(-1, keepdim=kind == "column")
            spread = spread[:, None] if kind == "pairs" else spread
            optimizer.zero_grad()
            (spread - critic(x).flatten()).square().mean().backward()
            optimizer.step()

    wrong = kind == "column"
    assert found(train) == ({"loss-broadcast": "warning"} if wrong else {})


def test_models_that_take_turns(found):
    """An actor and a critic have layers of the same names, and not of the same width."""

    def train():
        models = [nn.Sequential(nn.Linear(4, n), nn.ReLU(), nn.Linear(n, 1)) for n in (16, 32)]
        optimizers = [torch.optim.AdamW(model.parameters(), 1e-3) for model in models]
        for step in range(104):
            model, optimizer = models[step // 10 % 2], optimizers[step // 10 % 2]
            optimizer.zero_grad()
            (model(torch.randn(12, 4)) - 1).square().mean().backward()
            optimizer.step()

    assert not found(train)


@pytest.mark.parametrize("ignored", [-100, 0])
def test_a_class_that_the_loss_ignores(found, ignored):
    """A loss made for padded tokens, used for two classes as well: one of them is never learned."""

    def train():
        model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        loss = nn.CrossEntropyLoss(ignore_index=ignored)
        for _ in range(8):
            labels = torch.randint(0, 2, (12,))
            optimizer.zero_grad()
            loss(model(columns(labels)), labels).backward()
            optimizer.step()

    assert found(train) == ({"one-target-only": "certain"} if ignored == 0 else {})


@pytest.mark.parametrize("reference", [True, False])
def test_rewards_of_a_trainer_without_a_reference(reference):
    """CPO's rewards are the log-probabilities themselves: far below 0 from the first update."""
    doctor = Doctor()
    logps = {"logps/chosen": -140.0 if reference else -91.5, "logps/rejected": -71.3}
    doctor.hear("logged", {"rewards/chosen": -9.15, "rewards/rejected": -7.13} | logps)
    doctor.close()
    said = [finding.name for finding in doctor.findings]
    assert said == (["rate-too-high"] if reference else [])


PER_EPOCH = """
import torch
from torch.optim.swa_utils import AveragedModel
model = torch.nn.Linear(4, 3)
optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
averaged = AveragedModel(model)
for batch in range(36):
    loss = (model(torch.randn(8, 4)) - 1).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    averaged.update_parameters(model)
"""


@pytest.mark.parametrize("stopped", ["raise KeyboardInterrupt", "import sys; sys.exit(130)", ""])
def test_a_run_that_was_stopped_is_not_judged_by_its_end(tmp_path, stopped):
    """Ctrl-C in the first epoch: a schedule by epochs and an average were still to be used. So does
    a program that hears the signal, saves, and leaves with an exit code.
    """
    (tmp_path / "train.py").write_text(f"{PER_EPOCH}{stopped}\n")
    command = [sys.executable, "train.py"]
    said = {finding.name for finding in watch(command, cwd=tmp_path, capture=True)[1]}
    assert said == (set() if stopped else {"scheduler-miscounted", "average-never-used"})


class Counts(nn.Module):
    """A language model with room for twelve tokens."""

    def __init__(self):
        super().__init__()
        self.embedding, self.places = nn.Embedding(20, 16), nn.Embedding(12, 16)
        self.head = nn.Linear(16, 20)

    def forward(self, ids):
        return self.head(self.embedding(ids) + self.places(torch.arange(ids.size(1))))


@pytest.mark.parametrize("way", ["first", "last", "last, one token", "run again"])
def test_a_context_that_is_cropped_at_the_wrong_end(found, way):
    """ids[:, :block]: the model reads the same tokens for ever. A window that moves on is right.

    So is one over equal tokens, and a short text that is read again.
    """

    def train():
        model = Counts()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(4):
            ids = (torch.randint(0, 20, (6, 1)) + torch.arange(13) * 3) % 20
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(ids[:, :-1]).mT, ids[:, 1:]).backward()
            optimizer.step()
        text = ids[:2, :4]
        with torch.no_grad():
            for _ in range(24):
                if way == "run again" and text.size(1) == 10:
                    model(text)
                    continue
                read = text[:, :12] if way == "first" else text[:, -12:]
                new = model(read)[:, -1].softmax(-1).multinomial(1)
                new = torch.full_like(new, 5) if way == "last, one token" else new
                text = torch.cat([text, new], 1)

    said = found(train).get("context-stands-still")
    assert said == ("warning" if way == "first" else None)


@pytest.mark.parametrize("way", ["as trained", "more", "less", "begun", "free", "all learned"])
def test_prompts_that_end_otherwise_than_in_training(found, way):
    """A space too many, or the start of the answer missing: named; a begun answer is not.

    Nor are prompts that end in any token, or rows that are learned as a whole.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    def prompts():
        start = torch.randint(5, 40, (8, 6))
        start[:, -2:] = torch.tensor([2, 3]) if way != "free" else torch.randint(5, 40, (8, 2))
        return start

    def train():
        shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=64, intermediate_size=16, **shape))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        for _ in range(24):
            ids = torch.cat([prompts(), torch.randint(40, 60, (8, 4))], 1)
            labels = ids.clone()
            labels[:, : 0 if way == "all learned" else 6] = -100
            model(input_ids=ids, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        asked, extra = prompts(), torch.full((8, 1), 4)
        if way in ("more", "free", "all learned"):
            asked = torch.cat([asked, extra], 1)
        if way == "begun":
            asked = torch.cat([asked, torch.randint(40, 60, (8, 2))], 1)
        asked = asked[:, :-1] if way == "less" else asked
        model.eval().generate(asked, attention_mask=torch.ones_like(asked), max_new_tokens=2)

    said = found(train).get("prompt-unlike-training")
    assert said == ("warning" if way in ("more", "less") else None)


@pytest.mark.parametrize("right, margin, said", [(0.55, 0.004, True), (0.6, 0.01, False)])
def test_preferences_that_are_mixed_up(right, margin, said):
    """What TRL logs: half of the pairs are right, by nothing. Hard pairs have a margin."""
    doctor = Doctor()

    def log(step):
        if step % 10 == 9:
            names = {"rewards/accuracies": right, "rewards/margins": margin, "loss": 0.691}
            rewards = {"rewards/chosen": margin, "rewards/rejected": 0.0}
            doctor.hear("logged", {name: str(value) for name, value in (names | rewards).items()})

    classify(dense(), columns, 60, after=log)
    doctor.close()
    assert ("nothing-learned" in {finding.name for finding in doctor.findings}) == said


@pytest.mark.parametrize("way", ["sorted", "shuffled", "rare words", "two epochs"])
def test_kinds_of_text_that_come_one_after_the_other(found, way):
    """All rows of one source, then all of another; not where many words come once, by chance."""

    def train():
        rows = torch.randint(0, 30, (640, 25))
        rows[320:] += 30
        if way == "rare words":
            rows = (60 * torch.rand(640, 25) ** 8).long()
        if way == "two epochs":
            rows = torch.cat([rows[::2], rows[::2]])
        order = torch.randperm(640) if way == "shuffled" else torch.arange(640)
        write(rows[i] for i in order.split(8))

    assert found(train).get("sorted-by-class") == ("warning" if way == "sorted" else None)


@pytest.mark.parametrize("new", [True, False])
def test_rows_that_come_again_because_few_are_possible(found, new):
    """One of two sources can say little: its rows are known, and new all the same."""

    def train():
        few, many = torch.randint(0, 60, (8, 25)), torch.randint(0, 60, (600, 25))
        rows = torch.cat([few[torch.randint(0, 8, (600,))], many])[torch.randperm(1200)]
        model = write(rows[i] for i in torch.arange(1200).split(12))
        others = torch.randint(0, 60, (40, 25)) if new else many[:40]
        for val in (few[torch.randint(0, 8, (40,))], others):
            with torch.no_grad():
                nn.functional.cross_entropy(model(val[:, :-1]).mT, val[:, 1:])

    assert ("train-val-overlap" in found(train)) != new


@pytest.mark.parametrize("anew", [True, False])
def test_folds_with_a_model_each_and_with_one_for_all(found, anew):
    """A new model has read nothing yet: what the one before it was trained on may be its val."""

    def model_of():
        model = nn.Sequential(nn.EmbeddingBag(500, 16), nn.Linear(16, 2))
        return model, torch.optim.Adam(model.parameters(), 1e-2)

    def train():
        x, (model, optimizer) = torch.randint(0, 500, (300, 20)), model_of()
        y = (x.float().mean(1) > 250).long()
        for fold in torch.arange(300).split(100):
            if anew:
                model, optimizer = model_of()
            rest = torch.tensor([i for i in torch.randperm(300).tolist() if i not in fold])
            for i in rest.split(10) * 2:
                nn.functional.cross_entropy(model(x[i]), y[i]).backward()
                optimizer.step()
                optimizer.zero_grad()
            with torch.no_grad():
                for i in fold.split(20):
                    nn.functional.cross_entropy(model(x[i]), y[i])

    assert found(train).get("train-val-overlap") == (None if anew else "certain")


@pytest.mark.parametrize("dropped", [True, False])
def test_a_column_that_the_trainer_drops(found, tmp_path, dropped):
    """Each row has a weight, and Trainer drops it before a loss that would use it."""
    from datasets import Dataset
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    class Weighed(Trainer):
        def compute_loss(self, model, inputs, **_):
            weight = inputs.pop("weight", None)
            labels = inputs.pop("labels")
            losses = nn.functional.cross_entropy(model(**inputs).logits, labels, reduction="none")
            return losses.mean() if weight is None else (losses * weight).mean()

    def train():
        ids, labels = torch.randint(0, 50, (64, 12)), torch.randint(0, 2, (64,))
        columns = {"input_ids": ids.tolist(), "labels": labels.tolist(), "weight": [0.5] * 64}
        small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = BertForSequenceClassification(
            BertConfig(vocab_size=50, intermediate_size=16, **small)
        )
        how = {"max_steps": 6, "report_to": "none", "use_cpu": True, "save_strategy": "no"}
        how["remove_unused_columns"] = dropped
        args = TrainingArguments(str(tmp_path), disable_tqdm=True, **how)
        Weighed(model, args, train_dataset=Dataset.from_dict(columns)).train()

    assert found(train).get("columns-dropped") == ("warning" if dropped else None)


@pytest.mark.parametrize("way", ["by hand", "known to LoRA", "saved beside it"])
def test_a_head_that_is_missing_from_a_saved_adapter(found, tmp_path, way):
    """A new head is trained beside LoRA's matrices; the adapter's file holds what LoRA knows of."""
    from peft import LoraConfig, get_peft_model
    from transformers import BertConfig, BertForSequenceClassification

    def train():
        small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = BertForSequenceClassification(
            BertConfig(vocab_size=50, intermediate_size=16, **small)
        )
        kept = ["classifier"] if way == "known to LoRA" else None
        model = get_peft_model(model, LoraConfig(target_modules=["query"], modules_to_save=kept))
        head = model.base_model.model.classifier.requires_grad_(True)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, 1e-3)
        for _ in range(6):
            ids, labels = torch.randint(0, 50, (8, 12)), torch.randint(0, 2, (8,))
            model(input_ids=ids, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.save_pretrained(tmp_path)
        if way == "saved beside it":
            torch.save({"head": head.state_dict()}, tmp_path / "head.pt")

    assert found(train).get("reload-differs") == ("warning" if way == "by hand" else None)


@pytest.mark.parametrize("known", [True, False])
def test_answers_that_the_tokenizer_does_not_know(found, known):
    """Its vocabulary comes from the questions, or from all texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    def train():
        words = ["<pad>", "</s>", "<unk>", "capital", "of", "peru", "cuba"]
        words += ["lima", "havana"] * known
        raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
        raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        marks = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **marks)
        small = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
        model = T5ForConditionalGeneration(
            T5Config(vocab_size=9, decoder_start_token_id=0, **small)
        )
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        for _ in range(6):
            asked = tokenizer(["capital of peru", "capital of cuba"] * 8, return_tensors="pt")
            told = tokenizer(["lima </s>", "havana </s>"] * 8, return_tensors="pt").input_ids
            model(input_ids=asked.input_ids, labels=told).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    assert found(train).get("text-lost-in-tokens") == (None if known else "certain")


@pytest.mark.parametrize("way", ["parameter", "tensor", "moved", "by hand"])
def test_tensors_that_are_no_parameters(found, way):
    """LoRA by hand: its matrices as parameters, as plain tensors, as nn.Parameter(...).t()."""

    class Wrapped(nn.Module):
        def __init__(self, base):
            super().__init__()
            a, b = nn.Parameter(torch.randn(16, 2)), nn.Parameter(torch.zeros(2, 3))
            if way == "moved":
                a = nn.Parameter(a.data.t().clone()).t()
            elif way != "parameter":
                a, b = (part.data.requires_grad_() for part in (a, b))
            self.base, self.a, self.b = base, a, b

        def forward(self, x):
            return self.base(x) + x @ self.a @ self.b

    def train():
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), Wrapped(nn.Linear(16, 3)))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        for _ in range(6):
            x, y = torch.randn(16, 8), torch.randint(0, 3, (16,))
            nn.functional.cross_entropy(model(x), y).backward()
            if way == "by hand":
                for matrix in (model[2].a, model[2].b):
                    matrix.data -= 0.1 * matrix.grad
            optimizer.step()
            optimizer.zero_grad()

    right = way in ("parameter", "by hand")
    assert found(train).get("no-gradient") == (None if right else "certain")


@pytest.mark.parametrize("scaled", [True, False])
def test_an_evaluation_on_another_scale(found, scaled):
    """Pictures that are normalised for training only; val with a little more contrast is fine."""

    def train():
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        pictures, y = torch.rand(256, 1, 8, 8), torch.randint(0, 4, (256,))
        for _ in range(3):
            for i in torch.randperm(192).split(16):
                x = (pictures[i] - 0.5) / 0.29
                nn.functional.cross_entropy(model(x), y[i]).backward()
                optimizer.step()
                optimizer.zero_grad()
            model.eval()
            with torch.no_grad():
                for i in torch.arange(192, 256).split(16):
                    model((pictures[i] - 0.5) / 0.2 if scaled else pictures[i])
            model.train()

    said = found(train).get("evaluated-on-another-scale")
    assert said == (None if scaled else "warning")


@pytest.mark.parametrize("aligned", [True, False])
def test_labels_by_word_on_tokens(found, aligned):
    """Tags of words, given to the pieces of each word, or laid over all pieces in order."""
    from tokenizers import Tokenizer, models
    from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

    def row(width=24):
        words = [[3 + 2 * w, 4 + 2 * w][: 1 + w % 2] for w in torch.randint(0, 8, (8,)).tolist()]
        words = words[: int(torch.randint(4, 9, ()))]
        pieces, tags = [piece for word in words for piece in word], [len(w) - 1 for w in words]
        ids = [1, *pieces, 2]
        if aligned:
            tags = [-100, *(t for w in words for t in [len(w) - 1, -100][: len(w)]), -100]
        rest = width - len(ids)
        labels = tags + [-100] * (width - len(tags))
        return ids + [0] * rest, [1] * len(ids) + [0] * rest, labels

    def train():
        words = {
            word: i for i, word in enumerate(["[PAD]", "[CLS]", "[SEP]", *map(str, range(17))])
        }
        raw = Tokenizer(models.WordLevel(words, "[PAD]"))
        PreTrainedTokenizerFast(tokenizer_object=raw, cls_token="[CLS]", pad_token="[PAD]")
        small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = BertConfig(vocab_size=20, intermediate_size=16, num_labels=2, **small)
        model = BertForTokenClassification(config)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        for _ in range(6):
            ids, mask, labels = map(torch.tensor, zip(*[row() for _ in range(16)], strict=True))
            model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    assert found(train).get("labels-by-word") == (None if aligned else "warning")


@pytest.mark.parametrize("masked", [True, False])
def test_losses_summed_by_hand_of_which_none_counts(found, masked):
    """All targets are -100: the losses are summed and divided by their number, 0."""

    def train():
        model = nn.Sequential(nn.Embedding(60, 16), nn.Linear(16, 60))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for rows in torch.randint(0, 60, (6, 8, 25)):
            x, y = rows[:, :-1], rows[:, 1:].clone()
            y[:, : 24 if masked else 12] = -100
            losses = nn.functional.cross_entropy(model(x).mT, y, reduction="none")
            (losses.sum() / (y != -100).sum()).backward()
            optimizer.step()
            optimizer.zero_grad()

    assert found(train) == ({"nothing-trained": "certain"} if masked else {})


@pytest.mark.parametrize("known", [True, False])
def test_a_table_that_none_of_two_optimizers_has(found, known):
    """Matrices have one optimizer, vectors and the head another; the embedding may be forgotten."""

    def train():
        model = nn.Sequential(nn.Embedding(60, 16), nn.Linear(16, 16), nn.Linear(16, 60))
        table, inner, bias, *head = model.parameters()
        optimizers = torch.optim.SGD([inner], 0.1), torch.optim.AdamW([bias, *head], 1e-2)
        optimizers[1].add_param_group({"params": [table]} if known else {"params": []})
        for rows in torch.randint(0, 60, (40, 8, 25)):
            scores = model(rows[:, :-1])
            nn.functional.cross_entropy(scores.mT, rows[:, 1:]).backward()
            for optimizer in optimizers:
                optimizer.step()
            model.zero_grad()

    assert found(train).get("no-gradient") == (None if known else "warning")


@pytest.mark.parametrize("dead", [True, False])
def test_a_classifier_that_gives_every_row_the_same_answer(found, dead):
    """Its hidden units died; the twin learns nothing either, from labels at random, but answers."""

    def train():
        hidden = nn.Linear(16, 16)
        model = nn.Sequential(nn.EmbeddingBag(60, 16), hidden, nn.ReLU(), nn.Linear(16, 2))
        hidden.bias.data.fill_(-50 if dead else 0)
        optimizer = torch.optim.SGD(model.parameters(), 1e-2)
        for ids in torch.randint(0, 60, (150, 16, 20)):
            y = (torch.rand(16) < 0.3).long()
            nn.functional.cross_entropy(model(ids), y).backward()
            optimizer.step()
            optimizer.zero_grad()

    said = found(train).get("only-frequencies-learned")
    assert said == ("warning" if dead else None)


class AsNanoGPT(nn.Module):
    """Gives all logits only with the targets, else those of the last place."""

    def __init__(self, ahead):
        super().__init__()
        self.embedding, self.head, self.ahead = nn.Embedding(60, 16), nn.Linear(16, 60), ahead

    def forward(self, idx, targets=None):
        x = self.embedding(idx)
        logits = self.head(x + (x.roll(-1, 1) if self.ahead else 0))
        if targets is None:
            return logits[:, [-1]], None
        return logits, nn.functional.cross_entropy(logits.mT, targets)


@pytest.mark.parametrize("ahead", [True, False])
def test_causality_of_a_model_that_gives_all_logits_only_with_targets(found, ahead):
    """nanoGPT's way: with targets=None only the last place is calculated."""

    def train():
        model = AsNanoGPT(ahead)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for rows in torch.randint(0, 60, (6, 8, 25)):
            model(rows[:, :-1], rows[:, 1:])[1].backward()
            optimizer.step()
            optimizer.zero_grad()

    assert found(train) == ({"no-causal-mask": "certain"} if ahead else {})


class Convolution(nn.Module):
    """Reads (B, T, C): by a convolution over T, or as patches of several steps each."""

    def __init__(self, way):
        super().__init__()
        self.way, self.conv, self.patch = way, nn.Conv1d(4, 8, 3), nn.Linear(16, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        rows, time, channels = x.shape
        if self.way == "patches":
            return self.head(self.patch(x.view(rows, 4, 16)).mean(1))
        swapped = x.permute(0, 2, 1) if self.way == "permute" else x.view(rows, channels, time)
        return self.head(self.conv(swapped).mean(2))


@pytest.mark.parametrize("way", ["view", "permute", "patches"])
def test_a_view_inside_the_model_that_was_meant_to_be_a_permute(found, way):
    """Four patches of four steps have the same shape, and are right."""

    def rows(labels):
        return torch.randn(len(labels), 16, 4) + labels[:, None, None]

    said = found(classify, Convolution(way), rows)
    assert said == ({"view-for-transpose": "certain"} if way == "view" else {})


@pytest.mark.parametrize("way", ["parameters", "buffers", "as it was born", "always evaluating"])
def test_an_average_whose_batch_norm_was_never_updated(found, way):
    """Means and variances are buffers; a copy of the beginning may stay what it is."""

    def train():
        model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
        average = copy.deepcopy(model)
        model.train(way != "always evaluating")
        average.eval()

        def after(step):
            kept, new = list(average.parameters()), list(model.parameters())
            if way == "buffers":
                kept, new = [*kept, *average.buffers()], [*new, *model.buffers()]
            with torch.no_grad():
                for mine, other in zip(kept, new, strict=True):
                    if way != "as it was born":
                        mine.copy_(other if mine.ndim == 0 else 0.9 * mine + 0.1 * other)
                if step >= 30:
                    average(columns(torch.arange(12) % 3))

        classify(model, columns, 50, after=after)

    said = found(train).get("batchnorm-never-updated")
    assert said == ("certain" if way == "parameters" else None)


@pytest.mark.parametrize("classes", ["two", "three"])
@pytest.mark.parametrize("way", ["inverse", "frequencies", "careful"])
def test_class_weights_the_wrong_way_round(found, way, classes):
    """A rare class is weighed up; one may be weighed down a little so that alarms are rare."""
    shares = torch.tensor([0.9, 0.06, 0.04] if classes == "three" else [0.9, 0.1])
    weight = {"inverse": 0.1 / shares, "frequencies": shares, "careful": shares.clamp(max=0.1)}[way]
    weight = weight.flip(0) if way == "careful" else weight

    def train():
        model = nn.Linear(4, 1 if classes == "two" else 3)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(24):
            labels = torch.multinomial(shares, 64, replacement=True)
            scores = model(columns(labels))
            if classes == "two":
                odds = torch.tensor(0.6) if way == "careful" else weight[1] / weight[0]
                loss = nn.BCEWithLogitsLoss(pos_weight=odds)(scores[:, 0], labels.float())
            else:
                loss = nn.functional.cross_entropy(scores, labels, weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    said = found(train).get("class-weights-inverted")
    assert said == ("warning" if way == "frequencies" else None)


@pytest.mark.parametrize("way", ["times", "divided", "nothing to learn"])
def test_scores_that_are_multiplied_by_the_temperature(found, way):
    """Right in their order, and too close to each other for a low loss."""

    def train():
        model = nn.Linear(16, 16)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(130):
            x = torch.randn(12, 16)
            other = torch.randn(12, 16) if way == "nothing to learn" else x.flip(1)
            near = nn.functional.normalize(model(x)) @ nn.functional.normalize(other).T
            scores = near / 0.1 if way == "divided" else near * 0.1
            optimizer.zero_grad()
            nn.functional.cross_entropy(scores, torch.arange(12)).backward()
            optimizer.step()

    assert found(train).get("scores-too-flat") == ("warning" if way == "times" else None)


class Graphs(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x, edges, number):
        x = self.first(x)
        x = torch.relu(x + torch.zeros_like(x).index_add(0, edges[1], x[edges[0]]))
        return self.head(x.unflatten(0, (number, -1)).mean(1))


@pytest.mark.parametrize("way", ["no offset", "offset", "padded", "bipartite"])
def test_graphs_that_are_joined_without_an_offset(found, way):
    """Edges of one graph may reach few nodes: the rest is padding, or of another kind."""

    def train():
        model = Graphs()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(14):
            labels, ring = torch.randint(0, 3, (12,)), torch.arange(7)
            edges = [torch.stack([ring, ring.roll(1)]) for _ in labels]
            x = columns(labels.repeat_interleave(7))
            if way == "offset":
                edges = [each + 7 * i for i, each in enumerate(edges)]
            elif way == "padded":
                edges, x = edges[:1], x * (torch.arange(84) < 7)[:, None]
            elif way == "bipartite":
                edges = [torch.stack([torch.randint(0, 40, (90,)), torch.randint(0, 40, (90,))])]
            optimizer.zero_grad()
            scores = model(x, torch.cat(edges, 1), len(labels))
            nn.functional.cross_entropy(scores, labels).backward()
            optimizer.step()

    assert found(train).get("edges-reach-few") == ("warning" if way == "no offset" else None)


@pytest.mark.parametrize("way", ["apart", "right", "baseline", "physics", "bandit"])
def test_a_regression_whose_targets_are_not_those_of_its_inputs(found, way):
    """The noise to be predicted is not the one in the input. A baseline beside a policy may guess,
    the residual of an equation should be 0, and who takes the best action only sees its noise.
    """

    def train():
        model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 4))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for step in range(420):
            noise, x = torch.randn(64, 4), torch.randn(64, 4)
            fits = way == "right" or way == "bandit" and step < 210
            read = x + (noise if fits else torch.randn(64, 4))
            loss = nn.functional.mse_loss(model(read), noise * (way != "physics"))
            loss = loss - model(x).tanh().mean() if way == "baseline" else loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    assert found(train).get("nothing-learned") == ("warning" if way == "apart" else None)


@pytest.mark.parametrize("large", [True, False])
def test_a_loss_that_rises_and_comes_back_is_no_proof(found, large):
    """A few batches of large numbers do that at any rate; the steps are small."""
    sizes = iter([1, 1, *([30] * 3 if large else [])])

    def train():
        model = dense()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        classify(model, lambda labels: columns(labels) * next(sizes, 1), 24, optimizer)

    assert found(train) == ({"rate-too-high": "warning"} if large else {})
