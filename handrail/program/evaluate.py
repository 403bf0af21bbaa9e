"""Is it good, or has it only memorised?

All of val that was prepared is read, document by document, and the loss stands beside
those of the simple guessers. *Bits per byte* is the same loss counted per byte
of text; only that may be compared between models with different tokenizers.

The trap: good loss, copied text. So the longest run of tokens that the model
repeats from train is measured, beside the longest that val itself shares.
"""

import json
import math

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from baselines import MOST, baselines
from batches import load_tokens, val_batches
from checkpoint import run
from settings import OUT, made, read, start
from train import mean_loss, next_token_loss

P = 0x9E3779B97F4A7C15  # any large odd number


def fingerprints(tokens, length):
    """Return one number (N - length + 1,) for every `length` tokens that stand side by side, all modulo 2**64.

    With running sums of token · P**place, a window is the difference of two sums, divided by P**(its place).
    """
    powers, inverse = (np.cumprod(np.full(len(tokens), p, np.uint64)) for p in (P, pow(P, -1, 2**64)))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(tokens * powers)])
    return (sums[length:] - sums[:-length]) * inverse[: len(tokens) - length + 1]


def longest_copy(text, train):
    """Return the longest run of `text` (tokens) that stands in train too; found by halving the possible lengths."""
    text, train = np.asarray(text, np.uint64), train[:MOST].astype(np.uint64)
    run, too_long = text[:0], min(len(text), len(train)) + 1
    while too_long - len(run) > 1:
        length = (too_long + len(run)) // 2
        here, there = fingerprints(text, length), fingerprints(train, length)
        known = np.sort(here)
        found = there[known[np.searchsorted(known, there).clip(max=len(known) - 1)] == there]
        run, too_long = (text[list(here).index(found[0]) :][:length], too_long) if len(found) else (run, length)
    return run.tolist()


@torch.no_grad()
def samples(model, tokenizer, number, length):
    """Return `number` token lists that the model writes from nothing, each up to its END."""
    start = torch.full((number, 1), tokenizer.eos_token_id, device=model.device)
    written = model.generate(start, do_sample=True, top_k=0, max_new_tokens=length, use_cache=True)[:, 1:].tolist()
    end = tokenizer.eos_token_id
    return [tokens[: tokens.index(end)] if end in tokens else tokens for tokens in written]


def main():
    settings = read("Measure the model in out/model.")
    accelerator = start(settings)
    tokenizer = AutoTokenizer.from_pretrained(made(OUT / "model", "python pretrain.py"))
    model = accelerator.prepare(AutoModelForCausalLM.from_pretrained(OUT / "model", dtype=torch.float32))
    train, val = load_tokens(OUT / "tokens", "train"), load_tokens(OUT / "tokens", "val")
    about = json.loads((OUT / "tokens" / "about.json").read_text())["val"]

    targets = about["tokens"] - 1
    exam = val_batches(val, tokenizer.eos_token_id, settings.context, size=settings.rows_at_once or 32)
    result = {"model": mean_loss(accelerator, model, exam, next_token_loss)}
    result |= ({"floor": about["nats"] / targets} if about["nats"] else {}) | baselines(train, val, len(tokenizer))
    print(f"loss on the {about['documents']:,} documents of val\n{'':20} nats/token   bits/byte")
    bits = targets / about["bytes"] / math.log(2)  # turns nats per token into bits per byte
    for name, nats in result.items():
        print(f"{name:20} {nats:10.3f} {nats * bits:12.3f}")

    written = samples(accelerator.unwrap_model(model), tokenizer, 32, settings.context)
    copy = longest_copy(sum(written, []), train)
    result |= {"copy": len(copy), "val_copy": len(longest_copy(val[: len(sum(written, []))], train)), "bits_per_byte": result["model"] * bits}
    print(f"longest copy from train: {result['copy']} tokens (val: {result['val_copy']}): {tokenizer.decode(copy)!r}")
    result["samples"] = [tokenizer.decode(tokens) for tokens in written]
    print("\n\n".join(["it writes:", *result["samples"][:3]]))
    (OUT / "evaluation.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    run(main, kept="")
