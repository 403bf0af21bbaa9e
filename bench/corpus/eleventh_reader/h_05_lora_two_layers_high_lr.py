"""LoRA on only the value and output projections of the two upper layers plus a fully trained embedding."""
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(5)
V, T = 40, 14


def corpus(n, step, lo, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.zeros(n, T, dtype=torch.long)
    x[:, 0] = torch.randint(0, 20, (n,), generator=g)
    for t in range(1, T):
        noise = torch.rand(n, generator=g) < 0.1
        x[:, t] = torch.where(noise, torch.randint(0, 20, (n,), generator=g), (x[:, t - 1] + step) % 20)
    return x + lo


model = LlamaForCausalLM(LlamaConfig(vocab_size=V, hidden_size=64, intermediate_size=128, num_hidden_layers=3,
                                     num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=32))
first = corpus(1000, 3, 0, 1)
opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
for epoch in range(2):
    for idx in torch.randperm(len(first)).split(32):
        loss = model(input_ids=first[idx], labels=first[idx]).loss
        opt.zero_grad()
        loss.backward()
        opt.step()
print(f"base loss {loss.item():.3f}")

new, held = corpus(1500, 7, 20, 2), corpus(300, 7, 20, 3)
model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, use_rslora=True, task_type="CAUSAL_LM",
                                         target_modules=["v_proj", "o_proj"], layers_to_transform=[1, 2],
                                         modules_to_save=["embed_tokens", "lm_head"]))
model.print_trainable_parameters()
lora = [p for n, p in model.named_parameters() if p.requires_grad and "lora_" in n]
full = [p for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n]
opt = torch.optim.AdamW([{"params": lora, "lr": 2e-3, "weight_decay": 0.0}, {"params": full, "lr": 1e-2}])
for epoch in range(4):
    model.train()
    tot = 0.0
    for idx in torch.randperm(len(new)).split(32):
        loss = model(input_ids=new[idx], labels=new[idx]).loss
        opt.zero_grad()
        loss.backward()
        opt.step()
        tot += loss.item() * len(idx)
    print(f"epoch {epoch} loss {tot / len(new):.3f}")

merged = model.merge_and_unload().eval()
with torch.no_grad():
    print(f"held-out loss {merged(input_ids=held, labels=held).loss.item():.3f}")
