"""`handrail estimate`: what a run needs, on which GPU, for how long, at what price. Trains nothing.

handrail estimate my-model                            a project's own run, its files and settings
handrail estimate --size 300m --updates 20000         a new model, before there is a project
handrail estimate --from OWNER/NAME --method lora     fine-tuning, from the configuration alone
"""

import io
import json
import math
import shutil
import sys
import tempfile
import traceback
import warnings
from argparse import Namespace
from contextlib import redirect_stdout, suppress
from dataclasses import asdict
from pathlib import Path
from unittest.mock import MagicMock, Mock, patch

from rich.table import Table

from handrail.cost.gpus import DRIVER, FAST, GAPS, SLOW, fits, gb, known, live_prices, offers
from handrail.project import words
from handrail.project.plan import OPEN, PER_PARAMETER, check_size, parameters, power_of_two, sizes
from handrail.project.pretrained import opened
from handrail.project.project import PROGRAM, Project, Stop, stop, usual
from handrail.project.screen import Screen

WORDS = Path(__file__).with_suffix(".md")


def with_(values, **new):
    """Return the settings with some of them changed."""
    return Namespace(**vars(values) | new)


# --- the update of a project ---


class Vocabulary(list):
    """In place of a tokenizer that is not made yet: all that building a model asks of it."""

    bos_token_id = eos_token_id = pad_token_id = 0


def from_config(name, dtype=None, **_):
    """In place of AutoModelForCausalLM.from_pretrained: the same model, and no weights are read."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    others = ("ForMaskedLM", "ForPreTraining")
    masked = any(kind.endswith(others) for kind in config.architectures or [])
    with suppress(ValueError):  # Transformers has no such class for it
        if not masked and not config.is_encoder_decoder:
            return AutoModelForCausalLM.from_config(config, dtype=dtype)
    raise stop("no causal language model", name=name, kind=config.model_type)


def tokenizer_in(place, otherwise):
    """Return the tokenizer of a model or folder, or `otherwise` if it has none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError):
        return otherwise


def local(project, name):
    """Return a model's folder as seen from the project, or its name on the hub."""
    return project.folder / name if (project.folder / name).exists() else name


def pretraining(project, values, processes, precision):
    """Return what a training from texts is made of; of its tokens only the number matters."""
    import numpy as np

    program = project.load("train", "optimizer", "model", "batches")
    tokenizer = tokenizer_in(project.out / "tokenizer", Vocabulary(range(values.vocabulary)))
    tokens = np.zeros(values.context + 1, dtype=np.uint16)

    def make():
        model = program.model.build(values, tokenizer)
        return model, program.optimizer.make_optimizer(model, values.lr)

    batch = program.batches.train_batches(tokens, values, 0, processes)(0)
    return program.train, make, program.train.next_token_loss, batch, len(tokenizer)


def finetuning(project, values, processes, precision):
    """Return what a training from questions and answers is made of."""
    from transformers import AutoTokenizer

    program = project.load("train", "optimizer", "finetune", "messages", "packing")
    # where there is none, nothing about it matters
    tokenizer = tokenizer_in(local(project, values.model), MagicMock())

    def make():
        with patch.object(AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer):
            model, _ = program.finetune.load(values, precision)
        return model, program.finetune.choose_optimizer(model, values)

    batch = largest_batch(program, values, processes, rows_of(project, program, values))
    return program.train, make, program.finetune.answer_loss, batch, None


def rows_of(project, program, values):
    """Return the project's own examples as rows (ids, loss_mask).

    Without any, it is one row as long as the context, half of it an answer.
    """
    file, rows = project.out / "chats" / "train.jsonl", []
    if file.exists():
        tokenizer, model = tokenizer_in(local(project, values.model), None), Mock()
        model.get_input_embeddings().num_embeddings = math.inf  # it needs no rows for new tokens
        program.messages.add_template(tokenizer, model)
        for chat in program.messages.load_rows(file):
            rows += program.messages.encode(tokenizer, chat["messages"])
    half = values.context // 2
    longest = [0] * (values.context + 1), [False] * (values.context + 1 - half) + [True] * half
    return [row for row in rows if len(row[0]) <= values.context] or [longest]


