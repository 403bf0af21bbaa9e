"""`handrail rehearse` without a GPU: what a run needs, where it fits, how long and how much, on any machine.

handrail rehearse my-model                               the project's own run, its own files, its own settings
handrail rehearse --size 300m --updates 20000            a new model, before there is a project
handrail rehearse --from HuggingFaceTB/SmolLM2-1.7B --method lora        fine-tuning, from the configuration alone
"""

import argparse
import math
import shutil
import tempfile
from pathlib import Path

from rich.table import Table

from handrail import budget
from handrail.budget import DRIVER, GAPS, gb
from handrail.plan import opened, sizes
from handrail.project import PROGRAM, Project, Stop, usual
from handrail.screen import Screen
from handrail.steps import OPEN


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
    return (
        "< $0.01"
        if cost[1] < 0.01
        else f"${span(cost[0], cost[1])}"
        if cost[0] >= 0.01
        else f"up to ${cost[1]:.2g}"
    )


def show_memory(screen, update, processes):
    """Print the peak of an update, kind by kind."""
    from handrail.estimate import KINDS

    copies = (
        f" With {processes} GPUs, each also keeps a second copy of the gradients, {gb(4 * update.trained)}."
        if processes > 1
        else ""
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head, side in (("", "left"), ("", "right"), ("", "left")):
        table.add_column(head, justify=side)
    for kind, meaning in KINDS.items():
        table.add_row(kind, gb(update.kinds[kind]) if update.kinds[kind] else "none yet", meaning)
    table.add_row(
        "at the peak",
        gb(update.peak),
        "all of these together; they do not all peak at the same time",
        style="bold",
    )
    screen.console.print(table)
    screen.print(
        f"  On a GPU the driver takes about {DRIVER} GB more, and gaps in memory up to {GAPS:.0%} of the peak.{copies}\n"
    )


def show_offers(screen, found, processes):
    """Print the table to decide by; the cheapest and the fastest that fit are marked, and where each price is from."""
    good, sources = (
        [offer for offer in found if offer.fit != "no"],
        list(dict.fromkeys(offer.source for offer in found)),
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in (
        "GPU" if processes == 1 else f"{processes} GPUs",
        "GB",
        "fits",
        "how long",
        "cost",
        "",
        "where, and whose price",
    ):
        table.add_column(head, no_wrap=True)
    for offer in found:
        best = [
            word
            for word, key in (("cheapest", lambda o: o.cost), ("fastest", lambda o: o.hours))
            if offer in good and offer is min(good, key=key)
        ]
        time, cost = (lasting(offer.hours), dollars(offer.cost)) if offer in good else ("", "")
        place = f"{offer.where} ({sources.index(offer.source) + 1})"
        table.add_row(
            offer.name,
            f"{offer.memory:.0f}",
            offer.fit,
            time,
            cost,
            ", ".join(best),
            place,
            style=None if offer in good else "dim",
        )
    screen.console.print(table)
    screen.print(
        "  Prices: "
        + ", ".join(f"({i}) {source}" for i, source in enumerate(sources, start=1))
        + "\n"
    )


def shared(update):
    """Return how many GPUs that share the weights hold an update, in words; "" if none of these numbers is enough."""
    number = next(
        (
            n
            for n in (2, 4, 8, 16, 32, 64, 128, 256)
            if budget.fits(budget.shard(update, n), 80) == "yes"
        ),
        None,
    )
    return (
        f"{number} GPUs of 80 GB that share the weights (FSDP): {gb(budget.shard(update, number))} on each; the command is in the project's README"
        if number
        else ""
    )


def say_less(screen, project, script, values, how, update, sure):
    """Say what to change if an update is not sure to fit any GPU."""
    screen.print(
        "  trying smaller versions, one change after another; each takes about as long ...\n"
    )
    ways = [
        (what, budget.rehearse(project, script, new, **other))
        for what, new, other in budget.cheaper(project, script, values, how)
    ]
    where = lambda peak: (
        ", ".join(n for n, g in budget.gpus().items() if budget.fits(peak, g["memory"]) == "yes")
        or "still none"
    )
    lines = [f"{what}: {gb(slim.peak)}, fits {where(slim.peak)}" for what, slim in ways]
    enough = any(where(slim.peak) != "still none" for _, slim in ways)
    if script == "finetune":
        lora = next((slim for what, slim in ways if "LoRA" in what), update)
        frozen = lora.parameters - lora.trained
        lines.append(
            f"the frozen weights in 16 bits (dtype=torch.bfloat16 in `load` of finetune.py): {gb(2 * frozen)} less; in 4 bits (QLoRA, see PEFT's documentation): {gb(3.5 * frozen)} less"
        )
    slim = min([update, *(slim for _, slim in ways)], key=lambda slim: slim.passing)
    as_it_is, at_least = shared(update), shared(slim)
    lines = (
        [f"nothing, on {as_it_is}"] * bool(as_it_is)
        + lines
        + [f"with all of that, on {at_least}" if at_least else "a smaller model"] * (not enough)
    )
    screen.say(
        f"It fits none of them{sure}. What you can change, cheapest first; each line includes those above it",
        lines,
    )


def show(screen, project, script, values, how, price, live):
    """Rehearse, and print memory, GPUs, time and cost; return whether it fits a GPU that is known."""
    screen.print("  running the update on tensors that have a shape but no numbers ...\n")
    update, processes = budget.rehearse(project, script, values, **how), how["processes"]
    each = f"{update.tokens:,} tokens" + f" on each of {processes} GPUs" * (processes > 1)
    trained = "" if update.trained == update.parameters else f", {update.trained:,} of them trained"
    screen.say(
        "Rehearsed without a GPU",
        [
            f"{update.parameters:,} weights{trained}; an update of {each} costs {budget.operations(update.flops)}.",
            f"The real update, of {'your ' * project.out.exists()}train.py, ran in {update.seconds:.1f} s on tensors that have a shape but no numbers.",
        ],
    )
    show_memory(screen, update, processes)
    peak = update.peak + 4 * update.trained * (
        processes > 1
    )  # DDP keeps a second copy of the gradients, in buckets
    found = budget.offers(update, peak, values.updates, processes, price, how["precision"], live)
    show_offers(screen, found, processes)
    sure = [offer for offer in found if offer.fit == "yes"]
    if not sure:
        say_less(
            screen,
            project,
            script,
            values,
            how,
            update,
            " for sure" * any(offer.fit == "perhaps" for offer in found),
        )
    elif script == "pretrain" and update.seconds < 3:  # two more of them are to be waited for
        cheapest = min(sure, key=lambda offer: offer.cost)
        if rows := budget.most_rows(project, script, values, cheapest.memory, how):
            screen.print(
                f"  Most rows of {values.context:,} tokens at once on a {cheapest.name}: about {rows:,}.\n"
            )
    guessed = script == "finetune" and not (project.out / "chats" / "train.jsonl").exists()
    slow, fast = budget.SLOW, budget.FAST
    screen.say(
        "Where these numbers come from",
        [
            "Memory: counted"
            + ", for examples of half a row each, half of it answer: your own file will differ"
            * guessed
            + f". Time: {slow.arithmetic:.0%} to {fast.arithmetic:.0%} of the data sheet's arithmetic, {slow.bandwidth:.0%} to {fast.bandwidth:.0%} of its bandwidth; "
            f"the short end needs torch.compile. {values.updates:,} updates, without evaluations.",
            "Prices change: check them where they come from. You pay from start to stop, including the minutes of setting up and any time you forget to switch it off.",
            *(
                f"Earlier in this project, {what}: {estimated:.4g} estimated, {measured:.4g} measured ({measured / estimated - 1:+.0%})."
                for what, estimated, measured in budget.past(project)[-3:]
            ),
        ],
    )
    return any(offer.fit != "no" for offer in found)


IDEA = (
    "--from --size --vocabulary --method --rows-at-once --checkpointing --precision --gpus --price"
)


def an_idea(words):
    """Return True if an option asks for what no project holds yet: a run to be counted, not tried."""
    asked = [*IDEA.split(), "--hf", "-h", "--help"]
    return any(word.split("=")[0] in asked for word in words)


def parser():
    p = argparse.ArgumentParser(
        "handrail rehearse",
        description="What a run needs, where it fits, how long and how much. Needs no GPU.",
    )
    p.add_argument("folder", nargs="?", help="a project; default: the one here, or none")
    p.add_argument(
        "--from",
        dest="base",
        help="a pretrained model: hub id, or a folder with config.json; its weights are not read",
    )
    p.add_argument("--size", help="of a new model: 1m 5m 25m 85m 300m 1b")
    p.add_argument("--vocabulary", type=int, help="tokens of a new model")
    p.add_argument("--method", choices=["full", "lora"], help="of fine-tuning")
    for name, meaning in (
        ("updates", "how many"),
        ("batch", "rows in one update"),
        ("context", "tokens in a row"),
        ("rows-at-once", "rows in memory at once"),
    ):
        p.add_argument(f"--{name}", type=int, help=meaning)
    p.add_argument(
        "--checkpointing",
        action="store_true",
        help="compute activations again in the backward pass: less memory, a third more time",
    )
    p.add_argument(
        "--precision",
        choices=["bf16", "fp16", "fp32"],
        default="bf16",
        help="number format of the multiplications",
    )
    p.add_argument("--gpus", type=int, default=1, help="how many share an update")
    p.add_argument(
        "--price", type=float, help="dollars per hour for one GPU, instead of the list's"
    )
    p.add_argument(
        "--hf", action="store_true", help="ask Hugging Face for today's prices of its jobs"
    )
    return p


def idea(words, folder):
    """Return (project, script, values) of what was typed: an existing project, or one made up for this purpose in `folder`."""
    new = words.base or words.size  # a model that the project here has nothing to do with
    place = Path(words.folder or ("." if new else usual()))
    real = (place / "settings.toml").exists()
    if real:
        Project(
            place
        ).check_version()  # so that a mistake in it is named in the file that its owner knows
    if words.folder and not real:
        raise Stop(
            f"{place} is not a project. Without one, say what you mean: handrail rehearse --size 85m, or: handrail rehearse --from {OPEN} --method lora"
        )
    for file in PROGRAM.glob("*.py"):  # what the walk has not handed over yet
        shutil.copy(file, folder)
    (Path(folder) / "settings.toml").write_text("[finetune]\n")
    if real:
        for file in [*place.glob("*.py"), place / "settings.toml"]:
            shutil.copy(file, folder)
        (Path(folder) / "out").mkdir()  # a link to all of it would count as another project's
        for made in place.resolve().glob("out/*"):
            (Path(folder) / "out" / made.name).symlink_to(made)
    project = Project(folder, cpu=True)
    began = project.settings.get("data") if real else not words.method
    script = "finetune" if words.method or not began else "pretrain"
    if script == "finetune" and not real and not words.base:
        raise Stop(
            f"Which model is to be fine-tuned? handrail rehearse --from {OPEN} --method {words.method}"
        )
    values = project.load().settings.read(
        "", ["--cpu"], script if script in project.settings else ""
    )
    typed = {
        name: getattr(words, name)
        for name in (
            "base",
            "size",
            "vocabulary",
            "method",
            "updates",
            "batch",
            "context",
            "rows_at_once",
        )
        if getattr(words, name) is not None
    }
    for name, value in typed.items():
        if isinstance(value, int) and value < 1:
            raise Stop(f"--{name} {value}: it must be a number above 0")
    if words.base and Path(words.base).exists():
        typed["base"] = str(Path(words.base).resolve())
    defaults = {"size": "85m", "vocabulary": 32768, "method": "lora", "lr": 1e-4}
    vars(values).update(
        {name: value for name, value in defaults.items() if not hasattr(values, name)} | typed
    )
    if script == "finetune":
        values.model = typed.get("base") or getattr(values, "model", None) or values.base
        if not values.model:
            raise Stop(f"Which model is to be fine-tuned? Add --from out/model, or --from {OPEN}")
    for name in ("base", "model"):  # a path in settings.toml is seen from the project
        if getattr(values, name, None) and real and (place / getattr(values, name)).exists():
            setattr(values, name, str((place / getattr(values, name)).resolve()))
    return project, script, values


def check_numbers(values, script, gpus):
    """Raise Stop for settings that no run could have."""
    if script == "pretrain" and values.batch % gpus:
        raise Stop(
            f"--batch {values.batch}: {values.batch} rows cannot be divided among {gpus} GPUs. Choose a multiple of {gpus}."
        )
    if values.batch * values.context > 2**31:
        raise Stop(
            f"--batch {values.batch:,} with --context {values.context:,}: that is more than two billion tokens in one update, more than anybody has ever done."
        )
    if base := values.model if script == "finetune" else values.base:
        from transformers import AutoConfig

        config = opened(AutoConfig, base).get_text_config()
        most = getattr(config, "max_position_embeddings", None)
        if (
            most and values.context > most and not getattr(config, "rope_parameters", None)
        ):  # a table of places; others can be read on
            raise Stop(f"--context {values.context:,}: {base} can read {most:,} tokens at once.")


def main(arguments):
    """Run `handrail rehearse`; return the exit code: 0, or 1 if no known GPU is large enough."""
    words = parser().parse_args(arguments)
    if words.gpus < 1 or (words.price is not None and not 0 < words.price < math.inf):
        raise Stop("--gpus and --price must be numbers above 0")
    if words.base is not None and not words.base.strip():
        raise Stop(
            f"--from is empty. It names a model of the hub, such as {OPEN}, or a folder with config.json."
        )
    if words.size and words.base:
        raise Stop("--size is for a new model, --from names an existing one: choose one of the two")
    with tempfile.TemporaryDirectory() as folder:
        project, script, values = idea(words, folder)
        if not values.base and script == "pretrain" and values.size not in sizes(project):
            raise Stop(f"There is no size {values.size!r}. The sizes: {' '.join(sizes(project))}")
        check_numbers(values, script, words.gpus)
        how = {
            "checkpointing": words.checkpointing,
            "processes": words.gpus,
            "precision": words.precision,
        }
        live = {}
        if words.hf:
            from handrail.rent.jobs import live_prices

            if not (live := live_prices()):
                raise Stop(
                    "Hugging Face did not give its prices. Is there a network? Is HF_HUB_OFFLINE set? Without --hf, the dated prices of gpus.toml are used."
                )
        screen = Screen(yes=True)
        name = (
            values.model
            if script == "finetune"
            else values.base or f"a new model of size {values.size}"
        )
        kind = f"{values.method} fine-tuning" if script == "finetune" else "training"
        screen.title(
            f"{name}: {kind}",
            f"{values.batch} rows of {values.context:,} tokens an update, {words.precision}",
        )
        return int(not show(screen, project, script, values, how, words.price, live))
