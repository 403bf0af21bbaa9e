"""LoRA on the Conv1D layers of GPT-2, A and B with different rates (LoRA+), merged and saved at the end."""
import random

import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(0)
random.seed(0)
V, L = 48, 16


def seq(key):
    """arithmetic progressions; 'key' is the dialect (the first token)"""
    s, k = random.randrange(40), random.randint(1, 4)
    sign = 1 if key == 44 else -1
    return [key] + [(s + sign * k * i) % 40 for i in range(L - 1)]


def train(model, groups, key, steps, bs=24):
    opt = torch.optim.AdamW(groups, weight_decay=0.0)
    base = [g["lr"] for g in opt.param_groups]
    model.train()
    for i in range(steps):
        for g, lr in zip(opt.param_groups, base):
            g["lr"] = lr * min(1, (i + 1) / 20) * (1 - i / steps)
        x = torch.tensor([seq(key) for _ in range(bs)])
        y = x.clone()
        y[:, :3] = -100                     # start and step cannot be known
        loss = model(input_ids=x, labels=y).loss
        loss.backward()
        opt.step()
        opt.zero_grad()
    return loss.item()


@torch.no_grad()
def acc(model, key):
    model.eval()
    x = torch.tensor([seq(key) for _ in range(200)])
    return (model(input_ids=x).logits[:, 2:-1].argmax(-1) == x[:, 3:]).float().mean().item()


model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=L, n_embd=64, n_layer=2, n_head=4, resid_pdrop=0.0,
                                   embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=44, eos_token_id=45))
print("base loss", round(train(model, [{"params": model.parameters(), "lr": 3e-3}], 44, 350), 3))
print(f"base on up {acc(model, 44):.3f} on down {acc(model, 46):.3f}")

peft_model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, fan_in_fan_out=True,
                                              target_modules=["c_attn", "c_proj", "c_fc"], task_type="CAUSAL_LM"))
peft_model.print_trainable_parameters()
A = [p for n, p in peft_model.named_parameters() if "lora_A" in n]
B = [p for n, p in peft_model.named_parameters() if "lora_B" in n]
print("lora loss", round(train(peft_model, [{"params": A, "lr": 1e-3}, {"params": B, "lr": 8e-3}], 46, 250), 3))
with torch.no_grad():
    probe = torch.tensor([seq(46) for _ in range(8)])
    before = peft_model(input_ids=probe).logits
    merged = peft_model.merge_and_unload()
    assert torch.allclose(before, merged(input_ids=probe).logits, atol=1e-3)
merged.save_pretrained("merged")
again = GPT2LMHeadModel.from_pretrained("merged")
print(f"held-out down progressions after merge and reload: {acc(again, 46):.3f}")
