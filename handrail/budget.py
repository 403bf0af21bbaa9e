"""What an update needs, which GPU it fits, how long it takes and what it costs, before any money is spent.

Memory is counted, operation by operation (estimate.py). Time is calculated: an operation takes as long as its arithmetic or
its reading and writing, whichever is longer, at a part of what the data sheet promises. So memory is near, and time a range.
"""

import copy
import io
import json
import math
import tomllib
import traceback
import warnings
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from handrail.project import Stop

GB = 1e9
DRIVER = 0.6  # GB that a CUDA program takes before it holds a tensor: context and kernels; 0.3 to 0.9 on cards of today
GAPS = 0.10  # what the allocator keeps and cannot use, as a share of the peak, at most; often half of it
# share of the data sheet's arithmetic and of its bandwidth that a good program reaches, seconds to start an operation, and
# the share of reading and writing that is left: a compiled program does several operations in one pass over memory; `wide`:
# how many times longer products of 32-bit numbers take, from card to card
FAST = SimpleNamespace(arithmetic=0.70, bandwidth=0.85, start=2e-6, traffic=0.35, wide=2)
SLOW = SimpleNamespace(arithmetic=0.45, bandwidth=0.70, start=10e-6, traffic=1.0, wide=16)


def gpus():
    """Return {name: what gpus.toml says of it}."""
    return tomllib.loads(Path(__file__).with_name("gpus.toml").read_text())


def seconds(operations, gpu, way, precision="bf16"):
    """Return how long an update takes on `gpu`: each of its (FLOPs, bytes) at the slower of arithmetic and memory."""
    rate, width = gpu["tflops"] * 1e12 * way.arithmetic, gpu["bandwidth"] * GB * way.bandwidth
    rate /= way.wide if precision == "fp32" else 1
    return sum(
        max(flops / rate, (1 if flops else way.traffic) * moved / width, way.start)
        for flops, moved in operations
    )


def fits(peak, memory):
    """Return "yes", "perhaps" or "no": whether `peak` bytes of tensors fit next to the driver and the gaps that the allocator leaves."""
    least, most = peak / GB + DRIVER, peak / GB * (1 + GAPS) + DRIVER
    return "yes" if most <= memory * 0.98 else "perhaps" if least <= memory else "no"


@dataclass
class Offer:
    """One GPU, for one run: does it fit, hours and dollars from and to."""

    name: str
    memory: float
    fit: str
    hours: tuple
    price: float
    where: str
    source: str

    @property
    def cost(self):
        return tuple(hours * self.price for hours in self.hours)


def offers(update, peak, updates, processes=1, price=None, precision="bf16", live=None):
    """Return an Offer for every GPU known, for `updates` updates; with several, `update` is the share of one."""
    found = []
    for name, gpu in gpus().items():
        hours = tuple(
            seconds(update.operations, gpu, way, precision) * updates / 3600 for way in (FAST, SLOW)
        )
        hours = (
            hours if processes == 1 else (hours[0] * 1.05, hours[1] * 1.3)
        )  # they wait for one another
        today = (live or {}).get(gpu.get("flavor"))
        cost = (price or today or gpu["price"]) * processes
        source = (
            "your price"
            if price
            else "hf jobs hardware, today"
            if today
            else f"{gpu['source']}, {gpu['read']}"
        )
        found.append(
            Offer(name, gpu["memory"], fits(peak, gpu["memory"]), hours, cost, gpu["where"], source)
        )
    return found


# --- a project's own update, on fake tensors ---


def no_weights(kind):
    """Return a stand-in for from_pretrained of an Auto class of models: built from the configuration, no weights are read."""
    from transformers import AutoConfig

    def build(name, dtype=None, **_):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        no_writer = Stop(
            f"{name} is a {config.model_type}, which is no causal language model: it does not write one token after another."
        )
        if config.is_encoder_decoder:
            raise Stop(
                f"{name} is a {config.model_type}: it has an encoder that reads and a decoder that writes. handrail trains models of one part, which continue a text (causal language models)."
            )
        if any(
            made.endswith(("ForMaskedLM", "ForPreTraining")) for made in config.architectures or []
        ):
            raise no_writer
        try:
            return kind.from_config(config, dtype=dtype)
        except ValueError as error:
            raise no_writer from error

    return build


