"""What it needs, where it fits, how long and how much: `handrail rehearse`, on any machine, before a coin is spent.

    handrail rehearse my-model                               the project's own run, its own files, its own settings
    handrail rehearse --size 300m --updates 20000            a new model, before there is a project
    handrail rehearse --from HuggingFaceTB/SmolLM2-1.7B --method lora        fine-tuning, from the configuration alone

Memory is counted, operation by operation (estimate.py). Time is calculated: an operation takes as long as its arithmetic or
its reading and writing, whichever is longer, at a part of what the data sheet promises. So memory is near, and time a range.
"""

import argparse
import copy
import io
import json
import math
import shutil
import tempfile
import tomllib
import traceback
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from rich.table import Table

from handrail.project import PROGRAM, Project, Stop
from handrail.screen import Screen
from handrail.steps import OPEN

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
    return sum(max(flops / rate, (1 if flops else way.traffic) * moved / width, way.start) for flops, moved in operations)


def fits(peak, memory):
    """Return "yes", "perhaps" or "no": whether `peak` bytes of tensors fit beside the driver and the allocator's gaps."""
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
        hours = tuple(seconds(update.operations, gpu, way, precision) * updates / 3600 for way in (FAST, SLOW))
        hours = hours if processes == 1 else (hours[0] * 1.05, hours[1] * 1.3)  # they wait for one another
        today = (live or {}).get(gpu.get("flavor"))
        cost = (price or today or gpu["price"]) * processes
        source = "your price" if price else "hf jobs hardware, today" if today else f"{gpu['source']}, {gpu['read']}"
        found.append(Offer(name, gpu["memory"], fits(peak, gpu["memory"]), hours, cost, gpu["where"], source))
    return found


def span(low, high, unit="", form=".2g"):
    """Return "low to high", as short as can be said."""
    say = lambda x: f"{x:,.0f}" if x >= 100 else f"{x:{form}}"
    return f"{say(low)}{unit}" if say(low) == say(high) else f"{say(low)} to {say(high)}{unit}"


def lasting(hours):
    """Return a range of hours in the unit that a person would use."""
    for unit, factor in (("days", 1 / 24), ("h", 1), ("min", 60)):
        if hours[1] * factor >= 2:
            break
    else:
        unit, factor = "s", 3600
    return span(hours[0] * factor, hours[1] * factor, f" {unit}")


def dollars(cost):
    return "< $0.01" if cost[1] < 0.01 else f"${span(cost[0], cost[1])}" if cost[0] >= 0.01 else f"up to ${cost[1]:.2g}"


# --- the idea: a project, or a few words ---


def no_weights(kind):
    """Return a stand-in for from_pretrained of an Auto class of models: built from the configuration, no weights are read."""
    from transformers import AutoConfig

    def build(name, dtype=None, **_):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        config._experts_implementation = "eager"  # experts one after another: the grouped product has no fake form
        try:
            return kind.from_config(config, dtype=dtype)
        except ValueError as error:
            raise Stop(f"{name} is a {config.model_type}, which is no causal language model: it does not write one token after another.") from error

    return build


