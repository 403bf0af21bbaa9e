"""The doctor: it finds what is wrong, is quiet where nothing is, and changes nothing."""

import copy
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import warm
from accelerate.state import AcceleratorState
from conftest import handrail

from handrail import Doctor
from handrail.data import file_checks
from handrail.doctor import saved
from handrail.doctor.findings import CATALOGUE
from handrail.doctor.watch import watch
from handrail.lessons import lessons, practice
from handrail.project.project import PROGRAM

HOUSE = Path(__file__).parents[1]
EXAM = HOUSE / "bench" / "corpus" / "pairs"
FAULTS = 39


def seen_in(script, broken):
    """What `handrail watch` finds in a script of the exam."""
    code, found, updates, _, printed = watch(
        [sys.executable, str(script)], cwd=EXAM, capture=True, env={"BROKEN": str(int(broken))}
    )
    assert updates, printed[-2000:]
    return {finding.name: finding for finding in found}


# --- lessons ---


def test_every_fault_is_a_lesson_that_fits_the_program(tmp_path):
    """39 faults, each with its text; every patch applies to the files as they are handed over, or `handrail break` would show nothing."""
    known = lessons.faults()
    assert sorted(fault.number for fault in known.values()) == list(range(1, FAULTS + 1))
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    for fault in known.values():
        assert {"Step", "Title", "Run", "Seen-by"} <= fault.head.keys() and set(fault.parts) == {
            "What it is",
            "You would have seen",
            "In real life",
        }, fault.name
        for file in PROGRAM.glob("*.py"):
            (tmp_path / file.name).write_text(file.read_text())
        shutil.copy(practice.SETTINGS, tmp_path / "settings.toml")
        assert lessons.apply(fault, tmp_path), fault.name


def test_a_lesson_shows_healthy_and_broken_and_names_the_fault():
    """What a learner types: the diff, both losses, and the doctor's word on the broken one."""
    done = handrail("break", "labels-shifted-twice")
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout
    assert (
        "-    logits = model(" in said
        and "healthy" in said
        and "✗ labels-shifted-twice (certain, seen at update 1)" in said
        and "In real life" in said
    )


