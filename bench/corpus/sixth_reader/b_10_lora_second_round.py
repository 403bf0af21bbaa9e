"""Two rounds of LoRA: first on recipes, save the adapter, later continue the same adapter on new recipes."""
import os
import random
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

random.seed(2)
torch.manual_seed(2)

chars = "abcdefghijklmnopqrstuvwxyz .,:"
stoi = {c: i for i, c in enumerate(chars)}
base_items = ["salt", "rice", "milk", "eggs", "oil"]
round1 = ["basil", "thyme", "cumin"]
round2 = ["wasabi", "miso", "yuzu", "dashi"]


def recipe(items, verb):
    return f"{verb} {random.choice(items)} and {random.choice(items)}, then wait. {verb} {random.choice(items)}."


def batch(items, verb, n=16, length=48):
    rows = []
    for _ in range(n):
        s = (recipe(items, verb) + " ") * 3
        o = random.randint(0, 20)
        rows.append([stoi[c] for c in s[o:o + length]])
    return torch.tensor(rows)


def new_base():
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(chars), hidden_size=64, intermediate_size=160,
                                        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                                        max_position_embeddings=128, bos_token_id=None, eos_token_id=None))


def train(model, items, verb, steps, lr, tag):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=steps)
    for step in range(steps):
        ids = batch(items, verb)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if step % 20 == 0 or step == steps - 1:
            print(f"[{tag}] step {step:3d} loss {loss.item():.3f}")


@torch.no_grad()
def evaluate(model, items, verb):
    model.eval()
    ids = batch(items, verb, n=64)
    return model(input_ids=ids, labels=ids).loss.item()


with tempfile.TemporaryDirectory() as d:
    base = new_base()
    train(base, base_items, "add", 90, 4e-3, "base")
    base.save_pretrained(os.path.join(d, "base"))

    lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"],
                      task_type="CAUSAL_LM")
    model = get_peft_model(base, lora)
    model.print_trainable_parameters()
    model.enable_input_require_grads()
    train(model, round1, "chop", 60, 5e-3, "round 1")
    print(f"round 1 domain loss {evaluate(model, round1, 'chop'):.3f}")
    model.save_pretrained(os.path.join(d, "adapter"))

    # a week later: pick the adapter up again and continue with the new recipes
    base = LlamaForCausalLM.from_pretrained(os.path.join(d, "base"))
    base.config.use_cache = False
    model = PeftModel.from_pretrained(base, os.path.join(d, "adapter"))
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    print(f"new domain loss before round 2 {evaluate(model, round2, 'whisk'):.3f}")
    train(model, round2, "whisk", 60, 5e-3, "round 2")
    print(f"new domain loss after round 2 {evaluate(model, round2, 'whisk'):.3f}")
    model.save_pretrained(os.path.join(d, "adapter-v2"))