def a_tokenizer():
    """Return a small tokenizer that can chat, for a model that lies there without one: only its vocabulary's size would matter."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = {token: i for i, token in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"])}
    bare = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<end>", bos_token="<end>", pad_token="<end>")
    found.chat_template = "{% for m in messages %}{{ m['role'] + m['content'] + '<end>' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant' }}{% endif %}"
    return found


def vocabulary_only(size):
    """Return what model.py asks of a tokenizer when a new model is built: how many tokens, and which ends a text."""
    return type("Vocabulary", (), {"__len__": lambda _: size, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0})()


def pretrain_rows(values, processes, made):
    """Return the batches of one update: this process's rows, as many at once as the settings say."""
    mine = max(1, values.batch // processes)
    at_once = min(values.rows_at_once or mine, mine)
    sizes = [at_once] * (mine // at_once) + [mine % at_once] * bool(mine % at_once)
    return [{"inputs": made(n, values.context), "targets": made(n, values.context), "count": n * values.context} for n in sizes]


def finetune_rows(program, values, processes, folder, tokenizer):
    """Return the batches of one update: the one with most tokens, of the project's own chats; rows of a guessed length without."""
    if (folder / "train.jsonl").exists():
        chats = program.messages.load_rows(folder / "train.jsonl")
        rows = [(ids[: values.context], said[: values.context]) for chat in chats for ids, said in program.messages.encode(tokenizer, chat["messages"])]
        batches = program.packing.message_batches(rows, values, 0, processes)
        updates = [batches(step) for step in range(min(values.updates, math.ceil(len(rows) / values.batch), 200))]
        return max(updates, key=lambda update: max(batch["inputs"].numel() for batch in update))
    each = [([1] * (values.context // 2), [False] * (values.context // 4) + [True] * (values.context // 4))] * 2  # a quarter of a row each
    return [program.packing.pack(each)] * max(1, values.batch // 2 // processes)


def pretraining(project, values, processes):
    """Return (train.py, make, loss, batches, vocabulary, are rows packed) of a training from texts."""
    import torch

    from handrail.steps.model import load_tokenizer

    program = project.load("train", "optimizer", "model")
    try:
        tokenizer = load_tokenizer(project)
    except (OSError, ValueError):  # not made yet: its size is enough
        tokenizer = vocabulary_only(getattr(values, "vocabulary", 8192))

    def make():
        model = program.model.build(values, tokenizer)
        return model, lambda model: program.optimizer.make_optimizer(model, values.lr)

    rows = pretrain_rows(values, processes, lambda *shape: torch.zeros(*shape, dtype=torch.long))
    return program.train, make, program.train.next_token_loss, rows, len(tokenizer), False


def finetuning(project, values, processes):
    """Return the same of a training from questions and answers; where the model has no tokenizer, a small one stands in."""
    from transformers import AutoTokenizer

    program, name = project.load("train", "optimizer", "finetune", "messages", "packing"), local(project, values.model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError):
        tokenizer = a_tokenizer()
    bare = copy.deepcopy(tokenizer)
    large = SimpleNamespace(num_embeddings=math.inf)  # a model that needs no rows for new marks
    program.messages.add_template(tokenizer, SimpleNamespace(get_input_embeddings=lambda: large, generation_config=SimpleNamespace()))

    def make():
        with patch.object(AutoTokenizer, "from_pretrained", lambda *_, **__: copy.deepcopy(bare)):
            model, _ = program.finetune.load(values)
        return model, lambda model: program.finetune.choose_optimizer(model, values)

    rows = finetune_rows(program, values, processes, project.out / "chats", tokenizer)
    return program.train, make, program.finetune.answer_loss, rows, len(tokenizer), rows[0]["rows"] > 1


@contextmanager
def telling(project):
    """Say as a Stop which line of the learner's files cannot run on tensors without numbers."""
    try:
        yield
    except Stop:
        raise
    except Exception as error:
        every = traceback.extract_tb(error.__traceback__)
        frames = [frame for frame in every if Path(frame.filename).parent == project.folder]
        if not frames or any("/transformers/models/" in frame.filename for frame in every):
            raise Stop("This model cannot be rehearsed on fake tensors: its own code asks for numbers, as a mixture of experts does to choose among them "
                       f"({type(error).__name__}: {str(error).splitlines()[0][:120]}). A dense model of the same weights is an upper bound.") from error  # fmt: skip
        where = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: {frames[-1].line}"
        raise Stop(f"The rehearsal stopped at {where}\n{type(error).__name__}: {str(error).splitlines()[0][:200]}\nIt runs on tensors that have a shape and no "
                   "numbers. If this line reads a number back (which makes a GPU wait, too), take it out of `update`, into `train`.") from error  # fmt: skip


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
    train, make_model, loss, rows, vocabulary, packed = (pretraining if script == "pretrain" else finetuning)(project, values, processes)
    ledger = estimate.Ledger(config.get_text_config().vocab_size if config else vocabulary, answer=not packed)

    def make():
        model, optimizer = make_model()
        if checkpointing:
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
            if script == "finetune" and values.method == "lora":
                model.enable_input_require_grads()
        return model, optimizer(model)

    AcceleratorState._reset_state(True)
    wide = precision == "fp32" or not (gpu or precision)
    accelerator = Accelerator(cpu=True, mixed_precision="no" if wide else "bf16")  # fp16 takes the bytes of bf16
    with ExitStack() as stack:
        stack.enter_context(telling(project))
        stack.enter_context(patch.object(AutoModelForCausalLM, "from_pretrained", no_weights(AutoModelForCausalLM)))
        stack.enter_context(estimate.pretending(gpu))
        stack.enter_context(redirect_stdout(io.StringIO()))  # what the program prints are no real numbers
        batches = [{key: torch.empty_like(value) if isinstance(value, torch.Tensor) else value for key, value in batch.items()} for batch in rows]
        found = estimate.keep_books(accelerator, train, make, batches, loss, ledger)
    accelerator.free_memory()
    AcceleratorState._reset_state(True)
    return found


# --- what is said ---


def shard(update, processes):
    """Return bytes on each of `processes` GPUs under FSDP: its share of what is divided, whole what passes, and a layer at a time.

    Layers are gathered in 16 bits while they are used, two of them at once; about a twentieth of the weights (ZeRO stage 3,
    Rajbhandari et al. 2020, section 5).
    """
    divided = update.kinds["weights"] + 4 * update.trained + max(update.kinds["optimizer"], 4 * update.trained)
    return divided / processes + max(update.passing + update.parameters * 2 / 20, update.working / processes)


def most_rows(project, script, values, memory, how):
    """Return how many rows at once fit into `memory` GB, by straight line through two rehearsals; None where rows do not count."""
    rows = values.rows_at_once or values.batch
    peak = lambda rows: rehearse(project, script, SimpleNamespace(**vars(values) | {"batch": rows, "rows_at_once": 0}), **how | {"processes": 1}).peak
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
        yield "one row at once, added up to the same update: rows_at_once = 1 in settings.toml", changed(rows_at_once=1), how
    if script == "finetune" and values.method == "full":
        yield "LoRA in place of all weights: --method lora", changed(method="lora"), how
    slim = changed(rows_at_once=1) if script == "pretrain" else changed(method="lora")
    if not how.get("checkpointing"):
        yield "activations made again on the way back (a third more time): model.activation_checkpointing_enable()", slim, how | {"checkpointing": True}
    yield f"half the reach: --context {values.context // 2}", SimpleNamespace(**vars(slim) | {"context": values.context // 2}), how | {"checkpointing": True}


def gb(size):
    """Return a number of bytes, as a person would say it."""
    unit, name = (GB, "GB") if size >= GB / 2 else (1e6, "MB")
    return f"{size / unit:.0f} {name}" if size >= 100 * unit else f"{size / unit:.1f} {name}"


def operations(flops):
    """Return a number of floating-point operations, with what its unit means."""
    return f"{flops / 1e12:,.3g} TFLOP (million million operations)" if flops >= 1e12 else f"{flops / 1e9:,.3g} GFLOP (thousand million operations)"


def show_memory(screen, update):
    """Print the peak of an update, kind by kind."""
    from handrail.estimate import KINDS

    table = Table(box=None, padding=(0, 2, 0, 0))
    for head, side in (("", "left"), ("", "right"), ("", "left")):
        table.add_column(head, justify=side)
    for kind, meaning in KINDS.items():
        table.add_row(kind, gb(update.kinds[kind]), meaning)
    table.add_row("at the peak", gb(update.peak), "all of these together; they are not all at their highest at once", style="bold")
    screen.console.print(table)
    screen.print(f"  On a card the driver takes about {DRIVER} GB more, and the allocator's gaps up to {GAPS:.0%} of the peak.\n")


def show_offers(screen, found, processes):
    """Print the table to decide by; the cheapest and the fastest that fit are marked, and where each price is from."""
    good, sources = [offer for offer in found if offer.fit != "no"], list(dict.fromkeys(offer.source for offer in found))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("GPU" if processes == 1 else f"{processes} GPUs", "GB", "fits", "how long", "cost", "", "where, and whose price"):
        table.add_column(head, no_wrap=True)
    for offer in found:
        best = [word for word, key in (("cheapest", lambda o: o.cost), ("fastest", lambda o: o.hours)) if offer in good and offer is min(good, key=key)]
        time, cost = (lasting(offer.hours), dollars(offer.cost)) if offer in good else ("", "")
        place = f"{offer.where} ({sources.index(offer.source) + 1})"
        table.add_row(offer.name, f"{offer.memory:.0f}", offer.fit, time, cost, ", ".join(best), place, style=None if offer in good else "dim")
    screen.console.print(table)
    screen.print("  Prices: " + ", ".join(f"({i}) {source}" for i, source in enumerate(sources, start=1)) + "\n")


def past(project):
    """Return [(what, estimated, measured)] of this project: each estimate beside what was measured later."""
    file = project.out / "estimates.jsonl"
    notes = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [(note["what"], note["estimated"], note["measured"]) for note in notes]


def remember(project, what, estimated, measured):
    """Keep an estimate beside what was measured."""
    if estimated and measured and estimated == estimated and measured == measured:
        with open(project.out / "estimates.jsonl", "a") as file:
            print(json.dumps({"what": what, "estimated": estimated, "measured": measured}), file=file)


def show(screen, project, script, values, how, price=None, precision="bf16", live=None):
    """Rehearse, and print memory, GPUs, time and cost; return whether it fits a GPU that is known."""
    update = rehearse(project, script, values, **how)
    processes, peak = how.get("processes", 1), update.peak
    guessed = script == "finetune" and not (project.out / "chats" / "train.jsonl").exists()
    peak += 4 * update.trained * (processes > 1)  # DDP keeps a second copy of the gradients, in buckets
    each = f"{update.tokens:,} tokens" + f" on each of {processes} GPUs" * (processes > 1)
    trained = "" if update.trained == update.parameters else f", {update.trained:,} of them trained"
    screen.say("Rehearsed without a GPU", [
        f"{update.parameters:,} weights{trained}; an update of {each} costs {operations(update.flops)}.",
        f"The real update, of {'your ' * (project.folder / 'out').exists()}train.py, ran in {update.seconds:.1f} s on tensors that have a shape and no numbers.",
    ])  # fmt: skip
    show_memory(screen, update)
    found = offers(update, peak, values.updates, processes, price, precision, live)
    show_offers(screen, found, processes)
    if not any(offer.fit == "yes" for offer in found):
        ways = [(what, rehearse(project, script, new, **other)) for what, new, other in cheaper(project, script, values, how)]
        where = lambda peak: ", ".join(n for n, g in gpus().items() if fits(peak, g["memory"]) == "yes") or "still none"
        lines = [f"{what}: {gb(slim.peak)}, fits {where(slim.peak)}" for what, slim in ways]
        if script == "finetune":
            lora = next((slim for what, slim in ways if "LoRA" in what), update)
            frozen = lora.parameters - lora.trained
            lines.append(f"the frozen weights in 16 bits (dtype=torch.bfloat16 in `load` of finetune.py): {gb(2 * frozen)} less; in 4 bits (QLoRA, see PEFT's documentation): {gb(3.5 * frozen)} less")
        slim = min([update, *(slim for _, slim in ways)], key=lambda slim: slim.passing)
        number = next((n for n in (2, 4, 8, 16, 32, 64, 128, 256) if fits(shard(slim, n), 80) == "yes"), None)
        lines.append(f"with all of that, {number} GPUs of 80 GB that share the weights (FSDP): {gb(shard(slim, number))} on each; the command is in the project's README" if number else "a smaller model")
        sure = " for sure" * any(offer.fit == "perhaps" for offer in found)
        screen.say(f"It fits none of them{sure}. What to change, by what it costs, each with those above it", lines)
    elif script == "pretrain":
        cheapest = min((offer for offer in found if offer.fit == "yes"), key=lambda offer: offer.cost)
        rows = most_rows(project, script, values, cheapest.memory, how) if update.seconds < 8 else None
        if rows:
            screen.print(f"  Most rows of {values.context:,} tokens at once on a {cheapest.name}: about {rows:,}.\n")
    screen.say("What this rests on", [
        "Memory: counted" + (", for examples of half a row each, half of it answer: your own file will differ" if guessed else "") + f". Time: {SLOW.arithmetic:.0%} to {FAST.arithmetic:.0%} of the data sheet's arithmetic, {SLOW.bandwidth:.0%} to {FAST.bandwidth:.0%} of its bandwidth; "
        f"the low end needs torch.compile. {values.updates:,} updates, without evaluations.",
        "Prices move: look at where they are from. The bill runs from start to stop, the minutes of setting up and of forgetting included.",
        *(f"Earlier in this project, {what}: {estimated:.4g} estimated, {measured:.4g} measured ({measured / estimated - 1:+.0%})." for what, estimated, measured in past(project)[-3:]),
    ])  # fmt: skip
    return any(offer.fit != "no" for offer in found)


def parser():
    p = argparse.ArgumentParser("handrail rehearse", description="What a run needs, where it fits, how long and how much. Needs no GPU.")
    p.add_argument("folder", nargs="?", help="a project; default: the one here, or none")
    p.add_argument("--from", dest="base", help="a pretrained model: hub id, or a folder with config.json; its weights are not read")
    p.add_argument("--size", help="of a new model: 1m 5m 25m 85m 300m 1b")
    p.add_argument("--vocabulary", type=int, help="tokens of a new model")
    p.add_argument("--method", choices=["full", "lora"], help="of fine-tuning")
    for name, meaning in (("updates", "how many"), ("batch", "rows in one update"), ("context", "tokens in a row"), ("rows-at-once", "rows in memory at once")):
        p.add_argument(f"--{name}", type=int, help=meaning)
    p.add_argument("--checkpointing", action="store_true", help="make activations again on the way back: less memory, a third more time")
    p.add_argument("--precision", choices=["bf16", "fp16", "fp32"], default="bf16", help="number format of the products")
    p.add_argument("--gpus", type=int, default=1, help="how many share an update")
    p.add_argument("--price", type=float, help="dollars an hour for one GPU, in place of the list's")
    p.add_argument("--hf", action="store_true", help="ask Hugging Face for today's prices of its jobs")
    return p


def idea(words, folder):
    """Return (project, script, values) of what was typed: a project of one's own, or one made up for the purpose in `folder`."""
    place = Path(words.folder or ".")
    real = (place / "settings.toml").exists()
    if words.folder and not real:
        raise Stop(f"{place} is no project. Without one, say what is meant: handrail rehearse --size 85m, or: handrail rehearse --from {OPEN} --method lora")
    for file in PROGRAM.glob("*.py"):  # what the walk has not handed over yet
        shutil.copy(file, folder)
    (Path(folder) / "settings.toml").write_text("[finetune]\n")
    if real:
        for file in [*place.glob("*.py"), place / "settings.toml"]:
            shutil.copy(file, folder)
        (Path(folder) / "out").symlink_to(place.resolve() / "out")
    project = Project(folder, cpu=True)
    began = project.settings.get("data") if real else not words.method
    script = "finetune" if words.method or not began else "pretrain"
    if script == "finetune" and not real and not words.base:
        raise Stop(f"Which model is to be fine-tuned? handrail rehearse --from {OPEN} --method {words.method}")
    values = project.load().settings.read("", ["--cpu"], script if "finetune" in project.settings else "")
    typed = {name: getattr(words, name) for name in ("base", "size", "vocabulary", "method", "updates", "batch", "context", "rows_at_once") if getattr(words, name) is not None}
    for name, value in typed.items():
        if isinstance(value, int) and value < 1:
            raise Stop(f"--{name} {value}: it has to be a number above 0")
    if words.base and Path(words.base).exists():
        typed["base"] = str(Path(words.base).resolve())
    defaults = {"size": "85m", "vocabulary": 32768, "method": "lora", "lr": 1e-4}
    vars(values).update({name: value for name, value in defaults.items() if not hasattr(values, name)} | typed)
    if script == "finetune":
        values.model = typed.get("base") or getattr(values, "model", None) or values.base
        if not values.model:
            raise Stop(f"Which model is to be fine-tuned? Add --from out/model, or --from {OPEN}")
    for name in ("base", "model"):  # a path in settings.toml is seen from the project
        if getattr(values, name, None) and real and (place / getattr(values, name)).exists():
            setattr(values, name, str((place / getattr(values, name)).resolve()))
    return project, script, values


def main(arguments):
    """Run `handrail rehearse`; return the exit code: 0, or 1 where no GPU that is known is large enough."""
    words = parser().parse_args(arguments)
    if words.gpus < 1 or (words.price is not None and not 0 < words.price < math.inf):
        raise Stop("--gpus and --price have to be numbers above 0")
    if words.size and words.base:
        raise Stop("--size is of a new model, --from names one that is there: one of the two")
    with tempfile.TemporaryDirectory() as folder:
        project, script, values = idea(words, folder)
        from handrail.plan import sizes

        if not values.base and script == "pretrain" and values.size not in sizes(project):
            raise Stop(f"There is no size {values.size!r}. The sizes: {' '.join(sizes(project))}")
        how = {"checkpointing": words.checkpointing, "processes": words.gpus, "precision": words.precision}
        live = {}
        if words.hf:
            from handrail.rent.jobs import live_prices

            if not (live := live_prices()):
                raise Stop("Hugging Face did not give its prices. Is there a network, is HF_HUB_OFFLINE set? Without --hf the list in gpus.toml is used, with its dates.")
        screen = Screen(yes=True)
        name = values.model if script == "finetune" else values.base or f"a new model of size {values.size}"
        kind = f"{values.method} fine-tuning" if script == "finetune" else "training"
        screen.title(f"{name}: {kind}", f"{values.batch} rows of {values.context:,} tokens an update, {words.precision}")
        return int(not show(screen, project, script, values, how, words.price, words.precision, live))
