"""Is it good, or has it only memorised?

The model reads every document of val, the text it was never trained on. Its loss
is shown next to those of guessers that only count (baselines.py). *Bits per byte*
is the same loss, counted per byte of text: models with different tokenizers can
only be compared that way.

The trap: a model can have a good loss and still only copy. So we measure the
longest passage that it copies from the training text, and compare it with the
longest that val happens to share with it: everybody repeats stock phrases.
"""

import json
import math

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from baselines import MOST, baselines
from batches import load_tokens, val_batches
from checkpoint import run
from pretrain import wrap, write
from settings import OUT, read, refuse, require, start
from train import mean_loss, next_token_loss


def passages(tokens, length):
    """Return all passages of `length` tokens, each as a string of bytes: quick to look up."""
    text, size = tokens.tobytes(), tokens.itemsize
    starts = range(0, size * (len(tokens) - length + 1), size)
    return {text[i : i + size * length] for i in starts}


def longest_copy(tokens, train):
    """Return the longest passage of `tokens` (N,) that also occurs in `train` (M,), as a list.

    One walk through train. If the longest so far has 5 tokens, look at each place whether the 6
    tokens from there on are a passage of `tokens`; if they are, look for 7 from there on.
    """
    train, size = train[:MOST], train.itemsize
    text, start, length = train.tobytes(), 0, 0
    longer = passages(tokens, length + 1)
    for i in range(len(train)):
        while text[size * i : size * (i + length + 1)] in longer:
            start, length = i, length + 1
            longer = passages(tokens, length + 1)
    return train[start : start + length].tolist()


def main():
    settings = read("Measure the trained model on val.")
    accelerator = start(settings)
    folder = require(settings.out / "model", "python pretrain.py")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = accelerator.prepare(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    if tokenizer.get_vocab() != AutoTokenizer.from_pretrained(OUT / "tokenizer").get_vocab():
        refuse(f"{folder} was trained with another tokenizer than the one in out/tokenizer.")
    train, val = (load_tokens(OUT / "tokens", side) for side in ("train", "val"))
    about = json.loads((OUT / "tokens" / "about.json").read_text())["val"]

    targets = about["tokens"] - 1
    exam = val_batches(val, tokenizer.eos_token_id, settings)
    result = {"model": mean_loss(accelerator, model, exam, next_token_loss)}
    if (OUT / "floor.json").exists():  # the lowest possible loss of each document, if it is known
        nats = json.loads((OUT / "floor.json").read_text())
        result["floor"] = sum(nats[: about["documents"]]) / targets
    result |= baselines(train, val, len(tokenizer))
    bits = targets / about["bytes"] / math.log(2)  # turns nats per token into bits per byte
    print(f"Loss on the {about['documents']:,} documents of val\n{'':16}nats/token   bits/byte")
    for name, nats in result.items():
        print(f"{name:16}{nats:10.3f}{nats * bits:12.3f}")

    model = accelerator.unwrap_model(model)
    written = write(model, tokenizer, number=32, length=settings.context)
    end = tokenizer.eos_token_id
    text = np.array([token for text in written for token in [*text, end]], train.dtype)
    copy, val_copy = (longest_copy(tokens, train) for tokens in (text, val[: len(text)]))
    print(f"Longest copy from train: {len(copy)} tokens (val has one of {len(val_copy)}):")
    print(wrap(tokenizer.decode(copy)))
    texts = tokenizer.batch_decode(written)
    print("\n\n".join(["It writes:", *map(wrap, texts[:3])]))

    result["bits_per_byte"] = result["model"] * bits
    result |= {"copy": len(copy), "val_copy": len(val_copy), "samples": texts}
    (settings.out / "evaluation.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    run(main, kept="")
