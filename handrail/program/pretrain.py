"""The run: the parts you have, put together.

Read it from top to bottom: tokens, model, optimizer, checkpoint, loop. What
the model learns here it learns from nothing but guessing the next token,
millions of times. First letters and words, then grammar, then who did what.

Stop it with Ctrl-C and start it again: it goes on where it was. The same
command runs on one GPU; `torchrun --nproc_per_node 8 pretrain.py` on eight.

The trap: a falling training loss alone proves nothing. Watch the loss on val,
and read what the model writes.
"""

import torch
from transformers import AutoTokenizer

from batches import load_tokens, train_batches, val_batches
from checkpoint import requests_to_stop, resume, run, save, save_model
from log import Log
from model import SIZES, build
from optimizer import make_optimizer, make_schedule
from settings import OUT, made, read, refuse, start
from train import mean_loss, next_token_loss, train


@torch.no_grad()
def continue_text(model, tokenizer, prompt, length=60, **how):
    """Return what the model writes after `prompt`; `how` goes to Transformers' generate."""
    inputs = tokenizer(tokenizer.eos_token + prompt, return_tensors="pt", add_special_tokens=False).to(model.device)
    how = {"do_sample": True, "top_k": 0, "use_cache": True} | how
    return tokenizer.decode(model.generate(**inputs, max_new_tokens=length, **how)[0], skip_special_tokens=True)


def main():
    settings = read("Train the model on the tokens in out/tokens; goes on where it was stopped.")
    accelerator = start(settings)
    if not settings.base and settings.size not in SIZES:
        refuse(f"settings.toml: there is no size {settings.size!r}. The sizes: {' '.join(SIZES)}")
    tokenizer = AutoTokenizer.from_pretrained(made(OUT / "tokenizer", "python tokenizer.py"))
    tokens, val = load_tokens(OUT / "tokens", "train"), load_tokens(OUT / "tokens", "val")
    if len(tokens) <= settings.context or settings.batch < accelerator.num_processes:
        refuse(f"{len(tokens):,} tokens are too few for a --context of {settings.context:,}, or a --batch of {settings.batch} "
               f"for {accelerator.num_processes} processes.")  # fmt: skip

    model = build(settings, tokenizer)
    model, optimizer = accelerator.prepare(model, make_optimizer(model, settings.lr))
    plain = accelerator.unwrap_model(model)
    first = resume(accelerator, OUT / "checkpoints")
    epochs = settings.updates * settings.batch * settings.context / len(tokens)
    accelerator.print(f"{plain.num_parameters():,} parameters, {len(tokens):,} tokens, {epochs:.1f} epochs on {accelerator.device}"
                      + (f", going on after update {first:,}" if first else "") + (": nothing is left to do" if first >= settings.updates else ""))  # fmt: skip

    def evaluate(step):
        exam = val_batches(val, tokenizer.eos_token_id, settings.context, 256, settings.rows_at_once or 32)
        loss = mean_loss(accelerator, model, exam, next_token_loss)
        sample = continue_text(plain, tokenizer, settings.prompt, synced_gpus=accelerator.num_processes > 1)
        accelerator.print(f"\n  after update {step:,}: val {loss:.3f}; it writes: {sample}\n")
        return loss

    batches = train_batches(tokens, settings, accelerator.process_index, accelerator.num_processes)
    log = Log(OUT / "metrics.jsonl", first, settings.updates) if accelerator.is_main_process else None
    train(accelerator, model, batches, next_token_loss, optimizer, make_schedule(settings.lr, settings.updates), settings.updates,
          first=first, compiled=settings.compile, every=settings.every or max(1, settings.updates // 10), evaluate=evaluate,
          save=lambda step: save(accelerator, OUT / "checkpoints", step), log=log, asked=requests_to_stop())  # fmt: skip
    save_model(accelerator, plain, tokenizer, OUT / "model")


if __name__ == "__main__":
    run(main)
