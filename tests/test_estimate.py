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
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3MoeConfig

from handrail import budget, rehearsal
from handrail.project import PROGRAM, Project, Stop


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
    """Return (peak in bytes, FLOPs of the products of matrices, shapes of the batches) of a real
    update on this CPU, as PyTorch's own profiler has them.
    """
    AcceleratorState._reset_state(True)
    accelerator = Accelerator(cpu=True, mixed_precision="no" if precision == "fp32" else precision)
    program = project.load("train", "model", "optimizer", "finetune", "packing")
    batches = (
        budget.pretrain_rows(chosen, 1)
        if script == "pretrain"
        else budget.finetune_rows(program, chosen, 1, project.out, None)
    )
    batches = [
        {
            key: torch.zeros_like(value)
            if key != "positions" and key != "keep" and isinstance(value, torch.Tensor)
            else value
            for key, value in b.items()
        }
        for b in batches
    ]
    if script == "pretrain":
        model, loss = (
            program.model.build(chosen, budget.vocabulary_only(chosen.vocabulary)),
            program.train.next_token_loss,
        )
        optimizer = program.optimizer.make_optimizer(model, chosen.lr)
    else:
        model, loss = program.finetune.load(chosen)[0], program.finetune.answer_loss
        optimizer = program.finetune.choose_optimizer(model, chosen)
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
            program.train.update(accelerator, model, share, loss, optimizer, 1.0)
    with FlopCounterMode(display=False) as flops:  # afterwards: it keeps activations alive
        program.train.update(accelerator, model, batches, loss, optimizer, 1.0)
    # A free counts only if this profile saw its allocation: PyTorch keeps the sizes of earlier
    # profiles, and reports a free at an address that was theirs with their size.
    here = set()
    for event in sorted(memory_events(seen), key=lambda event: event.start_time_ns):
        pointer, size = event.extra_fields.ptr, event.extra_fields.alloc_size
        if size > 0:
            here.add(pointer)
        if pointer in here:
            level += size
            most = max(most, level)
    accelerator.free_memory()
    AcceleratorState._reset_state(True)
    return most, flops.get_total_flops(), [batch["inputs"].shape for batch in batches]


NEW = {
    "base": "",
    "size": "1m",
    "vocabulary": 1024,
    "batch": 8,
    "context": 128,
    "lr": 1e-3,
    "rows_at_once": 0,
}
TUNE = {"lr": 1e-3, "batch": 4, "context": 128}


def agree(project, script, chosen, checkpointing, precision, layers, width, experts=0):
    """Hold the count on fake tensors against the profiler of the real update; PyTorch's counter of
    FLOPs leaves out attention on a CPU, and `experts`, FLOPs for each token.
    """
    chosen = values(project, **chosen)
    fake = budget.rehearse(project, script, chosen, checkpointing, gpu=False, precision=precision)
    peak, flops, rows = really(project, script, chosen, checkpointing, precision)
    attention = (
        4 * layers * width * sum(b * t * t for b, t in rows) * (4.5 if checkpointing else 3.5)
    )  # two products there, five back
    assert fake.peak == pytest.approx(peak, rel=0.005)
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
    agree within 0.5 %.
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
        TUNE | {"model": str(little), "method": "lora"},
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
    tokenizer, sizes = (
        budget.a_tokenizer(),
        {
            "hidden_size": 128,
            "moe_intermediate_size": 96,
            "num_experts": 8,
            "num_experts_per_tok": 2,
        },
    )
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
    tokenizer = budget.a_tokenizer()
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


def test_a_large_model_is_rehearsed_from_its_configuration_alone(tmp_path):
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
        "rehearse",
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
        "rehearse",
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
        done = handrail("rehearse", *words, cwd=tmp_path)
        assert done.returncode == 2, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr and done.stderr.strip()
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "model-q8.gguf").write_bytes(b"GGUF")
    done = handrail("rehearse", "--from", "small", "--method", "lora", cwd=tmp_path)
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
def test_what_no_run_could_be_is_refused(tmp_path, config, words, said):
    """A table of GPUs for a run that would die in its first second would cost money."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(Stop, match=said):
        rehearsal.main(
            [
                *(["--from", str(tmp_path), "--method", "lora"] if config else ["--size", "5m"]),
                *words,
            ]
        )


def test_the_learners_own_files_are_rehearsed(project):
    """What is counted is the project as its owner edited it, not as it was handed over."""
    small = budget.rehearse(project, "pretrain", values(project, **NEW))
    file = project.folder / "model.py"
    file.write_text(file.read_text().replace('"1m": (4, 128)', '"1m": (8, 128)'))
    large = budget.rehearse(project, "pretrain", values(project, **NEW))
    assert large.parameters > 1.5 * small.parameters and large.peak > 1.5 * small.peak


@pytest.mark.gpu
def test_memory_on_a_card(project, little):
    """Where there is a card: the count is within 5 % of what it measures at its peak."""
    for chosen in (
        NEW | {"size": "25m", "context": 512},
        NEW | {"size": "85m", "context": 1024, "batch": 4},
    ):
        chosen = values(project, **chosen)
        fake = budget.rehearse(project, "pretrain", chosen)
        AcceleratorState._reset_state(True)
        accelerator, program = (
            Accelerator(mixed_precision="bf16"),
            project.load("train", "model", "optimizer"),
        )
        model = program.model.build(chosen, budget.vocabulary_only(chosen.vocabulary))
        model, optimizer = accelerator.prepare(model, program.optimizer.make_optimizer(model, 1e-3))
        batches = budget.pretrain_rows(chosen, 1)
        torch.cuda.reset_peak_memory_stats()
        for _ in range(2):
            program.train.update(
                accelerator, model, batches, program.train.next_token_loss, optimizer, 1.0
            )
        assert fake.peak == pytest.approx(torch.cuda.max_memory_allocated(), rel=0.05)
        accelerator.free_memory()