def test_an_unknown_fault_gets_a_suggestion():
    """A typing error is no traceback: exit 2, and what is near."""
    done = handrail("break", "label-shifted")
    assert (
        done.returncode == 2
        and "labels-shifted-twice" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert "eos-masked" in handrail("break").stdout


# --- watching ---


@pytest.mark.parametrize(
    "script, name",
    [
        ("28_no_causal_mask", "no-causal-mask"),
        pytest.param(
            "20_accumulation_of_means", "accumulation-mean-of-means", marks=pytest.mark.long
        ),
        pytest.param("01_pad_is_eos", "eos-masked", marks=pytest.mark.long),
    ],
)
def test_watch_names_what_is_wrong_and_is_quiet_otherwise(script, name):
    """The same script with and without one mistake, nothing in it changed for us: named before update 50, silence otherwise."""
    found = seen_in(EXAM / f"{script}.py", broken=True)
    assert name in found and found[name].level == "certain" and found[name].update < 50, found
    assert not seen_in(EXAM / f"{script}.py", broken=False)


@pytest.mark.long
def test_conversations_of_several_turns_are_no_packed_documents():
    """A row in which the first words come again is not yet a packed one: no alarm (there was one)."""
    code, found, updates, _, printed = watch(
        [sys.executable, EXAM.parent / "healthy" / "healthy.py", "several_turns_one_at_a_time"],
        capture=True,
    )
    assert code == 0 and updates and not found, printed[-2000:]


PLAIN = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, attention_dropout=0.1))
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
for i in range(14):
    batch = torch.randint(0, 64, (4, 24))
    loss = model(input_ids=batch, labels=batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
model.save_pretrained("saved")
print("BITS", [p.double().sum().item().hex() for p in model.parameters()], torch.rand(1).item())
"""


def test_watching_changes_no_bit(tmp_path):
    """With dropout and random batches: the same weights and the same random numbers with the doctor and without.

    Most scripts begin with transformers or datasets, which only ask whether torch is there: the doctor must not take that for its coming (it did, and saw nothing).
    """
    (tmp_path / "plain.py").write_text("from datasets import Dataset\n" + PLAIN)
    alone = warm.run(["plain.py"], tmp_path).stdout
    code, _, updates, left, beside = watch([sys.executable, "plain.py"], cwd=tmp_path, capture=True)
    bits = lambda text: next(line for line in text.splitlines() if line.startswith("BITS"))
    assert code == 0 and updates == 14 and not left and bits(alone) == bits(beside)


@pytest.mark.parametrize("broken", [True, pytest.param(False, marks=pytest.mark.long)])
def test_two_processes_that_read_the_same_are_told_apart_from_two_that_do_not(broken):
    """`handrail watch torchrun`: reaches every process; the same rows on both are found, a divided set is not."""
    run = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "14_ranks_read_the_same.py",
    ]
    _, found, updates, _, printed = watch(
        run, cwd=EXAM, capture=True, env={"BROKEN": str(int(broken)), "OMP_NUM_THREADS": "1"}
    )
    assert updates and [finding.name for finding in found] == ["ranks-share-data"] * broken, (
        printed[-2000:]
    )


def test_a_command_keeps_its_exit_code(tmp_path):
    """The doctor is a guest: the command's own exit code is passed on; 1 where it was 0 and something certain was found."""
    (tmp_path / "dies.py").write_text("import torch, sys\nsys.exit(7)\n")
    assert handrail("watch", sys.executable, tmp_path / "dies.py").returncode == 7
    assert (
        handrail("watch", "no-such-command").returncode == 2 and handrail("watch").returncode == 2
    )
    done = handrail(
        "watch",
        "--json",
        tmp_path / "found.json",
        sys.executable,
        EXAM / "21_gradients_never_zeroed.py",
        env=os.environ | {"BROKEN": "1"},
    )
    assert done.returncode == 1 and "optimizer.zero_grad() is missing" in done.stderr
    written = json.loads((tmp_path / "found.json").read_text())["checks"]
    assert [(check["name"], check["verdict"]) for check in written] == [
        ("gradients-not-zeroed", "fail")
    ]


# --- a package of its own ---


def test_the_doctor_is_a_package_of_its_own(tmp_path):
    """Its folder, copied alone under another name, watches a program: it needs nothing of handrail."""
    shutil.copytree(HOUSE / "handrail" / "doctor", tmp_path / "thatname")
    (tmp_path / "train.py").write_text(
        PLAIN.replace("    optimizer.zero_grad()\n", "")
        + "import sys; print('OURS', [name for name in sys.modules if name == 'handrail'])"
    )
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = [sys.executable, "-P", "-c", "import runpy, sys; sys.path.insert(0, '.'); "]
    run[-1] += "sys.argv[0] = 'thatname'; runpy.run_module('thatname', run_name='__main__')"
    words = ["watch", sys.executable, "train.py"]
    how = {"cwd": tmp_path, "env": env, "capture_output": True, "text": True}
    done = subprocess.run([*run, *words], **how)
    assert "✗ gradients-not-zeroed (certain" in done.stderr, done.stdout + done.stderr
    assert done.returncode == 1 and "OURS []" in done.stdout
    done = subprocess.run([*run, "doctor", "nowhere"], **how)
    assert done.returncode == 2 and "There is no file or folder nowhere" in done.stderr
    for file in (HOUSE / "handrail" / "doctor").rglob("*.py"):
        imports = [line for line in file.read_text().splitlines() if "import handrail" in line]
        assert not imports and "from handrail." not in file.read_text(), file


def forward_alone(doctor_of, **given):
    """Train by model.forward(...), which no hook hears, with a loss of one's own."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, num_attention_heads=2, **shape))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.99**step)
    doctor = doctor_of(model, optimizer=optimizer, scheduler=scheduler)
    for _ in range(12):
        ids = torch.randint(0, 64, (4, 24))
        logits = model.forward(ids).logits[:, :-2]
        loss = -logits.log_softmax(-1).gather(2, ids[:, 2:, None]).mean()
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        scheduler.step()
        labels = torch.cat([ids[:, 1:], ids[:, :1]], 1)
        doctor.step(*({"input_ids": ids, "labels": labels}, loss) if given else ())
    return doctor


def test_what_no_hook_hears_is_taken_from_step(listening):
    """batch, loss and scheduler are used: twice shifted labels, and a schedule that runs twice as fast."""
    doctor = forward_alone(listening, batch=True)
    named = {finding.name for finding in doctor.findings}
    assert {"labels-shifted-twice", "scheduler-miscounted"} <= named, doctor.report()
    assert len(doctor.history.losses) >= 10 and not doctor.left_out
    assert "labels-shifted-twice" not in {f.name for f in forward_alone(listening).findings}


# --- one line in anybody's code ---


@pytest.fixture
def listening():
    """Doctors made in a test leave nothing behind in this process."""
    made = []
    yield lambda *args, **kwargs: made.append(Doctor(*args, **kwargs)) or made[-1]
    for doctor in reversed(made):
        doctor.close()


def classify(doctor_of, broken=None, updates=30):
    """Train a small convolutional classifier as its author would; return the doctor's findings."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(8 * 36, 4),
    )
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    if broken == "other model":
        model = torch.nn.Sequential(
            *[
                torch.nn.Conv2d(1, 8, 3),
                torch.nn.ReLU(),
                torch.nn.Flatten(),
                torch.nn.Linear(8 * 36, 4),
            ]
        )
    doctor = doctor_of(model, optimizer=optimizer)
    for _ in range(updates):
        labels = torch.randint(0, 4, (16,))
        images = torch.randn(16, 1, 8, 8) + labels[:, None, None, None]
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        if broken != "never zeroed":
            optimizer.zero_grad()
        doctor.step((images, labels), loss)
    return {finding.name for finding in doctor.findings}