def largest_batch(program, values, processes, rows):
    """Return the batch with the largest part, of the first 200 updates or of one epoch.

    finetune.py packs rows into parts of `context` tokens; as many of these are put together as were
    typed after --rows-at-once (`rows_typed`: the program knows no such setting).
    """

    def size(batch):
        return max(part["inputs"].numel() for part in batch)

    packed = with_(values, context=(values.context + 1) * getattr(values, "rows_typed", 1))
    batches = program.packing.message_batches(rows, packed, 0, processes)
    most = min(values.updates, math.ceil(len(rows) / values.batch), 200)
    return max((batches(step) for step in range(most)), key=size)


def checkpointed(model, method):
    """Let the backward pass compute activations again, which takes less memory and more time."""
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    if method == "lora":
        model.enable_input_require_grads()


def without_numbers(part):
    """Return a part of a batch with tensors that have a shape but no numbers."""
    import torch

    return {key: torch.empty_like(x) if torch.is_tensor(x) else x for key, x in part.items()}


def count(project, script, values, checkpointing=False, processes=1, gpu=True, precision=None):
    """Return the ledger.Update of a project's own update, made of its own files with fake tensors.

    gpu: as on a CUDA card (bf16 if no `precision` is named), else as on this CPU (fp32). Raises
    Stop for a model that cannot be opened, or whose code asks for numbers.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from transformers import AutoConfig, AutoModelForCausalLM

    from handrail.cost import ledger

    precision = precision or ("bf16" if gpu else "fp32")
    fresh, on_card = script == "pretrain", precision if gpu else "no"
    name, method = (values.base, None) if fresh else (values.model, values.method)
    config = opened(AutoConfig, local(project, name)).get_text_config() if name else None
    run = pretraining if fresh else finetuning
    train, build, loss, parts, vocabulary = run(project, values, processes, on_card)

    def make():
        model, optimizer = build()
        if checkpointing:
            checkpointed(model, method)
        return model, optimizer

    packed = len(parts[0].get("values", [])) > 1  # rows laid end to end
    book = ledger.Ledger(config.vocab_size if config else vocabulary, answer=not packed)
    AcceleratorState._reset_state(True)
    # fp16 takes the bytes of bf16
    accelerator = Accelerator(cpu=True, mixed_precision="no" if precision == "fp32" else "bf16")
    no_weights = patch.object(AutoModelForCausalLM, "from_pretrained", from_config)
    silence, calm = redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore")
    try:
        with no_weights, ledger.pretending(gpu, precision != "fp16"), silence, calm:
            batch = [without_numbers(part) for part in parts]
            return ledger.count_update(accelerator, train, make, batch, loss, book)
    except Stop:
        raise
    except Exception as error:
        raise cannot_count(project, error) from error
    finally:
        accelerator.free_memory()
        AcceleratorState._reset_state(True)


def cannot_count(project, error):
    """Return a Stop that says which line of the learner's files cannot run on fake tensors."""
    what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    every = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in every if Path(frame.filename).parent == project.folder]
    if not frames or any("/transformers/models/" in frame.filename for frame in every):
        return stop("model asks for numbers", what=what)
    file, last = Path(frames[-1].filename).name, frames[-1]
    return stop("line asks for a number", file=file, line=last.lineno, code=last.line, what=what)


DEFAULT = {"checkpointing": False, "processes": 1, "precision": None}


def weigh(project, script, values, how=DEFAULT, price=None, live=None):
    """Return ({number format: Update}, [Offer]): what a run needs, and how each GPU does it.

    Cards without bf16 keep the frozen weights of LoRA in 32 bits, so that is counted as well.
    """
    counted = {how["precision"] or "bf16": count(project, script, values, **how)}
    if script == "finetune" and values.method == "lora" and not how["precision"]:
        counted["fp16"] = count(project, script, values, **how | {"precision": "fp16"})
    found = offers(counted, values.updates, how["processes"], price, how["precision"], live)
    return counted, found


