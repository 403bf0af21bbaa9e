"""How long until it has learned the village?

    python bench/learn.py --updates 600 1200            time to 1.05 x the floor, beside nanoGPT
    python bench/learn.py --sizes --updates 800         Muon against AdamW at three sizes

First question: seconds, compilation included, until the loss on held-out stories is 1.05 x the village's floor: our
program with its own optimizer (Muon) and with AdamW, beside nanoGPT (its model, its AdamW, its kind of schedule: warm-up,
then a cosine down to a tenth), each at its best of the --rates and --updates. Same tokenizer, same tokens, same batches.
Second (--sizes): updates and seconds until Muon has the loss that AdamW, at its best rate, ends with.

Only updates are timed, never an evaluation. The loss is that of whole stories, one a row. Each run has a process of its
own and compiles from an empty cache, as a first run does, and its curve is one line in --results as soon as it ends; started again, the bench makes only the runs
that are missing there. The runs need a quiet machine: they are not interleaved.
"""

import argparse
import json
import math
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import ground
import torch
from torch._inductor.utils import fresh_cache

from batches import load_tokens, train_batches, val_batches
from optimizer import make_optimizer, make_schedule
from settings import start
from train import mean_loss, next_token_loss, train

SAME = (
    "batch",
    "context",
    "stories",
    "exam",
    "seed",
)  # what all runs of a comparison have in common
WHO = ["handrail, Muon", "handrail, AdamW", "nanoGPT"]


def cosine(rate, updates):
    """Return nanoGPT's kind of schedule."""
    rise = max(1, updates // 20)
    fall = lambda step: 0.55 + 0.45 * math.cos(math.pi * (step - rise) / (updates - rise))
    return lambda step: rate * ((step + 1) / rise if step < rise else fall(step))


def nanogpt_loss(model, batch):
    """Return the sum of -ln P over all targets that count."""
    logits, _ = model(
        batch["inputs"], batch["inputs"]
    )  # without targets it gives only the last position's
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["targets"].flatten(), reduction="sum"
    )


