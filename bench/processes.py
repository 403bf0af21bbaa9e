"""Do two processes learn what one does?

    python bench/processes.py

The same work under `python` and under `torchrun --nproc_per_node 2` (gloo, CPU, one thread each),
with the same global batch, from the same weights. Compared: the gradient of the first batch
(relative difference at most 1e-6; rows of unequal length, in parts, so that a wrong normalisation
shows), AdamW's losses for 10 updates (at most 1e-5 apart), and the final loss on val of a run with
the program's own optimizer (within 1 %). Exits 1 if one is missed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import ground
import torch
from tables import head, options, row

from batches import IGNORE, load_tokens, train_batches, val_batches
from optimizer import make_optimizer
from settings import start
from train import fit, mean_loss, next_token_loss, update

SHAPE = {"layers": 2, "width": 64, "vocabulary": 512, "context": 64}
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def uneven(batch):
    """Cut every row short by its own amount, so that processes and parts count differently."""
    for part in batch:
        for inputs, targets in zip(part["inputs"], part["targets"], strict=True):
            targets[len(inputs) // (1 + int(inputs.sum()) % 5) :] = IGNORE
        part["count"] = int((part["targets"] != IGNORE).sum())
    return batch


def first_gradient(accelerator, batch):
    """Return the gradient that the optimizer is given in the first update."""
    plain, found = ground.new_model(**SHAPE), []
    optimizer = ground.fused_adamw(plain, 3e-3)

    def look(*_):
        found.extend(weight.grad.flatten().clone() for weight in plain.parameters())

    optimizer.register_step_pre_hook(look)
    model, optimizer = accelerator.prepare(plain, optimizer)
    update(accelerator, model, batch, next_token_loss, optimizer, clip=float("inf"))
    return torch.cat(found)


def work(folder, updates):
    """What each process does; the first one writes what came out to folder/PROCESSES.pt."""
    settings = ground.chosen(batch=16, context=SHAPE["context"], rows_at_once=3, lr=3e-3)
    accelerator = start(settings)
    tokens, val = (load_tokens(folder, side) for side in ("train", "val"))
    rank, processes = accelerator.process_index, accelerator.num_processes
    batches = train_batches(tokens, settings, rank, processes)

    def trained(make, number):
        """Make a run, as pretrain.py does; return its lines."""
        settings.updates, settings.out = number, folder / f"{processes}-{number}"
        plain = ground.new_model(**SHAPE)
        model, optimizer = accelerator.prepare(plain, make(plain, settings.lr))

        def evaluate(step):
            rows = val_batches(val, 0, settings)
            return mean_loss(accelerator, model, rows, next_token_loss)

        data = folder / "train.bin"
        fit(accelerator, model, optimizer, settings, data, batches, next_token_loss, evaluate)
        return ground.metrics(settings.out)

    gradient = first_gradient(accelerator, uneven(batches(0)))
    losses = [line["loss"] for line in trained(ground.fused_adamw, 10)]
    val_loss = trained(make_optimizer, updates)[-1]["val_loss"]
    if accelerator.is_main_process:
        result = {"gradient": gradient, "losses": torch.tensor(losses), "val": val_loss}
        torch.save(result, folder / f"{processes}.pt")


def main():
    parser = options(__doc__, updates=200)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return work(args.work, args.updates)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer, _ = ground.village_tokens(Path(folder), 4000, SHAPE["vocabulary"])
        assert (tokenizer.eos_token_id, len(tokenizer)) == (0, SHAPE["vocabulary"])
        for launch in ([], TWO):
            words = [__file__, "--work", folder, "--updates", str(args.updates)]
            alone = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run([sys.executable, *launch, *words], check=True, env=alone)
        one, two = (torch.load(Path(folder) / f"{number}.pt") for number in (1, 2))
    gradients = (one["gradient"] - two["gradient"]).norm() / one["gradient"].norm()
    losses, vals = (one["losses"] - two["losses"]).abs().max(), (one["val"], two["val"])
    last = f"val loss after {args.updates} updates, {vals[0]:.4f} and {vals[1]:.4f}, relative"
    apart = [
        ("gradient, relative difference", gradients.item(), 1e-6),
        ("AdamW's losses, 10 updates, largest difference", losses.item(), 1e-5),
        (last, abs(vals[0] / vals[1] - 1), 1e-2),
    ]
    head("one process against two", "measured", "at most", "")
    for what, measured, most in apart:
        row(what, f"{measured:.1e}", f"{most:g}", "holds" if measured <= most else "MISSED")
    sys.exit(any(measured > most for _, measured, most in apart))


if __name__ == "__main__":
    main()
