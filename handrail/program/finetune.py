"""From continuing text to answering: the same loop, other rows.

Nothing here is new but the data. The model reads a question, and its loss counts
only on the answer. `method = "full"` trains every weight. `method = "lora"` (Hu
et al. 2021) freezes them all and learns, next to each matrix W, a small
correction B·A of rank 16: a few weights in a hundred, so it takes less memory,
and a learning rate about ten times as high. At the end the correction is added
to W, and nobody can tell that it was ever separate.

The trap: forgetting. A model that is trained on answers alone drifts away from
what it could do before. Few updates, a small learning rate, and a look at what
was lost.
"""

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from checkpoint import run
from messages import MARKS, add_template, encode, load_rows
from model import save_model
from optimizer import make_optimizer
from packing import message_batches, packed
from settings import OUT, ROOT, read, refuse, start
from train import fit, mean_loss


def token_losses(model, batch):
    """Return -ln P of each token of the answers (K,); logits are made only where an answer is."""
    place, keep = batch["positions"], batch["keep"]
    # use_cache=True would let examples read one another (see packing.py)
    output = model(batch["inputs"], position_ids=place, use_cache=False, logits_to_keep=keep)
    logits = output.logits[0]  # (K, V)
    return F.cross_entropy(logits.float(), batch["targets"][0, keep], reduction="none")


def answer_loss(model, batch):
    """Return the sum of -ln P over the tokens of the answers."""
    return token_losses(model, batch).sum()


def load(settings, precision="no"):
    """Return (model, tokenizer) of settings.model, with a chat template and, for LoRA, corrections.

    LoRA's frozen weights take half the memory where the GPU calculates in bf16 (`precision`).
    """
    name = ROOT / settings.model if (ROOT / settings.model).exists() else settings.model
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    lora = settings.method == "lora"
    dtype = torch.bfloat16 if lora and precision == "bf16" else torch.float32
    safe = {"use_safetensors": True, "trust_remote_code": False}  # runs no foreign code
    model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, **safe)
    can_chat = tokenizer.chat_template is not None
    add_template(tokenizer, model)
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest and longest < settings.context:  # positions that are computed have no end
        model.config.max_position_embeddings = settings.context
    if lora:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32)
        config.target_modules = "all-linear"
        if not can_chat:  # its new tokens are learned by any method
            config.trainable_token_indices = tokenizer.convert_tokens_to_ids(MARKS)
        model = get_peft_model(model, config)
    return model, tokenizer


def choose_optimizer(model, settings):
    """Return AdamW for LoRA, whose learning rates are known for it, else that of the first run."""
    if settings.method == "lora":
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        return torch.optim.AdamW(trained, settings.lr, weight_decay=0.0)
    return make_optimizer(model, settings.lr)


def learn(accelerator, settings, model, tokenizer, data, batches, loss, evaluate):
    """Train with the one loop; leave a plain Transformers folder in out/STEP/model."""
    if settings.batch % accelerator.num_processes or accelerator.distributed_type == "FSDP":
        refuse("This needs a --batch divisible by the number of processes, and no FSDP.")
    plain = model
    model, optimizer = accelerator.prepare(model, choose_optimizer(model, settings))
    trained = plain.num_parameters(only_trainable=True)
    accelerator.print(f"{trained:,} of {plain.num_parameters():,} weights are trained")
    settings.every = settings.every or max(1, settings.updates // 5)
    fit(accelerator, model, optimizer, settings, data, batches, loss, evaluate)
    if settings.method == "lora":
        plain = plain.merge_and_unload()
    save_model(accelerator, plain, tokenizer, settings.out / settings.step / "model")


def main():
    settings = read("Teach the model to answer, from out/chats; resumes.", step="finetune")
    accelerator = start(settings)
    model, tokenizer = load(settings, accelerator.mixed_precision)
    most, rows = settings.context, {}
    for side in ("train", "val"):
        chats = load_rows(OUT / "chats" / f"{side}.jsonl")
        encoded = [row for chat in chats for row in encode(tokenizer, chat["messages"])]
        rows[side] = [row for row in encoded if len(row[0]) <= most]
        accelerator.print(f"{side}: {len(rows[side]):,} rows of at most {most} tokens (--context)")
    if not rows["train"] or not rows["val"]:
        refuse("That is too few rows. Choose a larger --context, or add examples.")

    def evaluate(step):
        loss = mean_loss(accelerator, model, packed(rows["val"], settings), answer_loss)
        accelerator.print(f"\n  after update {step:,}: loss on answers never seen {loss:.3f}\n")
        return loss

    rank, processes = accelerator.process_index, accelerator.num_processes
    batches = message_batches(rows["train"], settings, rank, processes)
    data = OUT / "chats" / "train.jsonl"
    learn(accelerator, settings, model, tokenizer, data, batches, answer_loss, evaluate)


if __name__ == "__main__":
    run(main)