def run(args, who, layers, width, rate, updates, data):
    """Train once; return [[updates made, seconds, loss on val], ...]."""
    accelerator = start(SimpleNamespace(cpu=args.device == "cpu", seed=args.seed))
    tokens, exam, vocabulary = data
    batches = train_batches(
        tokens,
        SimpleNamespace(batch=args.batch, context=args.context, seed=args.seed, rows_at_once=0),
    )
    curve, every, seconds = [], max(1, updates // args.looks), 0.0

    if who == "nanoGPT":
        torch.use_deterministic_algorithms(False)
        peer = ground.NanoGPT(
            args.nanogpt, layers, width, vocabulary, args.context, args.device, not args.eager
        )
        schedule = cosine(rate, updates)
        for step in range(updates):
            clock = time.perf_counter()
            batch = batches(step)[0]
            peer.update(
                batch["inputs"].to(args.device), batch["targets"].to(args.device), schedule(step)
            )
            seconds += time.perf_counter() - clock
            if (step + 1) % every == 0 or step + 1 == updates:
                curve.append(
                    [step + 1, seconds, mean_loss(accelerator, peer.plain, exam, nanogpt_loss)]
                )
        return curve

    def log(step, seen, lr, tokens, took, val):
        nonlocal seconds
        seconds += took
        if val is not None:
            curve.append([step, seconds, val])

    model = ground.new_model(layers, width, vocabulary, args.context, args.seed)
    own = (
        make_optimizer
        if who == WHO[0]
        else lambda model, lr: torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
    )
    model, optimizer = accelerator.prepare(model, own(model, rate))
    train(
        accelerator,
        model,
        batches,
        next_token_loss,
        optimizer,
        make_schedule(rate, updates),
        updates,
        every=every,
        log=log,
        compiled=not args.eager,
        evaluate=lambda step: mean_loss(accelerator, model, exam, next_token_loss),
    )
    return curve


def reached(curve, target):
    """Return (updates, seconds) at the first look with a loss of `target` or below, or None."""
    return next(((step, seconds) for step, seconds, loss in curve if loss <= target), None)


def floor_table(args, runs, floor, per_story):
    print(
        f"\nfloor {floor:.4f} nats a token, {floor * per_story:.2f} a story; target {1.05 * floor:.4f}\n\n"
        "| who | best rate | of a run of | updates to target | seconds to target | loss at the end | nats a story above the floor |\n|---|---|---|---|---|---|---|"
    )
    for who in WHO:
        if not any(r["who"] == who for r in runs):
            continue
        # best: the first at the target; if none comes there, the lowest loss at its end
        judged = [
            ((reached(r["curve"], 1.05 * floor) or (0, math.inf))[1], r["curve"][-1][2], r)
            for r in runs
            if r["who"] == who
        ]
        _, end, best = min(judged, key=lambda j: j[:2])
        step, seconds = reached(best["curve"], 1.05 * floor) or ("not reached", math.nan)
        print(
            f"| {who} | {best['rate']:g} | {best['updates']} | {step} | {seconds:.1f} | {end:.4f} ({end / floor:.3f} x) | {(end - floor) * per_story:.2f} |"
        )


def sizes_table(args, runs, floor, per_story):
    print(
        f"\nfloor {floor:.4f} nats a token, {floor * per_story:.2f} a story\n\n"
        "| layers x width | AdamW's best rate, end | Muon's best rate, end | AdamW's end reached by Muon, updates | seconds | Muon's share of AdamW's time |\n|---|---|---|---|---|---|"
    )
    for layers, width in args.shapes:
        here = [r for r in runs if (r["layers"], r["width"]) == (layers, width)]
        adamw = min(
            (r for r in here if r["who"] == WHO[1]),
            key=lambda r: min(loss for *_, loss in r["curve"]),
        )
        target = min(loss for *_, loss in adamw["curve"])
        step, seconds = reached(adamw["curve"], target)
        there = lambda r: (reached(r["curve"], target) or (0, math.inf))[1]
        muon = min(
            (r for r in here if r["who"] == WHO[0]), key=lambda r: (there(r), r["curve"][-1][2])
        )
        made, took = reached(muon["curve"], target) or (math.nan, math.nan)
        print(
            f"| {layers} x {width} | {adamw['rate']:g}, {target:.4f} | {muon['rate']:g}, {muon['curve'][-1][2]:.4f} | {made} of {step} | {took:.1f} of {seconds:.1f} | {took / seconds:.2f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nanogpt", default=ground.NANOGPT, help="a clone of nanoGPT")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--sizes", action="store_true", help="Muon against AdamW at all --shapes, without nanoGPT"
    )
    parser.add_argument(
        "--shapes",
        nargs="+",
        default=["2x64", "4x128", "6x192"],
        help="layers x width; without --sizes 4x128",
    )
    parser.add_argument(
        "--updates", type=int, nargs="+", default=[800], help="lengths of run to try"
    )
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3, 6e-3])
    parser.add_argument(
        "--who", nargs="+", choices=WHO, default=WHO, help="make only the runs of these"
    )
    parser.add_argument("--eager", action="store_true", help="do not compile")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("learn.jsonl"))
    for name, value in dict(
        batch=32, context=128, stories=80_000, exam=256, looks=40, seed=0
    ).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    args.shapes = [
        tuple(map(int, shape.split("x"))) for shape in (args.shapes if args.sizes else ["4x128"])
    ]
    made = (
        [json.loads(line) for line in args.results.read_text().splitlines()]
        if args.results.exists()
        else []
    )

    with tempfile.TemporaryDirectory() as folder:
        tokenizer, nats = ground.village_tokens(Path(folder), args.stories)
        tokens, val = load_tokens(Path(folder), "train"), load_tokens(Path(folder), "val")
        exam = list(val_batches(val, tokenizer.eos_token_id, args.context, args.exam))
        targets, nats = sum(batch["count"] for batch in exam), nats[: args.exam]
        floor = sum(nats) / targets
        print(
            f"{len(tokens):,} tokens: {max(args.updates) * args.batch * args.context / len(tokens):.2f} epochs in the longest run"
        )
        for layers, width in args.shapes:
            for key in [
                (who, rate, updates)
                for who in args.who[: 2 if args.sizes else 3]
                for rate in args.rates
                for updates in args.updates
            ]:
                about = dict(
                    zip(("who", "rate", "updates"), key),
                    layers=layers,
                    width=width,
                    device=args.device,
                    eager=args.eager,
                )
                about |= {name: getattr(args, name) for name in SAME} | {"floor": floor}
                done = next((old for old in made if about.items() <= old.items()), None)
                if not done:
                    with ProcessPoolExecutor(1, get_context("spawn")) as alone, fresh_cache():
                        how = (
                            about["who"],
                            layers,
                            width,
                            about["rate"],
                            about["updates"],
                            (tokens, exam, len(tokenizer)),
                        )
                        curve = alone.submit(run, args, *how).result()
                    done = about | {"threads": torch.get_num_threads(), "curve": curve}
                    made.append(done)
                    with open(args.results, "a") as file:
                        print(json.dumps(done), file=file)
                print(
                    f"{about['who']}, {layers} x {width}, rate {about['rate']:g}: {done['curve'][-1]}",
                    flush=True,
                )
    same = {name: getattr(args, name) for name in SAME} | {
        "device": args.device,
        "eager": args.eager,
        "floor": floor,
    }
    runs = [
        r for r in made if same.items() <= r.items() and (r["layers"], r["width"]) in args.shapes
    ]  # at whatever rates
    (sizes_table if args.sizes else floor_table)(args, runs, floor, targets / len(nats))


if __name__ == "__main__":
    main()
