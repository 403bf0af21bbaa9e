"""How fast is the loop?

    python bench/loop.py        4 layers x 128, 32 rows x 128 tokens, CPU, 32 bits; eager, compiled
    python bench/loop.py --device cuda --layers 12 --width 768 --context 1024 --batch 16 \
        --vocabulary 50304 --only compiled

Tokens/s of `fit` (handrail/program/train.py) itself, with the program's model and AdamW, beside (a)
Transformers' Trainer with the same model, weights, batch, precision and AdamW, all else at its
defaults, nothing saved or reported, and (b) nanoGPT at the same shape, updated as its train.py does
it (its get_batch, autocast, clip, its configure_optimizers) and once more with our AdamW. A last
row has our loop with the program's own optimizer.

All take turns, round by round, in one process, so that a machine that slows down slows all of them;
a ratio is taken within a round. Each round of ours is a call of `fit` that goes on with the same
weights: timed is what it does from making its first batch to having read its last loss (batches,
learning rate, updates, a line of metrics each), not what is before and after (looking for a
checkpoint, evaluating, saving). The first updates, compilation included, are stated apart, each
compiled from an empty cache (but a second row of one model reuses what the first left in memory).
On the CPU the program's deterministic mode is on in its own turns, as in a real run.
"""

import copy
import signal
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import ground
import numpy as np
import torch
from tables import head, options, row
from torch._inductor.utils import fresh_cache
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from batches import load_tokens, train_batches
from optimizer import make_optimizer
from settings import start
from train import fit, next_token_loss

OURS, LR, WARMUP = "handrail", 1e-3, 3


def ours(args, accelerator, model, optimizer, folder, compiled):
    """Return turn(updates) -> seconds: the program's loop, going on where its last turn ended."""
    model, optimizer = accelerator.prepare(model, optimizer)
    settings = ground.chosen(batch=args.batch, context=args.context, lr=LR)
    batches = train_batches(load_tokens(folder, "train"), settings)
    loss = torch.compile(next_token_loss) if compiled else next_token_loss
    done, clocks = 0, []

    def next_batch(step):
        if step == 0:
            clocks.append(time.perf_counter())
        return batches(done + step)

    def evaluate(step):
        clocks.append(time.perf_counter())
        return 0.0

    def turn(updates):
        nonlocal done
        torch.use_deterministic_algorithms(args.device == "cpu")
        settings.updates = settings.every = updates
        with tempfile.TemporaryDirectory() as out:  # a new one: nothing to resume from
            settings.out, data = Path(out), folder / "train.bin"
            fit(accelerator, model, optimizer, settings, data, next_batch, loss, evaluate)
        torch.use_deterministic_algorithms(False)
        for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(kind, signal.SIG_DFL)  # `fit` would have caught them
        done += updates
        return clocks[-1] - clocks[-2]

    return turn


def nanogpt(args, peer, folder):
    """Return turn(updates) -> seconds: nanoGPT's loop; as in its train.py, it fetches ahead."""
    get_batch = ground.nanogpt_get_batch(
        args.nanogpt, folder, args.batch, args.context, args.device
    )
    following = [get_batch()]

    def fetch():
        following.append(get_batch())

    def turn(updates):
        clock = time.perf_counter()
        for _ in range(updates):
            peer.update(*following.pop(), LR, after_forward=fetch)
        return time.perf_counter() - clock

    return turn


class TakeTurns(TrainerCallback):
    """Trainer's train() cannot be left and entered again; so after a round it calls the others."""

    def __init__(self, args, others, seconds):
        self.args, self.others, self.seconds = args, others, seconds

    def on_train_begin(self, *_, **__):
        self.clock = time.perf_counter()

    def on_step_end(self, _, state, *__, **___):
        made = state.global_step - WARMUP
        if made < 0 or made % self.args.updates:
            return
        self.wait()
        self.seconds.setdefault("Trainer", []).append(time.perf_counter() - self.clock)
        for name, turn in self.others.items():
            with nullcontext() if made else fresh_cache():
                taken = turn(self.args.updates if made else WARMUP)
            self.wait()
            self.seconds.setdefault(name, []).append(taken)
        self.clock = time.perf_counter()

    def wait(self):
        if self.args.device == "cuda":
            torch.cuda.synchronize()