def most_rows(update, memory, at_once):
    """Return about how many rows at once fit: what passes grows with them, nothing else does."""
    fixed = update.kinds["weights"] + update.kinds["optimizer"] + 4 * update.trained
    return int(at_once * ((memory - DRIVER) / (1 + GAPS) - fixed) / update.passing)


def remember(project, what, estimated, measured):
    """Keep an estimate next to what was measured, for the next `handrail estimate`."""
    if estimated and measured and math.isfinite(estimated * measured):
        off = f"{measured / estimated - 1:+.0%}"
        with open(project.out / "estimates.txt", "a") as file:
            print(f"{what}: {estimated:.4g} estimated, {measured:.4g} measured ({off})", file=file)


# --- on the screen ---


def span(low, high, unit=""):
    """Return "low to high", as short as can be said."""
    low, high = (f"{x:,.0f}" if x >= 100 else f"{x:.2g}" for x in (low, high))
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def lasting(hours):
    """Return a range of hours in the unit that a person would use."""
    units = {" days": 1 / 24, " h": 1, " min": 60, " s": 3600}
    unit = next((unit for unit in units if hours[1] * units[unit] >= 2), " s")
    return span(*(time * units[unit] for time in hours), unit)


def dollars(cost):
    """Return a range of dollars as a person would say it."""
    if cost[1] < 0.01:
        return "< $0.01"
    return f"${span(*cost)}" if cost[0] >= 0.01 else f"up to ${cost[1]:.2g}"


def operations(flops):
    """Return a number of floating-point operations as a person would say it."""
    unit, name = (1e12, "trillion") if flops >= 1e12 else (1e9, "billion")
    return f"{flops / unit:,.3g} {name} calculations"


def part(name, found):
    """Return the lines of a part of estimate.md whose values are known."""
    return words.fill(words.parts(WORDS)[name], found)


def show_offers(screen, found, processes):
    """Print the table to decide by: what fits, how long, how much, and where each price is from."""
    good = [offer for offer in found if offer.fit != "no"]
    best = {"cheapest": min(good, key=lambda offer: offer.dollars, default=None)}
    best["fastest"] = min(good, key=lambda offer: offer.hours, default=None)
    shown = Table(box=None, padding=(0, 2, 0, 0))
    name = "GPU" if processes == 1 else f"{processes} GPUs"
    for head in (name, "GB", "fits", "how long", "cost", ""):
        shown.add_column(head, no_wrap=True)
    shown.add_column("where, and the day of the price")
    for offer in found:
        large = offer in good
        shown.add_row(
            offer.name,
            f"{offer.memory / 1e9:.0f}",
            offer.fit,
            lasting(offer.hours) if large else "",
            dollars(offer.dollars) if large else "",
            ", ".join(word for word, one in best.items() if one is offer),
            f"{offer.where}, {offer.read}",
            style=None if large else "dim",
        )
    screen.console.print(shown)
    screen.print()


def this_machine(peak):
    """Return the words' values about this machine's GPU, as its driver reports it."""
    import torch

    if not torch.cuda.is_available():
        return {}
    card, memory = torch.cuda.get_device_name(), torch.cuda.mem_get_info()[1]
    answers = {"yes": "it fits", "perhaps": "it may just fit", "no": "it does not fit"}
    unknown = None if known(card) else ""
    answer = answers[fits(peak, memory)]
    return {"card": card, "memory": gb(memory), "answer": answer, "unknown": unknown}


def rows_at_once(script, values, processes):
    """Return how many rows are in memory at once; finetune.py packs them into one row at a time."""
    if script == "finetune":
        return getattr(values, "rows_typed", 1)
    mine = values.batch // processes
    return min(values.rows_at_once or mine, mine)


