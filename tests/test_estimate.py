"""Know before you spend: what is counted on fake tensors is what a real update takes."""

import gc
import json
import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from conftest import handrail
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen3MoeConfig,
)

from handrail import cli
from handrail.cost import estimate
from handrail.cost.gpus import DRIVER, GAPS, gpus, known
from handrail.project.project import PROGRAM, Project


@pytest.fixture
def project(tmp_path):
    """A project with all files and nothing made yet."""
    for file in PROGRAM.glob("*.py"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "settings.toml").write_text("[finetune]\n")
    return Project(tmp_path, cpu=True)


def values(project, **chosen):
    found = project.load().settings.read("", ["--cpu"], "finetune")
    vars(found).update(chosen)
    return found


def simple_tokenizer():
    """Return a small tokenizer that can chat."""
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"]
    bare = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    marks = dict.fromkeys(("eos_token", "bos_token", "pad_token"), "<end>")
    found = PreTrainedTokenizerFast(tokenizer_object=bare, **marks)
    found.chat_template = (
        "{% for m in messages %}{{ m['role'] + m['content'] + '<end>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant' }}{% endif %}"
    )
    return found


def memory_events(profile):
    """Return every allocation and free that a profile saw, with its address."""
    found, waiting = [], list(profile.profiler.kineto_results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if hasattr(event.extra_fields, "alloc_size"):
            found.append(event)
    return found


def really(project, script, chosen, checkpointing, precision):
    """Return (peak in bytes, bytes of the batch, FLOPs of the products of matrices, shapes of the
    batch's parts) of a real update on this CPU, as PyTorch's own profiler has them.

    The batch is there before the profiler begins, so its peak is without.
    """
    AcceleratorState._reset_state(True)
    accelerator = Accelerator(cpu=True, mixed_precision="no" if precision == "fp32" else precision)
    run = estimate.pretraining if script == "pretrain" else estimate.finetuning
    train, make, loss, batches, _ = run(project, chosen, 1, "no")
    model, optimizer = make()
    if checkpointing:
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        if script == "finetune" and chosen.method == "lora":
            model.enable_input_require_grads()
    model.train()
    gc.collect()  # what tests before this one left would go in the middle of it, and count
    level = most = sum(
        tensor.nbytes for tensor in [*model.parameters(), *model.buffers()]
    )  # on a CPU, what was loaded are views of a whole file
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        model, optimizer = accelerator.prepare(model, optimizer)
        for share in (batches[:1], batches):
            gc.collect()
            train.update(accelerator, model, share, loss, optimizer, 1.0)
    with FlopCounterMode(display=False) as flops:  # afterwards: it keeps activations alive
        train.update(accelerator, model, batches, loss, optimizer, 1.0)
    # A free counts only if this profile saw its allocation: PyTorch keeps the sizes of earlier
    # profiles, and reports a free at an address that was theirs with their size.
    here = {}
    for event in sorted(memory_events(seen), key=lambda event: event.start_time_ns):
        pointer, size = event.extra_fields.ptr, event.extra_fields.alloc_size
        if size > 0:
            here[pointer] = size
            level += size
            most = max(most, level)
        else:
            level -= here.pop(pointer, 0)
    accelerator.free_memory()
    AcceleratorState._reset_state(True)
    held = sum(x.nbytes for part in batches for x in part.values() if torch.is_tensor(x))
    return most, held, flops.get_total_flops(), [part["inputs"].shape for part in batches]


NEW = {
    "base": "",
    "size": "1m",
    "vocabulary": 1024,
    "batch": 8,
    "context": 128,
    "lr": 1e-3,
    "rows_at_once": 0,
}
TUNE = {"lr": 1e-3, "batch": 4, "context": 128, "rows_typed": 2}  # two packed into one


def agree(project, script, chosen, checkpointing, precision, layers, width, experts=0):
    """Hold the count on fake tensors against the profiler of the real update; PyTorch's counter of
    FLOPs leaves out attention on a CPU, and `experts`, FLOPs for each token.
    """
    chosen = values(project, **chosen)
    fake = estimate.count(project, script, chosen, checkpointing, gpu=False, precision=precision)
    states = 8192 if checkpointing else 0  # it keeps the random states, which no operation makes
    peak, held, flops, rows = really(project, script, chosen, checkpointing, precision)
    attention = (
        4 * layers * width * sum(b * t * t for b, t in rows) * (4.5 if checkpointing else 3.5)
    )  # two products there, five back
    assert -states <= fake.peak - peak <= held
    assert sum(fake.kinds.values()) == fake.peak
    assert fake.flops == pytest.approx(
        flops + attention + experts * sum(b * t for b, t in rows), rel=1e-3
    )


@pytest.mark.parametrize(
    "chosen, checkpointing, precision",
    [
        pytest.param(NEW, False, "fp32", marks=pytest.mark.long),
        (NEW | {"rows_at_once": 3}, False, "bf16"),
        (
            NEW | {"rows_at_once": 1},
            False,
            "fp32",
        ),  # eight batches of one shape: three are run, and represent all
        (NEW, True, "bf16"),
        pytest.param(
            NEW | {"size": "5m", "context": 256, "batch": 2}, False, "bf16", marks=pytest.mark.long
        ),
    ],
)
def test_memory_and_arithmetic_of_a_new_model(project, chosen, checkpointing, precision):
    """A GPU is chosen by this figure: fake tensors and PyTorch's own profiler of the real update
    agree to the byte.
    """
    agree(
        project,
        "pretrain",
        chosen,
        checkpointing,
        precision,
        *{"1m": (4, 128), "5m": (6, 256)}[chosen["size"]],
    )


@pytest.mark.parametrize(
    "method, checkpointing, precision",
    [
        ("full", True, "bf16"),
        ("lora", False, "bf16"),
        *(
            pytest.param(*how, marks=pytest.mark.long)
            for how in (("lora", True, "fp32"), ("full", False, "fp32"))
        ),
    ],
)
def test_memory_and_arithmetic_of_fine_tuning(project, little, method, checkpointing, precision):
    """The same for a pretrained model: its weights are never read, packed rows keep their mask,
    LoRA's freeze counts.
    """
    agree(
        project,
        "finetune",
        TUNE | {"model": str(little), "method": method},
        checkpointing,
        precision,
        3,
        128,
    )


def test_memory_of_corrections_with_weights_in_16_bits(project, little):
    """LoRA's frozen weights take half the memory on a card: the count knows it, to the byte."""
    file = project.folder / "finetune.py"
    text = file.read_text()
    only_there = 'torch.bfloat16 if lora and precision == "bf16" else torch.float32'
    assert text.count(only_there) == 1
    file.write_text(text.replace(only_there, "torch.bfloat16"))  # on this CPU too
    agree(
        project,
        "finetune",
        TUNE | {"model": str(little), "method": "lora", "rows_typed": 1},
        False,
        "bf16",
        3,
        128,
    )


@pytest.mark.parametrize(
    "method, checkpointing, precision",
    [
        ("full", True, "bf16"),
        ("lora", False, "bf16"),
        pytest.param("full", False, "fp32", marks=pytest.mark.long),
    ],
)
def test_memory_and_arithmetic_of_a_mixture_of_experts(
    project, tmp_path, method, checkpointing, precision
):
    """Most large open models today: all experts' weights take memory, only those that a token meets
    take arithmetic.
    """
    tokenizer = simple_tokenizer()
    sizes = {"hidden_size": 128, "moe_intermediate_size": 96}
    sizes |= {"num_experts": 8, "num_experts_per_tok": 2}
    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        **sizes,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "experts")
    tokenizer.save_pretrained(tmp_path / "experts")
    one = (
        2 * 2 * 3 * 96 * 128
        # a token's pass through a layer's two experts, three matrices each, a product and a sum a
        # weight
    )
    passes = (
        3 + checkpointing
        # there, back to the rows and to the weights (PEFT puts LoRA on experts too), there again
    )
    agree(
        project,
        "finetune",
        TUNE | {"model": str(tmp_path / "experts"), "method": method},
        checkpointing,
        precision,
        3,
        128,
        3 * passes * one,
    )


