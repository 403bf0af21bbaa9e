"""From answering to answering well: of two answers, the better one.

Often nobody can write the perfect answer, but anybody can say which of two is
better. DPO (Rafailov et al. 2023, eq. 7) learns from such pairs: raise the
probability of the chosen answer over that of the rejected one, both measured
against the model as it was at the start, the *reference*. BETA is the leash:
the smaller it is, the further the model may go from the reference.

The trap: the gap alone is trained, so both probabilities may fall. Watch what
it writes and how long it is, not only the loss (it starts at ln 2 = 0.693).
"""

import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device

from checkpoint import run
from finetune import learn, load, token_losses
from messages import encode, load_rows
from packing import bins, pack, turn
from settings import OUT, read, refuse, start
from train import mean_loss

BETA = 0.1


def log_probs(model, batch):
    """Return ln P of the answer in each packed row (R,): the sum over its tokens."""
    each = -token_losses(model, batch)  # (K,)
    return each.new_zeros(batch["rows"]).index_add(0, batch["owner"], each)


def dpo_loss(model, batch):
    """Return the sum over pairs of -ln sigmoid(BETA · (gain of the chosen - gain of the rejected))."""
    gain = log_probs(model, batch) - batch["reference"]  # chosen, rejected, chosen, rejected, ...
    return -F.logsigmoid(BETA * (gain[0::2] - gain[1::2])).sum()


def encode_pair(tokenizer, pair):
    """Return the rows of the chosen and of the rejected answer; only the last turn of each is trained."""
    both = [[*pair["messages"], {"role": "assistant", "content": pair[side]}] for side in ("chosen", "rejected")]
    return [encode(tokenizer, messages)[-1] for messages in both]


def to_batch(pairs):
    """Return pairs as one packed batch, with what the reference thought of each answer."""
    batch = pack([row for rows, _ in pairs for row in rows])
    batch["reference"] = torch.tensor([value for _, values in pairs for value in values])
    return batch | {"count": len(pairs)}


@torch.no_grad()
def with_reference(accelerator, model, pairs):
    """Return (rows, [ln P chosen, ln P rejected]) for each pair of rows, as the model gives them before it is trained."""
    found = []
    for i in range(0, len(pairs), 8):
        batch = send_to_device(pack([row for rows in pairs[i : i + 8] for row in rows]), accelerator.device)
        with accelerator.autocast():
            values = log_probs(model, batch).view(-1, 2).tolist()
        found += zip(pairs[i : i + 8], values)
    return found


def in_parts(pairs, most):
    """Return pairs in lists of about `most` tokens."""
    return [[pair for _, pair in part] for part in bins([(pair[0][0][0] + pair[0][1][0], pair) for pair in pairs], most)]


def main():
    settings = read("Learn which of two answers is better, from out/pairs.", step="dpo")
    accelerator = start(settings)
    model, tokenizer = load(settings)
    model.to(accelerator.device)
    known = {}
    for side in ("train", "val"):
        pairs = [encode_pair(tokenizer, pair) for pair in load_rows(OUT / "pairs" / f"{side}.jsonl")]
        short = [pair for pair in pairs if max(len(ids) for ids, _ in pair) <= settings.context]
        if not short:
            refuse(f"Of {len(pairs)} pairs for {side} none fits into {settings.context} tokens: choose a larger --context.")
        accelerator.print(f"{side}: {len(short):,} pairs, {len(pairs) - len(short):,} left out, longer than {settings.context} tokens")
        known[side] = with_reference(accelerator, model, short)

    def batches(step):
        numbers = range(step * settings.batch + accelerator.process_index, (step + 1) * settings.batch, accelerator.num_processes)
        mine = [turn(number, known["train"], settings.seed) for number in numbers]
        return [to_batch(part) for part in in_parts(mine, settings.context)]

    def evaluate(step):
        loss = mean_loss(accelerator, model, map(to_batch, in_parts(known["val"], settings.context)), dpo_loss)
        accelerator.print(f"\n  after update {step:,}: loss on pairs never seen {loss:.3f} (0.693 cannot tell them apart)\n")
        return loss

    learn(accelerator, settings, model, tokenizer, OUT / "dpo", batches, dpo_loss, evaluate)


if __name__ == "__main__":
    run(main)