def facts(project, script, values, how, counted):
    """Return the values that the words name (estimate.md)."""
    update, processes = next(iter(counted.values())), how["processes"]
    at_once = rows_at_once(script, values, processes)
    packed = script == "finetune" and at_once > 1
    known_rows = script == "pretrain" or (project.out / "chats" / "train.jsonl").exists()
    found = vars(update) | vars(values) | this_machine(update.peak)
    return found | {
        "counted": titled(project, script, values, how)[1],
        "kinds": {kind: gb(size) if size else "none yet" for kind, size in update.kinds.items()},
        "all": gb(update.peak),
        "calculations": operations(update.flops),
        "share": f" on each of {processes} GPUs" if processes > 1 else "",
        "whose": "your" if project.out.exists() else "handrail's",
        "driver": gb(DRIVER),
        "gaps": GAPS,
        "processes": processes if processes > 1 else None,
        "second": gb(4 * update.trained),
        "guess": None if known_rows else "",
        "at_once": at_once,
        "several": "" if at_once > 1 else None,
        "full": "" if script == "finetune" and values.method == "full" else None,
        "plain": None if how["checkpointing"] else "",
        "half": values.context // 2,
        "tuned": "" if script == "finetune" else None,
        "longer": values.context * at_once if packed else None,
        "peak_fp16": gb(counted["fp16"].peak) if len(counted) > 1 else None,
        "slow": SLOW,
        "fast": FAST,
    }


def titled(project, script, values, how):
    """Return (what is counted, with how many rows) in words."""
    rows = f"{values.batch} rows of {values.context:,} tokens an update"
    if script == "finetune" and (project.out / "chats" / "train.jsonl").exists():
        rows = f"{values.batch} of your examples an update, in rows of {values.context:,} tokens"
    rows += f", {rows_at_once(script, values, how['processes'])} at once"
    name = values.base or f"a new model of size {values.size}"
    what = f"{name}: training"
    if script == "finetune":
        what = f"{values.model}: {values.method} fine-tuning"
    return what, f"{rows}, {how['precision'] or 'bf16'}"


def show(screen, project, script, values, how, counted, offered):
    """Print what was counted: memory, GPUs, time and cost, and what to change if none fits."""
    update, found = next(iter(counted.values())), facts(project, script, values, how, counted)

    def say(head):
        if lines := part(head, found):
            screen.say(head, lines)

    say("Counted without a GPU")
    say("Memory")
    say("On a GPU")
    show_offers(screen, offered, how["processes"])
    say("This machine's GPU")
    sure = [offer for offer in offered if offer.fit == "yes"]
    if sure and script == "pretrain":
        best = min(sure, key=lambda offer: offer.dollars)
        found |= {"most": most_rows(update, best.memory, found["at_once"]), "cheapest": best.name}
        say("Rows at once")
    if not sure:
        perhaps = " for sure" if any(offer.fit == "perhaps" for offer in offered) else ""
        head = f"It fits none of them{perhaps}. Add one of these, and it is counted again"
        screen.say(head, part("What you can change", found))
    say("Where these numbers come from")
    earlier = project.out / "estimates.txt"
    if earlier.exists():
        screen.say("Earlier in this project", earlier.read_text().splitlines()[-3:])


def as_json(title, update, offered, found):
    """Return what was counted as one JSON object."""
    good = [offer.name for offer in offered if offer.fit != "no"]
    check = {"name": "GPUs that it fits", "expected": "at least 1", "measured": len(good)}
    check["verdict"] = "pass" if good else "fail"
    tells = part("Counted without a GPU", found) + part("Where these numbers come from", found)
    shown = {"title": ": ".join(title), "checks": [check], "tells": tells}
    shown |= {"peak_bytes": update.peak, "tokens_per_update": update.tokens}
    for name in ("kinds", "parameters", "trained", "flops"):
        shown[name] = getattr(update, name)
    return json.dumps(shown | {"gpus": [asdict(offer) for offer in offered]}, indent=1)


