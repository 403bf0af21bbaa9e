"""How long until it has learned the village?

    python bench/learn.py --updates 800 1200            time to 1.05 x the floor, beside nanoGPT
    python bench/learn.py --sizes --updates 800         Muon against AdamW at three sizes
    python bench/learn.py --updates 600 --lrs 0.3 1 --who "handrail, plain"
                                                        weight -= lr * gradient, and no more

First question: seconds, compilation included, until the loss on held-out stories is 1.05 x the
village's floor: our program (`fit`) with its own optimizer (Muon) and with AdamW, beside nanoGPT
(its model, its AdamW, its kind of schedule: warm-up, then a cosine down to a tenth), each at its
best of the --lrs and --updates. Same tokenizer, same tokens, same batches. Second (--sizes):
updates and seconds until Muon has the loss that AdamW, at its best learning rate, ends with.

Only updates are timed (for ours, the `seconds` of out/metrics.jsonl), never an evaluation or a
checkpoint. The loss is that of whole stories, one a row. Each run has a process of its own and
compiles from an empty cache, as a first run does, and its curve is one line in --results as soon as
it ends; started again, the bench makes only the runs that are missing there. The runs need a quiet
machine: they are not interleaved.
"""

import json
import math
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import accumulate, product
from multiprocessing import get_context
from pathlib import Path

import ground
import torch
import torch.nn.functional as F
from tables import head, options, pick, row
from torch._inductor.utils import fresh_cache

from batches import load_tokens, train_batches, val_batches
from optimizer import make_optimizer
from settings import start
from train import fit, mean_loss, next_token_loss

SAME = ("batch", "context", "stories", "exam", "seed", "device", "eager")  # for all runs compared
MUON, ADAMW, NANOGPT = WHO = ["handrail, Muon", "handrail, AdamW", "nanoGPT"]
PLAIN = "handrail, plain"  # weight -= lr * gradient


def cosine(lr, updates):
    """Return nanoGPT's kind of schedule."""
    rise = max(1, updates // 20)

    def schedule(step):
        if step < rise:
            return lr * (step + 1) / rise
        return lr * (0.55 + 0.45 * math.cos(math.pi * (step - rise) / (updates - rise)))

    return schedule


def nanogpt_loss(model, batch):
    """Return the sum of -ln P over all targets that count."""
    # without targets it gives only the last position's logits
    logits, _ = model(batch["inputs"], batch["inputs"])
    return F.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten(), reduction="sum")


def nanogpt(args, peer, schedule, settings, batches, judge):
    """Train nanoGPT; return [[updates made, seconds, loss on val], ...]."""
    curve, seconds = [], 0.0
    for step in range(settings.updates):
        clock = time.perf_counter()
        batch = batches(step)[0]
        x, y = batch["inputs"].to(args.device), batch["targets"].to(args.device)
        peer.update(x, y, schedule(step))
        seconds += time.perf_counter() - clock
        if (step + 1) % settings.every == 0 or step + 1 == settings.updates:
            curve.append([step + 1, seconds, judge(peer.plain, nanogpt_loss)])
    return curve


