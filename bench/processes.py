"""Do two processes learn what one does?

    python bench/processes.py

The same work under `python` and under `torchrun --nproc_per_node 2` (gloo, CPU, one thread each), with the same global
batch, from the same weights. Compared: the gradient of the first batch (relative difference at most 1e-6; rows of
unequal length, in micro-batches, so that a wrong normalisation shows), AdamW's losses for 10 updates (at most 1e-5
apart), and the final loss on val of a run with the program's own optimizer (within 1 %). Exits 1 if one is missed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import ground
import torch

from batches import IGNORE, load_tokens, train_batches, val_batches
from optimizer import make_optimizer, make_schedule
from settings import start
from train import mean_loss, next_token_loss, train, update

SHAPE = dict(layers=2, width=64, vocabulary=512, context=64)


def uneven(batches):
    """Cut every row short by an amount of its own, so that processes and micro-batches count differently."""
    for batch in batches:
        for row, targets in zip(batch["inputs"], batch["targets"]):
            targets[len(row) // (1 + int(row.sum()) % 5) :] = IGNORE
        batch["count"] = int((batch["targets"] != IGNORE).sum())
    return batches


def work(folder, updates):
    """What each process does; the first one writes what came out to folder/PROCESSES.pt."""
    accelerator = start(SimpleNamespace(cpu=True, seed=0))
    processes, rank = accelerator.num_processes, accelerator.process_index
    how = SimpleNamespace(batch=16, context=SHAPE["context"], seed=0, rows_at_once=3)
    batches = train_batches(load_tokens(folder, "train"), how, rank, processes)

    def fresh(make):
        model = ground.new_model(**SHAPE)
        optimizer = make(model)
        return accelerator.prepare(model, optimizer), model, optimizer

    adamw = lambda model: torch.optim.AdamW(model.parameters(), lr=3e-3)
    (model, prepared), plain, optimizer = fresh(adamw)
    gradient = []
    optimizer.register_step_pre_hook(
        lambda *_: gradient.extend(p.grad.flatten().clone() for p in plain.parameters())
    )
    update(accelerator, model, uneven(batches(0)), next_token_loss, prepared, clip=float("inf"))

    (model, prepared), *_ = fresh(adamw)
    losses = train(accelerator, model, batches, next_token_loss, prepared, lambda step: 3e-3, 10)

    (model, prepared), *_ = fresh(lambda model: make_optimizer(model, 3e-3))
    train(
        accelerator,
        model,
        batches,
        next_token_loss,
        prepared,
        make_schedule(3e-3, updates),
        updates,
    )
    val = mean_loss(
        accelerator,
        model,
        val_batches(load_tokens(folder, "val"), 0, SHAPE["context"]),
        next_token_loss,
    )
    if accelerator.is_main_process:
        torch.save(
            {"gradient": torch.cat(gradient), "losses": losses, "val": val},
            folder / f"{processes}.pt",
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--updates", type=int, default=200, help="of the run whose final loss is compared"
    )
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return work(args.work, args.updates)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer, _ = ground.village_tokens(Path(folder), 4000, SHAPE["vocabulary"])
        assert (tokenizer.eos_token_id, len(tokenizer)) == (0, SHAPE["vocabulary"])
        for processes in (1, 2):
            launch = (
                ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
                if processes == 2
                else []
            )
            command = [
                sys.executable,
                *launch,
                __file__,
                "--work",
                folder,
                "--updates",
                str(args.updates),
            ]
            subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        one, two = (torch.load(Path(folder) / f"{processes}.pt") for processes in (1, 2))
    apart = [
        (
            "gradient, relative difference",
            ((one["gradient"] - two["gradient"]).norm() / one["gradient"].norm()).item(),
            1e-6,
        ),
        (
            "AdamW's losses, 10 updates, largest difference",
            max(abs(a - b) for a, b in zip(one["losses"], two["losses"])),
            1e-5,
        ),
        (
            f"val loss after {args.updates} updates, {one['val']:.4f} and {two['val']:.4f}, relative",
            abs(one["val"] / two["val"] - 1),
            1e-2,
        ),
    ]
    print("| one process against two | measured | at most | |\n|---|---|---|---|")
    for what, measured, most in apart:
        print(
            f"| {what} | {measured:.1e} | {most:g} | {'holds' if measured <= most else 'MISSED'} |"
        )
    sys.exit(any(measured > most for _, measured, most in apart))


if __name__ == "__main__":
    main()