@pytest.fixture
def little(tmp_path):
    """A small Llama with random weights and a tokenizer, as a Transformers folder."""
    tokenizer = simple_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    folder = tmp_path / "little"
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def config_only(folder, **sizes):
    """Write the configuration of a Llama, and no weights."""
    LlamaConfig(**sizes).save_pretrained(folder)
    return folder


def test_a_large_model_is_counted_from_its_configuration_alone(tmp_path):
    """On a laptop: 1.2 billion weights that are not there, in less than 2 GB of real memory, with
    time and cost next to it.
    """
    sizes = {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    }
    model = config_only(tmp_path / "big", **sizes)
    code = (
        "import sys, resource; from handrail.cli import main; code = main(sys.argv[1:]);"
        "print('real GB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6); sys.exit(code)"
    )
    words = [
        "estimate",
        "--from",
        str(model),
        "--batch",
        "4",
        "--context",
        "1024",
        "--rows-at-once",
        "4",
        "--updates",
        "1000",
    ]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1,235,814,400 weights" in done.stdout
    assert float(done.stdout.split("real GB")[1]) < 2
    assert "cheapest" in done.stdout and "fastest" in done.stdout and "$" in done.stdout


def test_too_large_for_every_gpu(tmp_path):
    """A run that fits nowhere must not look possible: exit 1, and what to change with what it would
    save.
    """
    sizes = {
        "hidden_size": 8192,
        "intermediate_size": 114688,
        "num_hidden_layers": 3,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    }
    done = handrail(
        "estimate",
        "--from",
        config_only(tmp_path / "huge", **sizes),
        "--batch",
        1,
        "--context",
        512,
        "--method",
        "full",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "fits none" in done.stdout and "--method lora" in done.stdout and "FSDP" in done.stdout


def test_what_is_typed_wrong(tmp_path):
    """A newcomer's slip gets a sentence and exit 2, no traceback."""
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text(json.dumps({"model_type": "no-such-model"}))
    for words in (
        ["--from", "odd"],
        ["--size", "7b"],
        ["--size", "1m", "--gpus", "0"],
        ["--size", "1m", "--batch", "-3"],
        ["--method", "lora"],
        ["nowhere", "--gpus", "2"],
    ):
        done = handrail("estimate", *words, cwd=tmp_path)
        assert done.returncode == 2, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr and done.stderr.strip()
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "model-q8.gguf").write_bytes(b"GGUF")
    done = handrail("estimate", "--from", "small", "--method", "lora", cwd=tmp_path)
    assert done.returncode == 2 and "GGUF file (model-q8.gguf)" in done.stderr, done.stderr


