"""How fast is the loop?

    python bench/loop.py                      4 layers x 128, 32 rows x 128 tokens, CPU, 32-bit; eager, then compiled
    python bench/loop.py --device cuda --layers 12 --width 768 --context 1024 --batch 16 --vocabulary 50304 --only compiled

Tokens/s of `train` (handrail/program/train.py) with the program's Llama and AdamW, beside (a) Transformers' Trainer with
the same model, weights, batch, precision and AdamW, all else at its defaults, nothing saved or reported, and (b) nanoGPT
at the same shape, updated as its train.py does it (its get_batch, autocast, clip, its configure_optimizers) and once more
with our AdamW. A last row has our loop with the program's own optimizer. All take turns, round by round, in one process,
so that a machine that slows down slows all of them; a ratio is taken within a round. The first updates, compilation
included, are stated apart, each compiled from an empty cache (but a second row of one model reuses what the first left
in memory). On the CPU the program's deterministic mode is on in its own turns, as in a real run.
"""

import argparse
import copy
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import ground
import numpy as np
import torch
from torch._inductor.utils import fresh_cache
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from batches import load_tokens, train_batches
from optimizer import make_optimizer
from settings import start
from train import next_token_loss, train

OURS, RATE, WARMUP = "handrail", 1e-3, 3


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)


def ours(args, accelerator, model, optimizer, tokens, compiled):
    """Return turn(updates): the program's loop, going on where its last turn ended."""
    model, optimizer = accelerator.prepare(model, optimizer)
    batches = train_batches(
        tokens, SimpleNamespace(batch=args.batch, context=args.context, seed=0, rows_at_once=0)
    )
    done = 0

    def turn(updates):
        nonlocal done
        torch.use_deterministic_algorithms(args.device == "cpu")
        train(
            accelerator,
            model,
            batches,
            next_token_loss,
            optimizer,
            lambda step: RATE,
            done + updates,
            first=done,
            compiled=compiled,
        )
        torch.use_deterministic_algorithms(False)
        done += updates

    return turn


def nanogpt(args, peer, folder):
    """Return turn(updates): nanoGPT's loop, its next batch fetched while the model works, as in its train.py."""
    get_batch = ground.nanogpt_get_batch(
        args.nanogpt, folder, args.batch, args.context, args.device
    )
    following = [get_batch()]

    def turn(updates):
        for _ in range(updates):
            peer.update(*following.pop(), RATE, after_forward=lambda: following.append(get_batch()))

    return turn


class TakeTurns(TrainerCallback):
    """Trainer's train() cannot be left and entered again; so when a round of its own is over, it calls the others."""

    def __init__(self, args, others, seconds):
        self.args, self.others, self.seconds = args, others, seconds

    def on_train_begin(self, *_, **__):
        self.clock = time.perf_counter()

    def on_step_end(self, _, state, *__, **___):
        rest = (state.global_step - WARMUP) % self.args.updates
        if state.global_step < WARMUP or rest:
            return
        self.over("Trainer", self.clock)
        first = state.global_step == WARMUP
        for name, turn in self.others.items():
            clock = time.perf_counter()
            with fresh_cache() if first else nullcontext():
                turn(WARMUP if first else self.args.updates)
            self.over(name, clock)
        self.clock = time.perf_counter()

    def over(self, name, clock):
        if self.args.device == "cuda":
            torch.cuda.synchronize()
        self.seconds.setdefault(name, []).append(time.perf_counter() - clock)