def run(args, about, folder, vocabulary, end):
    """Train once; return [[updates made, seconds, loss on val], ...]."""
    lr, updates = about["lr"], about["updates"]
    how = pick(args, "batch", "context", "seed") | {"lr": lr, "updates": updates}
    settings = ground.chosen(**how, every=max(1, updates // args.looks), cpu=args.device == "cpu")
    accelerator = start(settings)
    batches = train_batches(load_tokens(folder, "train"), settings)
    exam = list(val_batches(load_tokens(folder, "val"), end, settings, args.exam))
    shape = (about["layers"], about["width"], vocabulary, args.context)

    def judge(model, loss):
        return mean_loss(accelerator, model, exam, loss)

    if about["who"] == NANOGPT:
        torch.use_deterministic_algorithms(False)
        peer = ground.NanoGPT(args.nanogpt, *shape, args.device, not args.eager)
        return nanogpt(args, peer, cosine(lr, updates), settings, batches, judge)
    model = ground.new_model(*shape, args.seed)
    make = {MUON: make_optimizer, ADAMW: ground.fused_adamw, PLAIN: ground.plain}[about["who"]]
    model, optimizer = accelerator.prepare(model, make(model, lr))
    loss = next_token_loss if args.eager else torch.compile(next_token_loss)

    def evaluate(step):
        return judge(model, next_token_loss)

    with tempfile.TemporaryDirectory() as out:
        settings.out, data = Path(out), folder / "train.bin"
        fit(accelerator, model, optimizer, settings, data, batches, loss, evaluate)
        lines = ground.metrics(settings.out)
    seconds = accumulate(line["seconds"] for line in lines)
    looks = zip(lines, seconds, strict=True)
    return [[line["step"], s, line["val_loss"]] for line, s in looks if "val_loss" in line]


def reached(run, target):
    """Return (updates, seconds) at the first look with a loss of `target` or below, or None."""
    return next(((step, took) for step, took, loss in run["curve"] if loss <= target), None)


def best(runs, target):
    """Return the run that is first at the target; if none comes there, that with the lowest end."""

    def rank(run):
        _, seconds = reached(run, target) or (0, math.inf)
        return seconds, run["curve"][-1][2]

    return min(runs, key=rank)


def floor_table(args, runs, floor, per_story):
    target = 1.05 * floor
    print(f"\nfloor {floor:.4f} nats a token, {floor * per_story:.2f} a story; target {target:.4f}")
    when = ("updates to target", "seconds to target")
    head("who", "best lr", "of a run of", *when, "loss at the end", "nats a story above the floor")
    for who in [*WHO, PLAIN]:
        if theirs := [run for run in runs if run["who"] == who]:
            run = best(theirs, target)
            step, seconds = reached(run, target) or ("not reached", math.nan)
            end = run["curve"][-1][2]
            ended = f"{end:.4f} ({end / floor:.3f} x)", f"{(end - floor) * per_story:.2f}"
            row(who, f"{run['lr']:g}", run["updates"], step, f"{seconds:.1f}", *ended)


def sizes_table(args, runs, floor, per_story):
    print(f"\nfloor {floor:.4f} nats a token, {floor * per_story:.2f} a story")
    ends = ("AdamW's best lr, end", "Muon's best lr, end")
    when = ("AdamW's end reached by Muon, updates", "seconds", "Muon's share of AdamW's time")
    head("layers x width", *ends, *when)
    for layers, width in args.shapes:
        here = [run for run in runs if (run["layers"], run["width"]) == (layers, width)]
        lowest = {id(run): min(loss for *_, loss in run["curve"]) for run in here}
        adamw = min((r for r in here if r["who"] == ADAMW), key=lambda r: lowest[id(r)])
        target = lowest[id(adamw)]
        muon = best([run for run in here if run["who"] == MUON], target)
        step, seconds = reached(adamw, target)
        made, took = reached(muon, target) or (math.nan, math.nan)
        ends = f"{adamw['lr']:g}, {target:.4f}", f"{muon['lr']:g}, {muon['curve'][-1][2]:.4f}"
        when = f"{made} of {step}", f"{took:.1f} of {seconds:.1f}", f"{took / seconds:.2f}"
        row(f"{layers} x {width}", *ends, *when)


def read_options():
    numbers = {"batch": 32, "context": 128, "stories": 80_000, "exam": 256, "looks": 40, "seed": 0}
    parser = options(__doc__, **numbers)
    add = parser.add_argument
    add("--nanogpt", default=ground.NANOGPT, help="a clone of nanoGPT")
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--sizes", action="store_true", help="Muon against AdamW at all --shapes, no nanoGPT")
    add("--shapes", nargs="+", help="layers x width; default 4x128, with --sizes 2x64 4x128 6x192")
    add("--updates", type=int, nargs="+", default=[800], help="lengths of run to try")
    add("--lrs", type=float, nargs="+", default=[1e-3, 3e-3, 6e-3])
    add("--who", nargs="+", choices=[*WHO, PLAIN], default=WHO, help="make only the runs of these")
    add("--eager", action="store_true", help="do not compile")
    add("--results", type=Path, default=Path(__file__).with_name("learn.jsonl"))
    args = parser.parse_args()
    shapes = args.shapes or (["2x64", "4x128", "6x192"] if args.sizes else ["4x128"])
    args.shapes = [tuple(map(int, shape.split("x"))) for shape in shapes]
    args.who = [who for who in args.who if not (args.sizes and who == NANOGPT)]
    return args


def main():
    args = read_options()
    made = []
    if args.results.exists():
        made = [json.loads(line) for line in args.results.read_text().splitlines()]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tokenizer, nats = ground.village_tokens(folder, args.stories)
        tokens, val = (load_tokens(folder, side) for side in ("train", "val"))
        ending, nats = (len(tokenizer), tokenizer.eos_token_id), nats[: args.exam]
        settings = ground.chosen(context=args.context)
        exam = val_batches(val, tokenizer.eos_token_id, settings, args.exam)
        targets = sum(batch["count"] for batch in exam)
        same = pick(args, *SAME) | {"floor": sum(nats) / targets}
        epochs = max(args.updates) * args.batch * args.context / len(tokens)
        print(f"{len(tokens):,} tokens: {epochs:.2f} epochs in the longest run")
        for key in product(args.shapes, args.who, args.lrs, args.updates):
            (layers, width), who, lr, updates = key
            about = {"who": who, "lr": lr, "updates": updates, "layers": layers, "width": width}
            about |= same
            done = next((old for old in made if about.items() <= old.items()), None)
            if not done:
                with ProcessPoolExecutor(1, get_context("spawn")) as alone, fresh_cache():
                    curve = alone.submit(run, args, about, folder, *ending).result()
                done = about | {"threads": torch.get_num_threads(), "curve": curve}
                made.append(done)
                with open(args.results, "a") as file:
                    print(json.dumps(done), file=file)
            print(f"{who}, {layers} x {width}, lr {lr:g}: {done['curve'][-1]}", flush=True)
    runs = [  # at whatever learning rates and lengths
        run
        for run in made
        if same.items() <= run.items() and (run["layers"], run["width"]) in args.shapes
    ]
    table = sizes_table if args.sizes else floor_table
    table(args, runs, same["floor"], targets / len(nats))


if __name__ == "__main__":
    main()
