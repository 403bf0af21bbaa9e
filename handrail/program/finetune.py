"""From continuing text to answering: the same loop, other rows.

Nothing here is new but the data. The model reads a question and its loss counts
only on the answer. `--method full` moves every weight. `--method lora` freezes
them all and learns, beside each matrix W, a small correction B·A of rank 16:
a few weights in a hundred, so less memory, and a rate about ten times as high.
At the end the correction is added to W, and nobody sees that it was ever apart.

The trap: forgetting. A model that is trained on answers alone drifts away from
what it could do before. Few updates, a small rate, and a look at what was lost.
"""

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from checkpoint import requests_to_stop, resume, run, save, save_model
from log import Log
from messages import MARKS, add_template, encode, load_rows
from optimizer import make_optimizer, make_schedule
from packing import bins, message_batches, pack
from settings import OUT, ROOT, read, start
from train import mean_loss, train


def token_losses(model, batch):
    """Return -ln P of each token of the answers (K,); logits are made only where an answer is."""
    keep, place = batch["keep"], batch["positions"][0]
    if getattr(getattr(model, "module", model), "packed", True):
        logits = model(batch["inputs"], position_ids=place[None], use_cache=False, logits_to_keep=keep).logits[0]  # (K, V)
    else:  # one under another, padded at the end, where a model that looks back never looks
        row = (place == 0).cumsum(0) - 1
        inputs = place.new_zeros(batch["rows"], place.max() + 1).index_put((row, place), batch["inputs"][0])  # (R, T)
        logits = model(inputs, use_cache=False).logits[row, place][keep]
    return F.cross_entropy(logits.float(), batch["targets"][0, keep], reduction="none")


def answer_loss(model, batch):
    """Return the sum of -ln P over the tokens of the answers."""
    return token_losses(model, batch).sum()


def load(settings):
    """Return (model, tokenizer) of settings.model, with a chat template, and small trainable corrections for LoRA."""
    name = ROOT / settings.model if (ROOT / settings.model).exists() else settings.model  # a folder here, or a model of the hub
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)  # nobody else's program is run
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, use_safetensors=True, trust_remote_code=False)
    bare, most = tokenizer.chat_template is None, getattr(model.config, "max_position_embeddings", None)
    add_template(tokenizer, model)
    if most and most < settings.context:
        model.config.max_position_embeddings = settings.context  # positions that are computed, not learned, have no end
    if settings.method == "lora":
        from peft import LoraConfig, get_peft_model

        how = {"trainable_token_indices": tokenizer.convert_tokens_to_ids(MARKS)} if bare else {}  # new marks are learned by any method
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM", **how))
    model.packed = getattr(settings, "packed", True)  # False: it would read across rows that are laid end to end
    return model, tokenizer


def choose_optimizer(model, settings):
    """Return AdamW for LoRA's corrections, as their rates are known for it; for whole matrices the optimizer of the first walk."""
    if settings.method == "lora":
        return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], settings.lr, weight_decay=0.0)
    return make_optimizer(model, settings.lr)


def learn(accelerator, settings, model, tokenizer, folder, batches, loss, evaluate):
    """Train `model` with the one loop, go on where it was stopped, and leave a plain Transformers folder in folder/model."""
    plain = model
    model, optimizer = accelerator.prepare(model, choose_optimizer(model, settings))
    first = resume(accelerator, folder / "checkpoints")
    went_on = f", going on after update {first:,}" * bool(first)
    accelerator.print(f"{plain.num_parameters(only_trainable=True):,} of {plain.num_parameters():,} weights are trained{went_on}")
    log = Log(folder / "metrics.jsonl", first, settings.updates) if accelerator.is_main_process else None
    train(accelerator, model, batches, loss, optimizer, make_schedule(settings.lr, settings.updates), settings.updates,
          first=first, every=settings.every or max(1, settings.updates // 5), evaluate=evaluate,
          save=lambda step: save(accelerator, folder / "checkpoints", step), log=log, asked=requests_to_stop())  # fmt: skip
    save_model(accelerator, plain.merge_and_unload() if settings.method == "lora" else plain, tokenizer, folder / "model")


def main():
    settings = read("Teach the model to answer, from out/chats; goes on where it was stopped.", step="finetune")
    accelerator = start(settings)
    model, tokenizer = load(settings)
    most = settings.context
    train_chats, val_chats = (load_rows(OUT / "chats" / f"{side}.jsonl") for side in ("train", "val"))
    rows, exam = (
        [(ids[:most], said[:most]) for chat in chats for ids, said in encode(tokenizer, chat["messages"])]
        for chats in (train_chats, val_chats)
    )

    def evaluate(step):
        loss = mean_loss(accelerator, model, map(pack, bins(exam, most)), answer_loss)
        accelerator.print(f"\n  after update {step:,}: loss on answers never seen {loss:.3f}\n")
        return loss

    batches = message_batches(rows, settings, accelerator.process_index, accelerator.num_processes)
    learn(accelerator, settings, model, tokenizer, OUT / "finetune", batches, answer_loss, evaluate)


if __name__ == "__main__":
    run(main)