@pytest.mark.parametrize(
    "broken, name",
    [
        (None, None),
        ("never zeroed", "gradients-not-zeroed"),
        ("other model", "weights-do-not-move"),
    ],
)
def test_one_line_in_a_loop_that_is_no_language_model(listening, broken, name):
    """An image classifier: its mistakes are found by the same mechanisms, and a healthy one raises nothing."""
    assert classify(listening, broken) == ({name} if name else set())


READER = EXAM.parent / "first_reader"


def twice(name, cwd):
    """Return the last line that a script prints by itself, the one that it prints under the doctor, and what was found."""
    alone = warm.run([READER / name], cwd)
    code, found, updates, _, beside = watch([sys.executable, READER / name], cwd=cwd, capture=True)
    assert alone.returncode == code == 0 and updates, alone.stderr + beside
    return alone.stdout.splitlines()[-1], beside.splitlines()[-1], found


@pytest.mark.parametrize(
    "name",
    [
        "c2b_loralib.py",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("c3b_stateful.py", "c5_jit.py")),
    ],
)
def test_models_with_a_life_of_their_own_are_left_alone(tmp_path, name):
    """A layer that merges its matrices in train(False), a state kept on the model between batches, a loss compiled by TorchScript: the same bits with the doctor, and no alarm."""
    alone, beside, found = twice(name, tmp_path)
    assert alone == beside and not found


@pytest.mark.long
def test_what_was_evaluated_is_not_kept_in_memory(tmp_path):
    """Seventy batches of pictures go by between two updates: the peak grows by far less than they hold (1.3 GB)."""
    alone, beside, _ = twice("c4_memory.py", tmp_path)
    assert float(beside.split()[-1]) < float(alone.split()[-1]) + 300


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("b1_nocausal_criterion.py", "no-causal-mask"),
        pytest.param("b2_overlap_criterion.py", "train-val-overlap", marks=pytest.mark.long),
    ],
)
def test_a_criterion_is_heard_as_a_function_is(tmp_path, name, wrong):
    """The loss as nn.CrossEntropyLoss, the commonest way to write a loop: a module of its own, and still the loss of the model before it."""
    found = watch([sys.executable, READER / name], cwd=tmp_path, capture=True)[1]
    assert wrong in {finding.name for finding in found if finding.level == "certain"}


SLOW_TO_SAVE = """
import time, torch
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
try:
    while True:
        model(torch.randn(8, 4)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        open("began", "w").close()
except KeyboardInterrupt:
    time.sleep(1.5)
    torch.save(model.state_dict(), "saved.pt")
"""


def test_ctrl_c_lets_the_program_save(tmp_path):
    """Ctrl-C goes to the watched program too, which takes its time to save; then the doctor reports."""
    (tmp_path / "train.py").write_text(SLOW_TO_SAVE)
    command = [Path(sys.executable).with_name("handrail"), "watch", sys.executable, "train.py"]
    heard = lambda: signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs do not hear it
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=heard,
    )
    while process.poll() is None and not (tmp_path / "began").exists():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert (tmp_path / "saved.pt").exists() and "The doctor, after" in said, said


ONE_LINE = """
import sys; sys.path[:0] = [{exam!r}]
import torch
from common import make_tokenizer, stories, tiny_model
from handrail import Doctor
tokenizer = make_tokenizer()
model = tiny_model(tokenizer)
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
doctor = Doctor(model, optimizer=optimizer, tokenizer=tokenizer)
{change}
for text in stories(6):
    loss = model(**(row := tokenizer(text + tokenizer.eos_token, return_tensors="pt")), labels=row["input_ids"]).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
model.save_pretrained("saved")
"""


