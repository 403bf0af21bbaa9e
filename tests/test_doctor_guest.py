"""The doctor is a guest: a program does the same with it as without, whatever kind it is."""

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter, deque

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from handrail import Doctor

V, B, T = 48, 4, 24
OUTSIDE = torch.Generator()


class Plain(torch.nn.Module):
    """A small causal model."""

    def __init__(self):
        super().__init__()
        self.embed, self.drop = torch.nn.Embedding(V, 16), torch.nn.Dropout(0.1)
        self.rnn, self.head = torch.nn.GRU(16, 16, batch_first=True), torch.nn.Linear(16, V)

    def forward(self, x):
        return self.head(self.drop(self.rnn(self.embed(x))[0]))


class Counts(Plain):
    """Keeps its counts in containers, and goes by them."""

    def __init__(self):
        super().__init__()
        self.seen, self.last = {"calls": 0, "inner": [[0]]}, deque(maxlen=3)
        self.often, self.array = Counter(), np.zeros(1)

    def forward(self, x):
        self.seen["calls"] += 1
        self.seen["inner"][0][0] += 1
        self.last.append(self.seen["calls"])
        self.often["calls"] += 1
        self.array += 1
        sums = self.seen["calls"], self.seen["inner"][0][0], sum(self.last), self.often["calls"]
        return super().forward(x) * (1 + 1e-4 * sum(sums) + 1e-4 * self.array.item())


class Draws(Plain):
    """Draws from generators of its own, in evaluation mode too."""

    def __init__(self):
        super().__init__()
        self.random, self.numpy = random.Random(1), np.random.default_rng(1)

    def forward(self, x):
        return super().forward(x) * (1 + self.random.random() + self.numpy.random())


class DrawsOutside(Plain):
    def forward(self, x):
        scores = super().forward(x)
        return scores + torch.randn(scores.shape, generator=OUTSIDE)


class Queue(Plain):
    """Writes what it gave into a large buffer, as MoCo does."""

    def __init__(self):
        super().__init__()
        self.register_buffer("queue", torch.zeros(1_100_000))

    def forward(self, x):
        scores = super().forward(x)
        with torch.no_grad():
            self.queue[1:64] = self.queue[:63].clone()
            self.queue[0] = scores.mean()
        return scores + self.queue[:64].mean()


class Normed(Plain):
    """Changes its own weights whenever it runs."""

    def forward(self, x):
        self.head.weight.data.mul_(0.999)
        return super().forward(x)


class Hidden(Plain):
    """Runs a layer that is not registered, and stays in training mode."""

    def __init__(self):
        super().__init__()
        self.norms = [torch.nn.BatchNorm1d(V)]

    def forward(self, x):
        scores = self.norms[0](super().forward(x).flatten(0, 1)).unflatten(0, x.shape)
        return scores + self.norms[0].running_mean


class Talks(Plain):
    def forward(self, x):
        print("forward", self.training)
        print("forward", file=sys.stderr)
        return super().forward(x)


class Yields(Plain):
    def forward(self, x):
        yield from super().forward(x).chunk(2)


class Lists(Plain):
    """Gives its parameters as a list, and its outputs as a generator."""

    def parameters(self, kind="all"):
        return list(super().parameters())


KINDS = [Counts, Draws, DrawsOutside, Queue, Normed, Hidden, Talks, Yields, Lists]


@pytest.fixture
def listening():
    """Doctors made in a test leave nothing behind in this process."""
    made = []
    yield lambda *args, **kwargs: made.append(Doctor(*args, **kwargs)) or made[-1]
    for doctor in made:
        doctor.close()


