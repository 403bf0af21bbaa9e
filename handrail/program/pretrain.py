"""The run: all the parts, put together.

Read it from top to bottom: tokens, model, optimizer, loop. Everything that the
model learns, it learns from guessing the next token, millions of times.

Stop it with Ctrl-C; the same command resumes. The same command also runs on one
GPU, and `torchrun --nproc_per_node 8 pretrain.py` on eight. To try something
without touching what you have made, add `--updates 50 --out out/trial`.

The trap: a falling training loss alone proves nothing. Watch the loss on val,
and read what the model writes.
"""

import re
import textwrap

import torch
from transformers import AutoTokenizer

from batches import load_tokens, train_batches, val_batches
from checkpoint import run
from model import SIZES, build, save_model
from optimizer import make_optimizer
from settings import OUT, read, refuse, require, start
from train import fit, mean_loss, next_token_loss


@torch.no_grad()
def write(model, tokenizer, prompt="", number=1, length=60, **options):
    """Return `number` texts that begin with `prompt`, as lists of tokens up to END."""
    end = tokenizer.eos_token_id
    ids = [end] + tokenizer(prompt, add_special_tokens=False)["input_ids"]  # documents begin so
    room = getattr(model.config, "max_position_embeddings", 1024) - len(ids)
    start = torch.tensor([ids] * number, device=model.device)
    options = {"do_sample": True, "top_k": 0, "use_cache": True} | options
    model.eval()
    length = max(1, min(length, room))
    written = model.generate(start, max_new_tokens=length, **options)[:, 1:].tolist()
    return [tokens[: tokens.index(end)] if end in tokens else tokens for tokens in written]


def wrap(text):
    """Return a text in lines of at most 76 characters; what no terminal can show becomes a dot."""
    text = re.sub(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]", "·", text)
    return "\n".join(textwrap.fill(line, 76) for line in text.splitlines())


def main():
    settings = read("Train a model on the tokens in out/tokens; the same command resumes.")
    accelerator = start(settings)
    if not settings.base and settings.size not in SIZES:
        refuse(f"There is no size {settings.size!r} (settings.toml). Sizes: {' '.join(SIZES)}")
    tokenizer = AutoTokenizer.from_pretrained(require(OUT / "tokenizer", "python tokenizer.py"))
    tokens, val = (load_tokens(OUT / "tokens", side) for side in ("train", "val"))
    processes = accelerator.num_processes
    if len(tokens) <= settings.context:
        refuse(f"{len(tokens):,} tokens of text are too few for a context of {settings.context}.")
    if settings.batch % processes:
        refuse(f"A batch of {settings.batch} rows is not divisible by {processes} processes.")
    model = build(settings, tokenizer)
    model, optimizer = accelerator.prepare(model, make_optimizer(model, settings.lr))
    plain = accelerator.unwrap_model(model)
    epochs = settings.updates * settings.batch * settings.context / len(tokens)
    about = f"{plain.num_parameters():,} parameters on {accelerator.device}, {len(tokens):,} tokens"
    accelerator.print(f"{about}, each read {epochs:.1f} times")

    def evaluate(step):
        some = val_batches(val, tokenizer.eos_token_id, settings, documents=256)
        loss = mean_loss(accelerator, model, some, next_token_loss)
        texts = write(plain, tokenizer, settings.prompt, synced_gpus=processes > 1)
        text = wrap(tokenizer.decode(texts[0]))
        accelerator.print(f"\nAfter update {step:,}: val {loss:.3f}; it writes:\n{text}\n")
        return loss

    batches = train_batches(tokens, settings, accelerator.process_index, processes)
    loss = torch.compile(next_token_loss) if settings.compile else next_token_loss
    if settings.compile:
        accelerator.print("The first update is compiled, which takes a minute or more.")
    data = OUT / "tokens" / "train.bin"
    fit(accelerator, model, optimizer, settings, data, batches, loss, evaluate)
    save_model(accelerator, plain, tokenizer, settings.out / "model")


if __name__ == "__main__":
    run(main)