def a_tokenizer():
    """Return a small tokenizer that can chat, for a model folder without one: only the size of its vocabulary matters."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = {
        token: i for i, token in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"])
    }
    bare = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found = PreTrainedTokenizerFast(
        tokenizer_object=bare, eos_token="<end>", bos_token="<end>", pad_token="<end>"
    )
    found.chat_template = "{% for m in messages %}{{ m['role'] + m['content'] + '<end>' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant' }}{% endif %}"
    return found


def vocabulary_only(size):
    """Return what model.py asks of a tokenizer when a new model is built: how many tokens, and which ends a text."""
    return type(
        "Vocabulary",
        (),
        {"__len__": lambda _: size, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0},
    )()


def pretrain_rows(values, processes):
    """Return the batches of one update: this process's rows, as many at once as the settings say."""
    import torch

    mine = max(1, values.batch // processes)
    at_once = min(values.rows_at_once or mine, mine)
    sizes = [at_once] * (mine // at_once) + [mine % at_once] * bool(mine % at_once)
    empty = lambda n: torch.zeros(n, values.context, dtype=torch.long)
    return [{"inputs": empty(n), "targets": empty(n), "count": n * values.context} for n in sizes]


def finetune_rows(program, values, processes, folder, tokenizer):
    """Return the batches of one update: the one with most tokens, of the project's own chats; rows of a guessed length without."""
    if (folder / "train.jsonl").exists():
        chats = program.messages.load_rows(folder / "train.jsonl")
        rows = [
            (ids[: values.context], said[: values.context])
            for chat in chats
            for ids, said in program.messages.encode(tokenizer, chat["messages"])
        ]
        batches = program.packing.message_batches(rows, values, 0, processes)
        updates = [
            batches(step)
            for step in range(min(values.updates, math.ceil(len(rows) / values.batch), 200))
        ]
        return max(updates, key=lambda update: max(batch["inputs"].numel() for batch in update))
    each = [
        (
            [1] * (values.context // 2),
            [False] * (values.context // 4) + [True] * (values.context // 4),
        )
    ] * 2  # two in a row, half of each an answer
    return [program.packing.pack(each)] * max(1, values.batch // 2 // processes)


def pretraining(project, values, processes, precision):
    """Return (train.py, make, loss, batches, vocabulary, are rows packed) of a training from texts."""
    from transformers import AutoTokenizer

    program = project.load("train", "optimizer", "model")
    try:
        tokenizer = AutoTokenizer.from_pretrained(project.out / "tokenizer")
    except (OSError, ValueError):  # not made yet: its size is enough
        tokenizer = vocabulary_only(getattr(values, "vocabulary", 8192))

    def make():
        model = program.model.build(values, tokenizer)
        return model, lambda model: program.optimizer.make_optimizer(model, values.lr)

    return (
        program.train,
        make,
        program.train.next_token_loss,
        pretrain_rows(values, processes),
        len(tokenizer),
        False,
    )


def finetuning(project, values, processes, precision):
    """Return the same of a training from questions and answers; where the model has no tokenizer, a small one is used."""
    from transformers import AutoTokenizer

    program, name = (
        project.load("train", "optimizer", "finetune", "messages", "packing"),
        local(project, values.model),
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError):
        tokenizer = a_tokenizer()
    bare = copy.deepcopy(tokenizer)
    large = SimpleNamespace(num_embeddings=math.inf)  # a model that needs no rows for new marks
    program.messages.add_template(
        tokenizer,
        SimpleNamespace(get_input_embeddings=lambda: large, generation_config=SimpleNamespace()),
    )

    def make():
        with patch.object(AutoTokenizer, "from_pretrained", lambda *_, **__: copy.deepcopy(bare)):
            model, _ = program.finetune.load(values, precision)
        return model, lambda model: program.finetune.choose_optimizer(model, values)

    rows = finetune_rows(program, values, processes, project.out / "chats", tokenizer)
    return (
        program.train,
        make,
        program.finetune.answer_loss,
        rows,
        len(tokenizer),
        rows[0]["rows"] > 1,
    )


@contextmanager
def telling(project):
    """Say as a Stop which line of the learner's files cannot run on fake tensors."""
    try:
        yield
    except Stop:
        raise
    except Exception as error:
        every = traceback.extract_tb(error.__traceback__)
        frames = [frame for frame in every if Path(frame.filename).parent == project.folder]
        if not frames or any("/transformers/models/" in frame.filename for frame in every):
            raise Stop(
                "This model cannot be rehearsed on fake tensors: its own code asks for numbers "
                f"({type(error).__name__}: {str(error).splitlines()[0][:120]}). A dense model of as many parameters is an upper bound."
            ) from error
        where = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: {frames[-1].line}"
        raise Stop(
            f"The rehearsal stopped at {where}\n{type(error).__name__}: {str(error).splitlines()[0][:200]}\nIt runs on tensors that have a shape but no "
            "numbers. If this line reads a number back (which also makes a GPU wait), move it out of `update`, to `fit`."
        ) from error


def local(project, name):
    """Return a model's folder as seen from the project, or its name on the hub."""
    return project.folder / name if (project.folder / name).exists() else name


def rehearse(project, script, values, checkpointing=False, processes=1, gpu=True, precision=None):
    """Return the estimate.Update of a project's own update, made with fake tensors on its own files.

    gpu: as on a CUDA card (bf16 if no `precision` is named), else as on this CPU (fp32). Raises Stop for a model that
    cannot be opened.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from transformers import AutoConfig, AutoModelForCausalLM

    from handrail import estimate
    from handrail.plan import opened

    name = values.base if script == "pretrain" else values.model
    config = opened(AutoConfig, local(project, name)) if name else None
    wide = precision == "fp32" or not (gpu or precision)
    way = pretraining if script == "pretrain" else finetuning
    # LoRA's frozen weights are in 16 bits on a card only
    frozen = "bf16" if gpu and not wide else "no"
    train, make_model, loss, rows, vocabulary, packed = way(project, values, processes, frozen)
    ledger = estimate.Ledger(
        config.get_text_config().vocab_size if config else vocabulary, answer=not packed
    )

    def make():
        model, optimizer = make_model()
        if checkpointing:
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
            if script == "finetune" and values.method == "lora":
                model.enable_input_require_grads()
        return model, optimizer(model)

    AcceleratorState._reset_state(True)
    accelerator = Accelerator(
        cpu=True, mixed_precision="no" if wide else "bf16"
    )  # fp16 takes the bytes of bf16
    with ExitStack() as stack:
        stack.enter_context(telling(project))
        stack.enter_context(
            patch.object(AutoModelForCausalLM, "from_pretrained", no_weights(AutoModelForCausalLM))
        )
        stack.enter_context(estimate.pretending(gpu))
        stack.enter_context(
            redirect_stdout(io.StringIO())
        )  # what the program prints are no real numbers
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        batches = [
            {
                key: torch.empty_like(value) if isinstance(value, torch.Tensor) else value
                for key, value in batch.items()
            }
            for batch in rows
        ]
        found = estimate.keep_books(accelerator, train, make, batches, loss, ledger)
    accelerator.free_memory()
    AcceleratorState._reset_state(True)
    return found


# --- to need less ---


def shard(update, processes):
    """Return bytes on each of `processes` GPUs under FSDP: its share of what is divided, whole what passes, and a layer at a time.

    Layers are gathered in 16 bits while they are used, two of them at once; about a twentieth of the weights (ZeRO stage 3,
    Rajbhandari et al. 2020, section 5).
    """
    divided = (
        update.kinds["weights"]
        + 4 * update.trained
        + max(update.kinds["optimizer"], 4 * update.trained)
    )
    return divided / processes + max(
        update.passing + update.parameters * 2 / 20, update.working / processes
    )


def most_rows(project, script, values, memory, how):
    """Return how many rows at once fit into `memory` GB, by straight line through two rehearsals; None where rows do not count."""
    rows = values.rows_at_once or values.batch
    peak = lambda rows: (
        rehearse(
            project,
            script,
            SimpleNamespace(**vars(values) | {"batch": rows, "rows_at_once": 0}),
            **how | {"processes": 1},
        ).peak
    )
    few, many = peak(rows), peak(2 * rows)
    while many < 1.2 * few:  # the optimizer's step is the peak, not the rows
        rows, few = 2 * rows, many
        if rows > 4096:
            return None
        many = peak(2 * rows)
    room = (memory * 0.98 - DRIVER) / (1 + GAPS) * GB
    return rows + math.floor((room - few) / ((many - few) / rows))


def cheaper(project, script, values, how):
    """Yield (what to change, values, how), each with those before it, in the order of what it costs: nothing, time, reach."""
    changed = lambda **new: SimpleNamespace(**vars(values) | new)
    if script == "pretrain" and (values.rows_at_once or values.batch) > 1:
        yield (
            "one row at once, added up to the same update: rows_at_once = 1 in settings.toml",
            changed(rows_at_once=1),
            how,
        )
    if script == "finetune" and values.method == "full":
        yield "LoRA in place of all weights: --method lora", changed(method="lora"), how
    slim = changed(rows_at_once=1) if script == "pretrain" else changed(method="lora")
    if not how.get("checkpointing"):
        yield (
            "activations made again on the way back (a third more time): model.activation_checkpointing_enable()",
            slim,
            how | {"checkpointing": True},
        )
    yield (
        f"half the reach: --context {values.context // 2}",
        SimpleNamespace(**vars(slim) | {"context": values.context // 2}),
        how | {"checkpointing": True},
    )


def gb(size):
    """Return a number of bytes, as a person would say it."""
    unit, name = (GB, "GB") if size >= GB / 2 else (1e6, "MB")
    return f"{size / unit:.0f} {name}" if size >= 100 * unit else f"{size / unit:.1f} {name}"


def operations(flops):
    """Return a number of floating-point operations, as a person would say it."""
    unit, name = (1e12, "trillion") if flops >= 1e12 else (1e9, "billion")
    return f"{flops / unit:,.3g} {name} calculations"


def past(project):
    """Return [(what, estimated, measured)] of this project: each estimate next to what was measured later."""
    file = project.out / "estimates.jsonl"
    text = file.read_text() if file.exists() else ""
    notes = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("}\n")]
    return [(note["what"], note["estimated"], note["measured"]) for note in notes]


def remember(project, what, estimated, measured):
    """Keep an estimate next to what was measured."""
    if estimated and measured and estimated == estimated and measured == measured:
        with open(project.out / "estimates.jsonl", "a") as file:
            print(
                json.dumps({"what": what, "estimated": estimated, "measured": measured}), file=file
            )