@pytest.mark.parametrize(
    "config, words, said",
    [
        ({"model_type": "llama", "hidden_size": "big"}, [], "could not be opened"),
        (
            {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
            [],
            "no causal language model",
        ),
        ({"model_type": "gpt2"}, ["--context", "4096"], "can read 1,024 tokens"),
        (None, ["--batch", "3", "--gpus", "8"], "cannot be divided"),
        (None, ["--batch", str(10**12)], "two billion"),
    ],
)
def test_what_no_run_could_be_is_refused(tmp_path, capsys, config, words, said):
    """A table of GPUs for a run that would die in its first second would cost money."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    what = ["--from", str(tmp_path), "--method", "lora"] if config else ["--size", "5m"]
    assert cli.main(["estimate", *what, *words]) == 2
    assert said in capsys.readouterr().err


def test_the_learners_own_files_are_counted(project):
    """What is counted is the project as its owner edited it, not as it was handed over."""
    small = estimate.count(project, "pretrain", values(project, **NEW))
    file = project.folder / "model.py"
    file.write_text(file.read_text().replace('"1m": (4, 128)', '"1m": (8, 128)'))
    large = estimate.count(project, "pretrain", values(project, **NEW))
    assert large.parameters > 1.5 * small.parameters and large.peak > 1.5 * small.peak


def test_fine_tuning_counts_the_rows_that_were_typed(project, little):
    """Four rows at once take more memory than one, for the same tokens: a GPU is chosen by that."""
    chosen = values(project, **TUNE | {"model": str(little), "method": "full", "rows_typed": 1})
    one = estimate.count(project, "finetune", chosen)
    chosen.rows_typed = 4
    four = estimate.count(project, "finetune", chosen)
    assert one.tokens == four.tokens == 4 * 128
    assert four.kinds["activations"] > 3 * one.kinds["activations"] and four.peak > one.peak


def test_frozen_weights_take_16_bits_where_the_card_has_bf16(project, little):
    """A T4 has no bf16, so LoRA's frozen weights take 32 bits there."""
    chosen = values(project, **TUNE | {"model": str(little), "method": "lora"})
    counted, offered = estimate.weigh(project, "finetune", chosen)
    frozen = counted["bf16"].parameters - counted["bf16"].trained
    more = counted["fp16"].kinds["weights"] - counted["bf16"].kinds["weights"]
    assert more == pytest.approx(2 * frozen, rel=0.01)
    assert [offer.name for offer in offered if not gpus()[offer.name].get("bf16", True)] == ["T4"]


def test_a_gpu_is_known_by_its_whole_name():
    """An RTX A1000 is no A100, an L40 no L4, an L40S no L40: other figures, another choice."""
    for other in ("NVIDIA RTX A1000", "NVIDIA L400", "NVIDIA GeForce RTX 4070 Ti", "NVIDIA"):
        assert known(other) is None, other
    assert known("NVIDIA L4") == gpus()["L4"] and known("NVIDIA L40S") == gpus()["L40S"]
    assert known("NVIDIA L40") == gpus()["L40"]
    names = [name for gpu in gpus().values() for name in gpu["names"]]
    assert len(names) == len(set(names))
    for name, gpu in gpus().items():
        assert 10e9 < gpu["memory"] < 300e9, name  # bytes
        assert "price" not in gpu or {"where", "source", "read"} <= set(gpu), name


def test_as_many_rows_as_fit(project):
    """The number of rows that is named fills the card and no more."""
    chosen = values(project, **NEW)
    small = estimate.count(project, "pretrain", chosen)
    room = 4e8
    rows = estimate.most_rows(small, room * (1 + GAPS) + DRIVER, chosen.batch)
    chosen.batch = rows
    assert rows > 20
    assert estimate.count(project, "pretrain", chosen).peak == pytest.approx(room, rel=0.05)


def test_the_estimate_as_json(tmp_path):
    """An agent reads one object: bytes, tokens, GPUs; and what a person is told."""
    done = handrail("estimate", "--size", "1m", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["peak_bytes"] == sum(found["kinds"].values())
    assert found["tokens_per_update"] == 32 * 256
    t4 = next(gpu for gpu in found["gpus"] if gpu["name"] == "T4")
    assert t4["fit"] == "yes" and 0 < t4["hours"][0] <= t4["hours"][1] and t4["dollars"][0] > 0
    assert found["checks"][0]["verdict"] == "pass" and any(
        "torch.compile" in t for t in found["tells"]
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
def test_memory_on_a_card(project):
    """Where there is a card: the count is within 5 % of what it measures at its peak."""
    for chosen in (
        NEW | {"size": "25m", "context": 512},
        NEW | {"size": "85m", "context": 1024, "batch": 4},
    ):
        chosen = values(project, **chosen)
        fake = estimate.count(project, "pretrain", chosen)
        AcceleratorState._reset_state(True)
        accelerator = Accelerator(mixed_precision="bf16")
        train, make, loss, batches, _ = estimate.pretraining(project, chosen, 1, "bf16")
        model, optimizer = accelerator.prepare(*make())
        torch.cuda.reset_peak_memory_stats()
        for _ in range(2):
            train.update(accelerator, model, batches, loss, optimizer, 1.0)
        assert fake.peak == pytest.approx(torch.cuda.max_memory_allocated(), rel=0.05)
        accelerator.free_memory()