def train(model, updates=22):
    """Train on random rows, whose next tokens are the targets."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(updates):
        rows = torch.randint(0, V, (B, T + 1))
        scores = model(rows[:, :-1])
        scores = scores if isinstance(scores, torch.Tensor) else torch.cat(list(scores))
        loss = F.cross_entropy(scores.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def result_of(kind):
    """Return the weights and buffers after a training, and the next random numbers."""
    torch.manual_seed(0)
    OUTSIDE.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model = kind()
    train(model)
    state = [*torch.nn.Module.state_dict(model).values(), torch.rand(3)]
    return [*map(torch.clone, state), torch.tensor([random.random(), np.random.random()])]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_is_run_once_more_does_not_feel_it(listening, capfd, kind):
    """What a forward pass keeps, draws, writes, prints or gives: the same with the doctor."""
    alone, said = result_of(kind), capfd.readouterr()
    doctor = listening()
    watched = result_of(kind)
    assert doctor.updates == 22 and capfd.readouterr() == said
    assert all(map(torch.equal, alone, watched))
    assert not any("switched off" in reason for reason in doctor.left_out), doctor.left_out


def test_a_pass_that_cannot_be_undone_is_not_made(listening):
    """Other processes may not take part in it: a collective alone hangs or ends the program."""

    class Gathers(Plain):
        calls = 0

        def forward(self, x):
            scores = super().forward(x)
            Gathers.calls += self.training
            mean = scores.mean().detach()
            torch.distributed.all_reduce(mean)
            Gathers.calls += not self.training
            return scores - mean

    doctor = listening()
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        train(Gathers())
    finally:
        torch.distributed.destroy_process_group()
    assert doctor.updates == 22 and Gathers.calls == 22
    assert any("causality" in reason for reason in doctor.left_out), doctor.left_out


def test_what_only_follows_a_program_sees_nothing_of_the_doctor(listening):
    """Traced graphs, counted operations and compiled functions are the same with the doctor."""
    cross_entropy = F.cross_entropy  # by a name of its own

    class Scored(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(8, 4)

        def forward(self, x, y):
            return F.cross_entropy(self.head(x), y)

    def all_graphs():
        def scored(x, y: torch.Tensor):
            return cross_entropy(x, y)

        torch.manual_seed(0)
        model, batch = Scored(), (torch.randn(5, 8), torch.randint(0, 4, (5,)))
        model(*batch).backward()
        with FlopCounterMode(display=False) as counter:
            train(Plain(), 3)
        with warnings.catch_warnings():
            warnings.simplefilter("error", torch.jit.TracerWarning)
            traced = torch.jit.trace(model, batch).inlined_graph
        scripted = torch.jit.script(scored).graph
        follows = torch.fx.symbolic_trace(model).code
        counts = traced, scripted
        return follows, counter.get_total_flops(), [str(g).count("aten::") for g in counts]

    alone = all_graphs()
    doctor = listening()
    cross_entropy = F.cross_entropy
    assert all_graphs() == alone and doctor.updates == 3


def test_nothing_is_compiled_for_the_doctor(listening, recwarn):
    """A compiled part of a model, and a compiled model: as many graphs as without the doctor."""
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    def compiled_runs():
        torch._dynamo.reset()
        model = Plain()
        model.head = torch.compile(model.head, backend=backend)
        train(model)
        train(torch.compile(torch.nn.Sequential(torch.nn.Embedding(V, V)), backend=backend), 3)
        return len(graphs)

    alone = compiled_runs()
    doctor = listening()
    assert compiled_runs() == 2 * alone and doctor.updates == 25
    assert not any("global hooks" in str(warning.message) for warning in recwarn.list)


def test_an_error_that_a_signal_raises_is_the_programs(listening):
    """A handler that ends the training by an exception does so in the doctor's work too."""

    class Late(Plain):
        def forward(self, x):
            if not self.training:
                signal.raise_signal(signal.SIGUSR2)
            return super().forward(x)

    def ring(*_):
        raise TimeoutError("the machine goes away")

    before = signal.signal(signal.SIGUSR2, ring)
    listening()
    try:
        with pytest.raises(TimeoutError):
            train(Late())
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_an_error_of_the_program_stays_the_only_one(listening, recwarn):
    """A layer that raises: no warning of ours beside it, and the program may go on."""

    class Sometimes(torch.nn.Module):
        def forward(self, x):
            if torch.is_grad_enabled():
                return x
            raise ValueError("sometimes")

    listening()
    model = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(8, 8), Sometimes()))
    with torch.no_grad(), pytest.raises(ValueError, match="sometimes"):
        model(torch.randn(2, 8))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    assert not recwarn.list
    scheduler.step()
    assert [warning.filename for warning in recwarn.list] == [__file__]


GUEST = """
import os, signal, sys, threading, time
import torch
got = []
signal.signal(signal.SIGUSR1, lambda *_: got.append("USR1"))
open("began", "w").close()
while not got:
    time.sleep(0.02)

def train():
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    time.sleep(0.2)
    for _ in range(3):
        model(torch.randn(8, 4)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

threading.Thread(target=train).start()
print(got, os.read(int(sys.argv[1]), 9))
"""


def test_a_shell_and_its_signals_reach_the_program(tmp_path):
    """Files that a shell opened for it are open, a signal to `watch` alone arrives.

    A thread that trains after the main one has ended is seen to its end.
    """
    (tmp_path / "train.py").write_text(GUEST)
    reads, writes = os.pipe()
    os.write(writes, b"config")
    command = [sys.executable, "-m", "handrail.doctor", "watch", sys.executable, "train.py"]
    process = subprocess.Popen(
        [*command, str(reads)],
        cwd=tmp_path,
        pass_fds=[reads],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while process.poll() is None and not (tmp_path / "began").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    said = process.communicate(timeout=60)[0]
    assert "['USR1'] b'config'" in said and "The doctor, after 3 updates" in said, said
