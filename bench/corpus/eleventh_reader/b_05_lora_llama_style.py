"""Pretrain a tiny Llama on one dialect of arithmetic words, then adapt it to another with LoRA."""
import torch
from peft import LoraConfig, get_peft_model
from torch.optim.lr_scheduler import LambdaLR
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(8)
V, T = 32, 16


def corpus(n, shift, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.zeros(n, T, dtype=torch.long)
    x[:, 0] = torch.randint(0, V, (n,), generator=g)
    for t in range(1, T):
        jump = torch.where(torch.rand(n, generator=g) < 0.15, torch.randint(0, V, (n,), generator=g),
                           torch.full((n,), shift))
        x[:, t] = (x[:, t - 1] + jump) % V
    return x


def batches(x, bs):
    for idx in torch.randperm(len(x)).split(bs):
        yield x[idx]


model = LlamaForCausalLM(LlamaConfig(vocab_size=V, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                                     num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32))
general, dialect = corpus(1000, 3, 1), corpus(1000, 7, 2)
held = corpus(300, 7, 3)

opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
for epoch in range(2):
    for b in batches(general, 32):
        loss = model(input_ids=b, labels=b).loss
        loss.backward()
        opt.step()
        opt.zero_grad()
print(f"pretraining loss {loss.item():.3f}")

opt = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
sched = LambdaLR(opt, lambda s: min(1.0, (s + 1) / 10))
model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM",
                                         target_modules=["q_proj", "k_proj", "v_proj", "o_proj",
                                                         "gate_proj", "up_proj", "down_proj"]))
model.print_trainable_parameters()
model.train()
for epoch in range(4):
    seen = []
    for b in batches(dialect, 32):
        loss = model(input_ids=b, labels=b).loss
        loss.backward()
        opt.step()
        sched.step()
        opt.zero_grad()
        seen.append(loss.item())
    print(f"adapt epoch {epoch} loss {sum(seen) / len(seen):.3f}")

model.eval()
with torch.no_grad():
    print(f"held-out loss {model(input_ids=held, labels=held).loss.item():.3f}")