# --- what was typed ---


def chosen(folder, typed, scratch):
    """Return (project, script, values) of what was typed: of a project, or of an idea.

    An idea becomes a project in `scratch`, with all of the program as it is handed over.
    """
    place, idea = Path(folder or usual()), bool(typed.base or typed.size) and not folder
    project = Project(scratch if idea else place, cpu=True)
    if idea:
        shutil.copytree(PROGRAM, scratch, dirs_exist_ok=True)
        (scratch / "settings.toml").write_text("[finetune]\n")
    elif not project.exists:
        raise stop("nothing to estimate", place=place, base=OPEN)
    else:
        project.check_version()
        if project.missing(["settings.py"]):
            raise stop("not measured", command=project.command("machine"))
    texts = idea or project.settings.get("data")
    script = "pretrain" if texts and not typed.method else "finetune"
    part = script if script in project.settings else ""
    values = project.load().settings.read("", ["--cpu"], part)
    names = ("base", "size", "vocabulary", "method", "updates", "batch", "context", "rows_at_once")
    new = {name: getattr(typed, name) for name in names if getattr(typed, name) is not None}
    if typed.base and Path(typed.base).exists():
        new["base"] = str(Path(typed.base).resolve())
    if script == "finetune":
        new["rows_typed"] = typed.rows_at_once or 1
        new["model"] = new.get("base") or getattr(values, "model", "") or values.base
    values = with_(values, **new)
    for name in ("base", "model"):  # a path in settings.toml is seen from the project
        if path := getattr(values, name, ""):
            setattr(values, name, str(local(project, path)))
    if idea and not typed.vocabulary and values.size in sizes(project):  # as plan.py has it
        tokens = PER_PARAMETER * parameters(sizes(project)[values.size], 0)
        values.vocabulary = power_of_two(math.sqrt(tokens), 512, 32768)
    return project, script, values


def check(project, script, values, gpus):
    """Raise Stop for settings that no run could have."""
    base = values.model if script == "finetune" else values.base
    if script == "finetune" and not base:
        raise stop("which model", base=OPEN)
    if not base:
        check_size(project, values.size)
    if values.batch % gpus:
        raise stop("batch not divisible", batch=values.batch, gpus=gpus)
    if values.batch * values.context > 2**31:
        raise stop("batch too large", batch=values.batch, context=values.context)
    if base:
        from transformers import AutoConfig

        config = opened(AutoConfig, local(project, base)).get_text_config()
        most = getattr(config, "max_position_embeddings", None)
        computed = getattr(config, "rope_parameters", None)  # positions that have no end
        if most and values.context > most and not computed:
            raise stop("model reads less", context=values.context, base=base, most=most)


def main(folder, typed):
    """Run `handrail estimate`; return the exit code: 0, or 1 if no known GPU is large enough."""
    if typed.base is not None and not typed.base.strip():
        raise stop("from is empty", base=OPEN)
    if typed.size and typed.base:
        raise stop("size and from")
    live = live_prices() if typed.hf else {}
    if typed.hf and not live:
        raise stop("no prices")
    how = {"processes": typed.gpus, "checkpointing": typed.checkpointing}
    how["precision"] = typed.precision
    sys.dont_write_bytecode = True  # nothing in the project changes
    with tempfile.TemporaryDirectory() as scratch:
        project, script, values = chosen(folder, typed, Path(scratch))
        check(project, script, values, typed.gpus)
        screen, title = Screen(yes=True), titled(project, script, values, how)
        if not typed.json:
            screen.title(*title)
            screen.print("  running the update on tensors that have no numbers ...\n")
        counted, offered = weigh(project, script, values, how, typed.price, live)
        if typed.json:
            found = facts(project, script, values, how, counted)
            print(as_json(title, next(iter(counted.values())), offered, found))
        else:
            show(screen, project, script, values, how, counted, offered)
    return int(all(offer.fit == "no" for offer in offered))