def contest(args, folder, compiled):
    """Run all rounds; return {name: (parameters, [seconds of each round])}, first updates first."""
    tokens, cpu = load_tokens(folder, "train"), args.device == "cpu"
    model = ground.new_model(args.layers, args.width, args.vocabulary, args.context)
    how = TrainingArguments(
        str(folder),
        max_steps=WARMUP + args.rounds * args.updates,
        per_device_train_batch_size=args.batch,
        learning_rate=LR,
        torch_compile=compiled,
        use_cpu=cpu,
        bf16=not cpu,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    rows = tokens[: len(tokens) // args.context * args.context].reshape(-1, args.context)
    rows = [torch.from_numpy(row.astype(np.int64)) for row in rows]
    theirs, others, seconds = copy.deepcopy(model), {}, {}
    trainer = Trainer(
        theirs,
        how,
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        optimizers=(ground.fused_adamw(theirs, LR), None),
        callbacks=[TakeTurns(args, others, seconds)],
    )
    accelerator = start(ground.chosen(cpu=cpu))
    torch.use_deterministic_algorithms(False)

    def program(make):
        mine = copy.deepcopy(model)
        return ours(args, accelerator, mine, make(mine, LR), folder, compiled)

    shape = (args.layers, args.width, args.vocabulary, args.context, args.device, compiled)
    peers = {"nanoGPT, its own AdamW": None, "nanoGPT, our AdamW": ground.fused_adamw}
    peers = {name: ground.NanoGPT(args.nanogpt, *shape, kind) for name, kind in peers.items()}
    others[OURS] = program(ground.fused_adamw)
    others |= {name: nanogpt(args, peer, folder) for name, peer in peers.items()}
    others[f"{OURS}, its own optimizer"] = program(make_optimizer)
    trainer.train()
    sizes = {name: peer.parameters for name, peer in peers.items()}
    return {name: (sizes.get(name, model.num_parameters()), seconds[name]) for name in seconds}


def peak_tflops(device):
    """Return the TFLOP/s that a large matrix product reaches, in the number format of the runs."""
    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (2048, torch.float32)
    a, best = torch.randn(size, size, device=device, dtype=dtype), float("inf")
    for _ in range(20):
        clock = time.perf_counter()
        (a @ a)[0, 0].item()
        best = min(best, time.perf_counter() - clock)
    return 2 * size**3 / best / 1e12


def table(args, results, compiled, peak):
    print(
        f"\n{'compiled' if compiled else 'eager'}, {args.device}, "
        f"{args.layers} layers x {args.width}, {args.batch} x {args.context} tokens, "
        f"{torch.get_num_threads()} threads, {args.rounds} rounds of {args.updates} updates"
    )
    mfu, faster = f"MFU of {peak:.2f} TFLOP/s", "handrail is faster by (least to most)"
    head("loop", "parameters", "tokens/s", mfu, faster, f"first {WARMUP} updates")
    attention = 12 * args.layers * args.width * args.context
    for name, (size, (first, *times)) in results.items():
        speed = args.updates * args.batch * args.context / statistics.median(times)
        used = (6 * size + attention) * speed / peak / 1e12
        ratios = [a / b for a, b in zip(times, results[OURS][1][1:], strict=True)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        row(name, f"{size:,}", f"{speed:,.0f}", f"{used:.1%}", ratio, f"{first:.1f} s")


def write_tokens(args, folder):
    """Write random tokens, as many as all rounds read."""
    rows = (WARMUP + args.rounds * args.updates) * args.batch + 1
    tokens = np.random.default_rng(0).integers(2, args.vocabulary, rows * args.context + 1)
    tokens.astype(np.uint16).tofile(folder / "train.bin")
    (folder / "about.json").write_text('{"dtype": "uint16"}')


def main():
    shape = {"layers": 4, "width": 128, "context": 128, "batch": 32, "vocabulary": 512}
    parser = options(__doc__, **shape, rounds=7, updates=20)
    parser.add_argument("--nanogpt", default=ground.NANOGPT, help="a clone of nanoGPT")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", choices=["eager", "compiled"])
    parser.add_argument("--peak-tflops", type=float, help="of the data sheet; else measured")
    args = parser.parse_args()
    logging.set_verbosity_error()
    if args.device == "cuda":
        torch.set_float32_matmul_precision("high")  # for everybody, as nanoGPT's train.py has it
    peak = args.peak_tflops or peak_tflops(args.device)
    with tempfile.TemporaryDirectory() as folder, fresh_cache():
        warm = torch.ones(2, device=args.device)
        torch.compile(torch.sin)(warm)  # the compiler's own start falls to nobody
        write_tokens(args, Path(folder))
        for compiled in (False, True):
            if args.only != ("eager" if compiled else "compiled"):
                with redirect_stdout(sys.stderr):  # Trainer, nanoGPT and `fit` talk
                    results = contest(args, Path(folder), compiled)
                table(args, results, compiled, peak)


if __name__ == "__main__":
    main()