@pytest.mark.parametrize(
    "change, name",
    [("", "saved-without-tokenizer"), ("model = tiny_model(tokenizer)", "weights-do-not-move")],
)
def test_one_line_is_enough(tmp_path, change, name):
    """A Doctor that nobody asks for a report tells what it found when the program ends: what was saved last, and a model that was swapped behind its back."""
    (tmp_path / "plain.py").write_text(ONE_LINE.format(exam=str(EXAM), change=change))
    done = subprocess.run(
        [sys.executable, "plain.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and f"✗ {name} (certain" in done.stdout, done.stdout + done.stderr


def test_a_callback_for_trainers(tmp_path):
    """trainer.add_callback(Doctor.callback()) in a Trainer script whose collator shifts the labels by hand."""
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    )
    rows = [{"ids": torch.randint(0, 64, (24,))} for _ in range(48)]

    def collate(rows):
        ids = torch.stack([row["ids"] for row in rows])
        return {"input_ids": ids, "labels": torch.cat([ids[:, 1:], ids[:, :1]], 1)}

    how = TrainingArguments(
        str(tmp_path),
        max_steps=6,
        per_device_train_batch_size=8,
        report_to="none",
        use_cpu=True,
        save_strategy="no",
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    callback = Doctor.callback()
    trainer = Trainer(model, how, train_dataset=rows, data_collator=collate, callbacks=[callback])
    trainer.train()
    callback.doctor.close()
    assert [finding.name for finding in callback.doctor.findings] == ["labels-shifted-twice"]


def test_a_probe_that_fails_is_switched_off_and_the_training_continues(listening):
    """Never crash a user's training because of the doctor: reported once, the other probes continue."""
    made = []

    def with_a_bad_probe(*args, **kwargs):
        class Bad:
            def after_step(self, optimizer):
                raise RuntimeError("oh")

        made.append(listening(*args, **kwargs))
        made[0].probes.insert(0, Bad())
        return made[0]

    assert classify(with_a_bad_probe, "never zeroed") == {"gradients-not-zeroed"}
    assert sum("Bad: switched off" in reason for reason in made[0].left_out) == 1


@pytest.mark.parametrize(
    "how, named",
    [
        ("whole", set()),
        ("cut", {"answer-truncated"}),
        ("windows of one text", set()),
        ("sorted", {"time-left-misjudged"}),
    ],
)
def test_rows_that_are_cut_between_two_turns_and_rows_in_order_of_length(listening, how, named):
    """A conversation cut in a question loses its later answers though each answer that is left ends well; rows that never get shorter are sorted, however little they grow."""
    from transformers import LlamaConfig, LlamaForCausalLM

    rng = random.Random(0)
    turn = lambda: (
        [(4, 0)]
        + [(rng.randrange(9, 99), 0) for _ in range(rng.randint(6, 14))]
        + [(rng.randrange(9, 99), 1) for _ in range(rng.randint(4, 9))]
        + [(2, 1)]
    )  # question, answer, end mark
    chats = [[(1, 0), *(token for _ in range(4) for token in turn())] for _ in range(160)]
    if how == "cut":
        chats = [chat[:50] for chat in chats]
    elif how == "windows of one text":
        text = [token for chat in chats for token in chat]
        chats = [text[i : i + 50] for i in range(0, 8000, 50)]
    elif how == "sorted":
        chats.sort(key=len)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=100,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    doctor = listening(model, optimizer=optimizer)
    for i in range(0, 160, 8):
        filled = lambda place, fill: torch.nn.utils.rnn.pad_sequence(
            [torch.tensor([t[place] for t in chat]) for chat in chats[i : i + 8]],
            batch_first=True,
            padding_value=fill,
        )
        ids, said = filled(0, 0), filled(1, 0)
        loss = model(
            input_ids=ids,
            attention_mask=(filled(1, -1) >= 0).long(),
            labels=ids.where(said == 1, -100),
        ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        doctor.step(loss=loss)
    assert {finding.name for finding in doctor.findings} == named, doctor.report()


class Reader(torch.nn.Module):
    """A small transformer over letters; it may read both ways, and may want the places first, then the rows."""

    def __init__(self, causal=True, first=False):
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=not first)
        self.embed, self.inside, self.head = (
            torch.nn.Embedding(64, 32),
            torch.nn.TransformerEncoder(layer, 1, enable_nested_tensor=False),
            torch.nn.Linear(32, 64),
        )
        self.heads = torch.nn.ModuleList(torch.nn.Linear(32, 64) for _ in range(2))
        self.causal, self.first = causal, first

    def forward(self, x, task=None):
        length = x.size(0 if self.first else 1)
        mask = torch.nn.Transformer.generate_square_subsequent_mask(length) if self.causal else None
        hidden = self.inside(self.embed(x), mask=mask)
        return (self.head if task is None else self.heads[task])(hidden)


@pytest.mark.parametrize(
    "how, named",
    [
        ("next token", set()),
        ("next token, places first", set()),
        ("places first, no mask", {"no-causal-mask"}),
        ("typos mended", set()),
        ("an autoencoder", set()),
        ("targets not shifted", {"labels-not-shifted"}),
        ("a task after the other", set()),
        ("gradients dropped before the step", {"weights-do-not-move"}),
    ],
)
def test_other_tasks_are_no_mistakes(listening, how, named):
    """Somebody mends typos, learns one task after another, reads (T, B): no alarm; the mistakes that look like these are still named (a reader found the doctor wrong on each)."""
    torch.manual_seed(0)
    first, causal = (
        "first" in how,
        how not in ("places first, no mask", "typos mended", "an autoencoder"),
    )
    model = Reader(causal, first)
    tasks = "task" in how
    optimizer = torch.optim.AdamW(
        [
            p
            for name, p in model.named_parameters()
            if name.startswith("head.") != tasks or not name.startswith("head")
        ],
        1e-3,
    )
    doctor = listening(model, optimizer=optimizer)
    for i in range(14):
        rows = torch.randint(1, 64, (8, 25))
        x, y = rows[:, :-1], rows[:, 1:]
        if how in ("typos mended", "an autoencoder", "targets not shifted"):
            y = x
        if how == "typos mended":
            x = torch.where(torch.rand(x.shape) < 0.06, torch.randint(1, 64, x.shape), x)
        if first:
            x, y = x.t().contiguous(), y.t().contiguous()
        logits = model(x, task=i // 7 if tasks else None)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()).backward()
        if "dropped" in how:
            for p in model.parameters():
                p.grad = None
        optimizer.step()
        optimizer.zero_grad()
    assert {finding.name for finding in doctor.findings} == named, doctor.report()


@pytest.mark.parametrize("read", [False, True])
def test_a_decoder_that_reads_its_answer_is_named(listening, read):
    """An encoder-decoder whose decoder_input_ids are its labels reaches a loss of 0 on train and val, and can do nothing."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=64,
            d_model=32,
            d_kv=16,
            d_ff=64,
            num_layers=1,
            num_heads=2,
            decoder_start_token_id=0,
            eos_token_id=1,
            pad_token_id=0,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    doctor = listening(model, optimizer=optimizer)
    for _ in range(4):
        ids, labels = (
            torch.randint(2, 64, (4, 20)),
            torch.cat([torch.randint(2, 64, (4, 9)), torch.ones(4, 1, dtype=torch.long)], 1),
        )
        model(
            input_ids=ids, labels=labels, **({"decoder_input_ids": labels} if read else {})
        ).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert {finding.name for finding in doctor.findings} == (
        {"labels-not-shifted"} if read else set()
    ), doctor.report()


GIVEN = {
    "scores": set(),
    "chances": {"softmax-twice"},
    "sigmoid, then its loss": {"softmax-twice"},
    "scores, to nll_loss": {"log-softmax-missing"},
    "logarithms, to nll_loss": set(),
    "chances, to kl_div": {"log-softmax-missing"},
    "logarithms, to kl_div": set(),
    "a second, smaller head": set(),
    "one class after the other": {"sorted-by-class"},
    "answers of other rows": {"nothing-learned"},
    "clipped to nothing": {"rate-too-low"},
    "clipped, then unscaled": {"clipped-while-scaled"},
    "unscaled, then clipped": set(),
    "a rate of its own": set(),
    "an answer that is the question": {"loss-never-changes"},
}


@pytest.mark.parametrize("how", GIVEN)
def test_what_the_loss_is_given_and_whether_it_teaches(listening, how):
    """A loss takes what it is not meant for without a word, and a run may learn nothing at all: each is named, and the right way is not (a third reader found most of these unnamed)."""
    from transformers.optimization import Adafactor

    torch.manual_seed(0)
    F, few = torch.nn.functional, how == "sigmoid, then its loss"
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1 if few else 4)
    )
    optimizer = (
        Adafactor(model.parameters())
        if how == "a rate of its own"
        else torch.optim.SGD(model.parameters(), 0.03)
        if "clipped" in how
        else torch.optim.AdamW(model.parameters(), 3e-3)
    )
    scaler, doctor = (
        torch.amp.GradScaler("cpu", init_scale=1024.0),
        listening(model, optimizer=optimizer),
    )
    for i in range(80):
        labels = (
            torch.full((16,), i // 10 % 4)
            if how == "one class after the other"
            else torch.randint(0, 4, (16,))
        )
        rows = torch.randn(16, 8) + 2 * F.one_hot(labels, 8)
        labels = torch.randint(0, 4, (16,)) if how == "answers of other rows" else labels
        scores = model(rows)
        loss = {
            "chances": lambda: F.cross_entropy(scores.softmax(1), labels),
            "sigmoid, then its loss": lambda: F.binary_cross_entropy_with_logits(
                scores.squeeze(1).sigmoid(), (labels > 1).float()
            ),
            "scores, to nll_loss": lambda: F.nll_loss(scores, labels),
            "logarithms, to nll_loss": lambda: F.nll_loss(scores.log_softmax(1), labels),
            "chances, to kl_div": lambda: F.kl_div(
                scores.softmax(1), F.one_hot(labels, 4).float(), reduction="batchmean"
            ),
            "logarithms, to kl_div": lambda: F.kl_div(
                scores.log_softmax(1), F.one_hot(labels, 4).float(), reduction="batchmean"
            ),
            "a second, smaller head": lambda: (
                F.cross_entropy(scores.repeat(1, 8), labels)
                + F.cross_entropy(scores[:, :2], labels % 2)
            ),
            "an answer that is the question": lambda: (
                -F.logsigmoid(scores - model(rows).detach()).mean()
            ),
        }.get(how, lambda: F.cross_entropy(scores, labels))()
        if "unscaled" in how:
            scaler.scale(loss).backward()
            order = [
                lambda: torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0),
                lambda: scaler.unscale_(optimizer),
            ]
            [step() for step in (order if how.startswith("clipped") else order[::-1])]
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            if how == "clipped to nothing":
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-5)
            optimizer.step()
        optimizer.zero_grad()
    doctor.close()
    assert {finding.name for finding in doctor.findings} == GIVEN[how] and not doctor.left_out, (
        doctor.report()
    )
    assert ("are clipped to a" in doctor.report()) == (how == "clipped to nothing")


MODES = {  # how a run is made -> what should be said of it
    "right": set(),
    "eval mode all along": {"trained-in-eval-mode"},
    "eval mode from the first evaluation on": {"trained-in-eval-mode"},
    "loss on val in training mode": {"evaluated-in-train-mode"},
    "answers on val in training mode": {"evaluated-in-train-mode"},
    "(B, 1) against (B,)": {"loss-broadcast"},
    "four batches, added up": {"accumulation-not-divided"},
    "four batches, averaged": set(),
    "old gradients kept as momentum": set(),
    "a mask upside down": {"mask-misplaced"},
    "a mask at the other end": {"mask-misplaced"},
    "a mask": set(),
    "four batches, cleared between them": {"accumulation-cleared"},
    "a head made after the second optimizer": {"no-gradient"},
    "a search for the rate": set(),
}


@pytest.mark.parametrize("how", MODES)
def test_modes_masks_and_shapes(listening, how):
    """Five readers found these unnamed, or the right way next to them taken for a mistake: nothing crashes and the loss falls."""
    torch.manual_seed(0)
    nn, F, mask, ways = (
        torch.nn,
        torch.nn.functional,
        "mask" in how,
        1 if how.startswith("(B") else 4,
    )

    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.Embedding(50, 16), nn.Linear(16, 4)
            self.layers = nn.TransformerEncoder(
                nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1
            )

        def forward(self, ids):
            padding = (
                ids != 0
                if "upside" in how
                else (ids == 0).flip(1)
                if "other end" in how
                else ids == 0
            )
            return self.head(self.layers(self.words(ids), src_key_padding_mask=padding).mean(1))

    model = (
        Reads()
        if mask
        else nn.Sequential(
            nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, ways)
        )
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    doctor, parts = listening(), 4 if how.startswith("four") else 1

    def rows(n):
        labels = torch.randint(0, 4, (n,))
        ids = torch.randint(1, 50, (n, 20)).where(
            torch.arange(20) < torch.randint(8, 16, (n, 1)), 0
        )
        return (ids if mask else torch.randn(n, 8) + 2 * F.one_hot(labels, 8)), labels

    model.train(not how.endswith("all along"))
    for i in range(50):
        if "search" in how:  # until the loss explodes; then everything as it was
            start = start if i else copy.deepcopy(model.state_dict())
            optimizer.param_groups[0]["lr"] = 1e-4 * 1.5**i if i < 30 else 0.01
            model.load_state_dict(start if i == 30 else model.state_dict())
        if "head" in how and i == 10:
            optimizer = torch.optim.SGD(model.parameters(), 0.01)
            model[4] = nn.Linear(32, ways)
        for p in model.parameters() if "momentum" in how else ():
            p.grad = p.grad * 0.9 if p.grad is not None else None
        for _ in range(parts):
            read, labels = rows(16)
            loss = (
                ((model(read) - labels) ** 2).mean()
                if ways == 1
                else F.cross_entropy(model(read), labels)
            )
            if "cleared" in how:
                optimizer.zero_grad()
            (loss / (1 if "added" in how else parts)).backward()
        optimizer.step()
        if "momentum" not in how:
            optimizer.zero_grad()
        if i % 20 == 19:
            model.train("training mode" in how)
            with torch.no_grad():
                for _ in range(3):
                    read, labels = rows(16)
                    scores = model(read)
                    if how.startswith("loss"):
                        F.cross_entropy(scores, labels)
            model.train("eval mode" not in how)
    doctor.close()
    assert {finding.name for finding in doctor.findings} == MODES[how] and not doctor.left_out, (
        doctor.report()
    )


def test_what_is_called_by_keyword_is_heard(listening, tmp_path):
    """Everything that the doctor wraps takes its arguments by the names that it has in PyTorch and Transformers: a wrapper with names of its own would end the program."""
    from transformers import LlamaConfig, LlamaForCausalLM

    F, model = (
        torch.nn.functional,
        LlamaForCausalLM(
            LlamaConfig(
                vocab_size=20,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
            )
        ),
    )
    optimizer = torch.optim.AdamW(params=model.parameters(), lr=1e-3)
    scheduler, scaler, doctor = (
        torch.optim.lr_scheduler.StepLR(optimizer=optimizer, step_size=9),
        torch.amp.GradScaler("cpu"),
        listening(),
    )
    scores, rows = torch.randn(4, 5, requires_grad=True), torch.randint(3, 20, (2, 8))
    F.cross_entropy(input=scores, target=torch.zeros(4, dtype=torch.long)).backward(
        gradient=torch.ones(()), retain_graph=False
    )
    F.nll_loss(input=scores.log_softmax(1), target=torch.zeros(4, dtype=torch.long))
    F.binary_cross_entropy_with_logits(input=scores, target=torch.ones(4, 5))
    F.ctc_loss(
        log_probs=torch.randn(9, 2, 5).log_softmax(-1),
        targets=torch.ones(2, 3, dtype=torch.long),
        input_lengths=torch.tensor([9, 9]),
        target_lengths=torch.tensor([3, 3]),
    )
    torch.autograd.grad(outputs=scores.sum(), inputs=scores)
    scaler.scale(outputs=model(input_ids=rows, labels=rows).loss).backward(
        inputs=list(model.parameters())
    )
    scaler.unscale_(optimizer=optimizer)
    torch.nn.utils.clip_grad_norm_(parameters=model.parameters(), max_norm=1.0)
    optimizer.step(closure=None)
    scheduler.step(epoch=None)
    torch.save(obj=optimizer.state_dict(), f=tmp_path / "state.pt")
    optimizer.load_state_dict(state_dict=torch.load(f=tmp_path / "state.pt"))
    torch.optim.Optimizer.load_state_dict(
        self=optimizer, state_dict=optimizer.state_dict()
    )  # not heard, and not in the way
    model.generate(inputs=rows, max_new_tokens=2)
    model.resize_token_embeddings(new_num_tokens=24)
    model.save_pretrained(save_directory=tmp_path / "model")
    doctor.close()
    assert doctor.updates == 1 and not doctor.left_out, doctor.left_out


def test_a_model_that_calculates_in_16_bits_is_saved_as_it_is(listening, tmp_path):
    """Trainer and TRL leave autocast on after training: loaded again the model gives other last digits, and is the same model."""
    from accelerate import Accelerator
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    AcceleratorState._reset_state(True)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=100,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
        )
    )
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), 1e-2))
    doctor = listening()
    for _ in range(4):
        rows = torch.randint(0, 100, (4, 32))
        accelerator.backward(model(input_ids=rows, labels=rows).loss)
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(tmp_path / "as it is")
    model.to(torch.bfloat16).save_pretrained(tmp_path / "in 16 bits")
    doctor.close()
    AcceleratorState._reset_state(True)
    assert not {finding.name for finding in doctor.findings} & {"reload-differs"}, doctor.report()
    assert not doctor.left_out, doctor.left_out


# --- files alone ---


def test_data_is_looked_at_before_a_run(tmp_path):
    """Texts of train in val, a broken row, a file sorted by length: all in files alone, before an update is spent."""
    from itertools import islice

    from handrail.data.village import stories

    told = [story["text"] for story in islice(stories(0), 300)]
    write = lambda name, texts: (tmp_path / name).write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in texts)
    )
    write("train.jsonl", told[:250]), write("val.jsonl", told[250:])
    assert not file_checks.look(tmp_path)
    write("val.jsonl", told[250:] + [text.upper() for text in told[:4]])
    with open(tmp_path / "train.jsonl", "a") as file:
        file.write('{"text": "broken\n')
    assert {finding.name for finding in file_checks.look(tmp_path)} == {
        "train-val-overlap",
        "rows-dropped",
    }
    write("train.jsonl", sorted((text * (1 + i % 9) for i, text in enumerate(told[:250])), key=len))
    assert "time-left-misjudged" in {finding.name for finding in file_checks.look(tmp_path)}


def test_what_is_not_there_is_refused(tmp_path):
    """A typing error is no traceback: exit 2 and what to do."""
    for words in (["doctor", tmp_path / "nowhere"], ["doctor"]):
        done = handrail(*words)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr


def test_the_catalogue_is_printed_and_knows_its_lessons():
    """`handrail doctor --list` names every finding in 80 columns; what can be shown is marked."""
    listed = handrail("doctor", "--list").stdout
    assert max(map(len, listed.splitlines())) <= 80
    assert all(f"\n{name}\n" in listed for name in CATALOGUE)
    shown = {name for name, words in CATALOGUE.items() if words.get("lesson")}
    assert shown == lessons.faults().keys() & CATALOGUE.keys()
    explained = {name for words in CATALOGUE.values() for name in words.get("explains", ())}
    assert explained <= CATALOGUE.keys()
    house = HOUSE / "handrail"
    for file in [*house.joinpath("doctor").rglob("*.py"), house / "data" / "file_checks.py"]:
        for name, way in re.findall(r'"([a-z0-9-]+)/([a-z0-9-]+)"', file.read_text()):
            assert name not in CATALOGUE or way in CATALOGUE[name], f"{file.name}: {name}/{way}"


def test_a_saved_folder_is_looked_at(tmp_path):
    """A model without its tokenizer, and one saved with LoRA's names: found in the folder, before anybody loads it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    )
    model.save_pretrained(tmp_path / "model")
    assert {finding.name for finding in saved.look(tmp_path / "model")} == {
        "saved-without-tokenizer"
    }
    from safetensors.torch import save_file

    save_file(
        {f"module.{name}": p.detach().clone() for name, p in model.named_parameters()},
        tmp_path / "model" / "model.safetensors",
    )
    assert {finding.name for finding in saved.look(tmp_path / "model")} == {
        "saved-without-tokenizer",
        "reload-differs",
    }


# --- what only shows after the fact ---


@pytest.mark.parametrize("graph, named", [(False, False), (True, True)])
def test_an_evaluation_that_keeps_gradients_is_named(listening, graph, named):
    """An evaluation without no_grad dies hours in, of memory: four of its passes are enough to say so, and one with no_grad is no alarm."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.1), torch.nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    doctor = listening(model, optimizer=optimizer)
    for _ in range(3):
        torch.nn.functional.cross_entropy(
            model(torch.randn(16, 4)), torch.randint(0, 3, (16,))
        ).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.set_grad_enabled(graph):
        for _ in range(6):
            torch.nn.functional.cross_entropy(model(torch.randn(16, 4)), torch.randint(0, 3, (16,)))
    assert ("out-of-memory-late" in {finding.name for finding in doctor.findings}) == named


def test_weights_saved_without_the_optimizer_are_named(listening, tmp_path):
    """A checkpoint of which only half was read makes the loss jump: the other half is next to it, unread. Weights that are alone are no alarm."""
    for folder, alarm in ((tmp_path / "alone", False), (tmp_path / "both", True)):
        folder.mkdir()
        model = torch.nn.Linear(4, 3)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        torch.save(model.state_dict(), folder / "model.pt")
        if alarm:
            torch.save(optimizer.state_dict(), folder / "optimizer.pt")
        doctor = listening(model, optimizer=optimizer)
        model.load_state_dict(torch.load(folder / "model.pt"))
        torch.nn.functional.cross_entropy(
            model(torch.randn(16, 4)), torch.randint(0, 3, (16,))
        ).backward()
        optimizer.step()
        assert (
            "resume-without-optimizer" in {finding.name for finding in doctor.findings}
        ) == alarm, doctor.report()
        doctor.close()


def test_rows_that_never_became_tokens_are_named(walked):
    """A filter that drops rows says nothing: the doctor holds the data against the tokens, and is quiet where all of it came through."""
    project = walked[0]
    assert "rows-dropped" not in {finding.name for finding in file_checks.look(project)}
    tokenizer = saved.open_tokenizer(project / "out" / "tokenizer")
    settings = {"data": "other.jsonl"}
    rows = (project / "village.jsonl").read_text().splitlines()[:300]
    dropped = [
        json.dumps({"text": f"A story that a filter did not like, number {i}."}) for i in range(30)
    ]
    (project / "other.jsonl").write_text("\n".join([*rows[:100], *dropped, *rows[100:]]) + "\n")
    found = list(file_checks.look_at_prepared(project, settings, tokenizer))
    (project / "other.jsonl").unlink()
    assert [finding.name for finding in found] == ["rows-dropped"] and "30 of the first" in found[
        0
    ].evidence, found
