"""Is it good, or has it only memorised?

The model reads every val document, and its loss is shown next to those of the
simple guessers. *Bits per byte* is the same loss, counted per byte of text; it
is the only fair way to compare models that use different tokenizers.

The trap: a good loss and copied text. So we measure the longest passage that
the model copies from the training text, and compare it with the longest that
val happens to share: stock phrases are copied by everybody.
"""

import json
import math

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from baselines import MOST, baselines
from batches import load_tokens, val_batches
from checkpoint import run
from pretrain import write
from settings import OUT, read, refuse, require, start
from train import mean_loss, next_token_loss


def passages(tokens, length):
    """Return all passages of `length` tokens as a set of bytes, which is quick to search."""
    text, size = tokens.tobytes(), tokens.itemsize
    starts = range(0, size * (len(tokens) - length + 1), size)
    return {text[i : i + size * length] for i in starts}


def longest_copy(tokens, train):
    """Return the longest passage of `tokens` that also occurs in `train`, both (N,), as a list.

    One walk through train: where a passage begins that is longer than the longest so far and is
    also in `tokens`, it is the new longest.
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
    rows = settings.rows_at_once or 32
    exam = val_batches(val, tokenizer.eos_token_id, settings.context, size=rows)
    result = {"model": mean_loss(accelerator, model, exam, next_token_loss)}
    if (OUT / "floor.json").exists():  # the lowest possible loss of each document, if it is known
        nats = json.loads((OUT / "floor.json").read_text())
        result["floor"] = sum(nats[: about["documents"]]) / targets
    result |= baselines(train, val, len(tokenizer))
    bits = targets / about["bytes"] / math.log(2)  # turns nats per token into bits per byte
    print(f"Loss on the {about['documents']:,} documents of val\n{'':16}nats/token   bits/byte")
    for name, nats in result.items():
        print(f"{name:16}{nats:10.3f}{nats * bits:12.3f}")

    written = write(accelerator.unwrap_model(model), tokenizer, "", 32, settings.context)
    text = np.array(sum(written, []), train.dtype)
    copy, val_copy = (longest_copy(tokens, train) for tokens in (text, val[: len(text)]))
    print(f"Longest copy from train: {len(copy)} tokens (val has one of {len(val_copy)}):")
    print(repr(tokenizer.decode(copy)))
    texts = tokenizer.batch_decode(written)
    print("\n\n".join(["It writes:", *texts[:3]]))

    result["bits_per_byte"] = result["model"] * bits
    result |= {"copy": len(copy), "val_copy": len(val_copy), "samples": texts}
    (settings.out / "evaluation.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    run(main, kept="")
