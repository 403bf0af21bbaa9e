"""From answering to answering well: of two answers, the better one.

Often nobody can write the perfect answer, but anybody can say which of two is
better. DPO (Rafailov et al. 2023, eq. 7) learns from such pairs: raise the
probability of the chosen answer over that of the rejected one, both compared
with the model as it was at the start, the *reference*. The smaller BETA is, the
further the model may move away from the reference.

The trap: only the gap between the two is trained, so both probabilities may
fall. Watch what it writes and how long that is, not only the loss (which starts
at ln 2 = 0.693).
"""

import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device

from checkpoint import run
from finetune import learn, load, token_losses
from messages import encode, load_rows
from packing import bins, pack, turns
from settings import OUT, read, refuse, start
from train import mean_loss

BETA = 0.1


def log_probs(model, batch):
    """Return ln P of the answer in each packed row (R,): the sum over its tokens."""
    tokens = -token_losses(model, batch)  # (K,)
    return tokens.new_zeros(len(batch["values"])).index_add(0, batch["owner"], tokens)


def dpo_loss(model, batch):
    """Return the sum over pairs of -ln sigmoid(BETA · (gain of chosen - gain of rejected))."""
    gain = log_probs(model, batch) - batch["values"]  # (R,): chosen, rejected, chosen, ...
    return -F.logsigmoid(BETA * (gain[0::2] - gain[1::2])).sum()


def encode_pair(tokenizer, pair):
    """Return the rows of the chosen and the rejected answer; only that answer is learned."""
    answers = [{"role": "assistant", "content": pair[side]} for side in ("chosen", "rejected")]
    return [encode(tokenizer, [*pair["messages"], answer])[-1] for answer in answers]


def in_parts(pairs, most):
    """Return pairs as packed batches of about `most` tokens; what is counted is pairs."""
    sized = [(chosen[0] + rejected[0], chosen, rejected) for chosen, rejected in pairs]
    parts = [[row for _, *pair in part for row in pair] for part in bins(sized, most)]
    return [pack(rows) | {"count": len(rows) // 2} for rows in parts]


@torch.no_grad()
def with_reference(accelerator, model, pairs, most):
    """Return the pairs with ln P of each answer in its row, before anything is trained."""
    values = []
    for batch in in_parts(pairs, most):
        with accelerator.autocast():
            values += log_probs(model, send_to_device(batch, accelerator.device)).tolist()
    values = iter(values)
    return [[(*row, next(values)) for row in pair] for pair in pairs]


def main():
    settings = read("Learn which of two answers is better, from out/pairs.", step="dpo")
    if not getattr(settings, "packed", True):
        refuse("This model cannot keep rows apart that are laid end to end, and DPO needs that.")
    accelerator = start(settings)
    model, tokenizer = load(settings, accelerator.mixed_precision)
    model.to(accelerator.device)
    known, most = {}, settings.context
    for side in ("train", "val"):
        rows = load_rows(OUT / "pairs" / f"{side}.jsonl")
        pairs = [encode_pair(tokenizer, pair) for pair in rows]
        short = [pair for pair in pairs if max(len(ids) for ids, _ in pair) <= most]
        if not short:
            refuse(f"None of {len(pairs)} pairs for {side} has at most {most} tokens (--context).")
        accelerator.print(f"{side}: {len(short):,} of {len(pairs):,} pairs fit (--context {most})")
        known[side] = with_reference(accelerator, model, short, most)

    rank, processes = accelerator.process_index, accelerator.num_processes

    def batches(step):
        return in_parts(turns(step, known["train"], settings, rank, processes), most)

    def evaluate(step):
        loss = mean_loss(accelerator, model, in_parts(known["val"], most), dpo_loss)
        accelerator.print(f"\n  after update {step:,}: loss on pairs never seen {loss:.3f}")
        accelerator.print("  (0.693: it cannot tell the two apart)\n")
        return loss

    data = OUT / "pairs" / "train.jsonl"
    learn(accelerator, settings, model, tokenizer, data, batches, dpo_loss, evaluate)


if __name__ == "__main__":
    run(main)