def contest(args, folder, compiled):
    """Run all rounds; return {name: (parameters, [seconds of the first updates, of round 1, of round 2, ...])}."""
    tokens = load_tokens(folder, "train")
    model = ground.new_model(args.layers, args.width, args.vocabulary, args.context)
    rows = [
        torch.from_numpy(tokens[i : i + args.context].astype(np.int64))
        for i in range(0, len(tokens) - args.context, args.context)
    ]
    how = TrainingArguments(
        str(folder),
        max_steps=WARMUP + args.rounds * args.updates,
        per_device_train_batch_size=args.batch,
        learning_rate=RATE,
        torch_compile=compiled,
        use_cpu=args.device == "cpu",
        bf16=args.device == "cuda",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    theirs = copy.deepcopy(model)
    others, seconds = {}, {}
    trainer = Trainer(
        theirs,
        how,
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        optimizers=(adamw(theirs), None),
        callbacks=[TakeTurns(args, others, seconds)],
    )
    accelerator = start(SimpleNamespace(cpu=args.device == "cpu", seed=0))
    torch.use_deterministic_algorithms(False)
    mine = [copy.deepcopy(model), copy.deepcopy(model)]
    others[OURS] = ours(args, accelerator, mine[0], adamw(mine[0]), tokens, compiled)
    shape = (args.layers, args.width, args.vocabulary, args.context, args.device, compiled)
    peers = {"nanoGPT, its own AdamW": None, "nanoGPT, our AdamW": adamw}
    peers = {name: ground.NanoGPT(args.nanogpt, *shape, kind) for name, kind in peers.items()}
    others |= {name: nanogpt(args, peer, folder) for name, peer in peers.items()}
    others[f"{OURS}, its own optimizer"] = ours(
        args, accelerator, mine[1], make_optimizer(mine[1], RATE), tokens, compiled
    )
    trainer.train()
    size = model.num_parameters()
    return {
        name: (peers[name].parameters if name in peers else size, times)
        for name, times in seconds.items()
    }


def peak_tflops(device, size):
    """Return the TFLOP/s that a large matrix product reaches, in the number format of the runs."""
    a = torch.randn(
        size, size, device=device, dtype=torch.bfloat16 if device == "cuda" else torch.float32
    )
    best = float("inf")
    for _ in range(20):
        clock = time.perf_counter()
        (a @ a)[0, 0].item()
        best = min(best, time.perf_counter() - clock)
    return 2 * size**3 / best / 1e12


def table(args, results, compiled, peak):
    tokens = args.updates * args.batch * args.context
    median = lambda values: statistics.median(values)
    print(
        f"\n{'compiled' if compiled else 'eager'}, {args.device}, {args.layers} layers x {args.width}, {args.batch} x "
        f"{args.context} tokens, {torch.get_num_threads()} threads, {args.rounds} rounds of {args.updates} updates\n\n"
        f"| loop | parameters | tokens/s | MFU of {peak:.2f} TFLOP/s | handrail is faster by (least to most) | first {WARMUP} updates |\n|---|---|---|---|---|---|"
    )
    for name, (size, (first, *times)) in results.items():
        speed = tokens / median(times)
        mfu = (6 * size + 12 * args.layers * args.width * args.context) * speed / peak / 1e12
        ratios = [theirs / own for theirs, own in zip(times, results[OURS][1][1:])]
        print(
            f"| {name} | {size:,} | {speed:,.0f} | {mfu:.1%} | {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {first:.1f} s |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nanogpt", default=ground.NANOGPT, help="a clone of nanoGPT")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", choices=["eager", "compiled"])
    parser.add_argument(
        "--peak-tflops", type=float, help="of the data sheet; measured if not given"
    )
    for name, value in dict(
        layers=4, width=128, context=128, batch=32, vocabulary=512, rounds=7, updates=20
    ).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    logging.set_verbosity_error()
    if args.device == "cuda":
        torch.set_float32_matmul_precision("high")  # for everybody, as nanoGPT's train.py has it
    peak = args.peak_tflops or peak_tflops(args.device, 8192 if args.device == "cuda" else 2048)
    with tempfile.TemporaryDirectory() as folder, fresh_cache():
        torch.compile(torch.sin)(
            torch.ones(2, device=args.device)
        )  # the compiler's own start falls to nobody
        folder = Path(folder)
        rows = (WARMUP + args.rounds * args.updates) * args.batch + 1
        np.random.default_rng(0).integers(2, args.vocabulary, rows * args.context + 1).astype(
            np.uint16
        ).tofile(folder / "train.bin")
        (folder / "about.json").write_text('{"dtype": "uint16"}')
        for compiled in [False, True]:
            if args.only != ("eager" if compiled else "compiled"):
                with redirect_stdout(sys.stderr):  # Trainer and nanoGPT talk
                    results = contest(args, folder, compiled)
                table(args, results, compiled, peak)


if __name__ == "__main__":
    main()
