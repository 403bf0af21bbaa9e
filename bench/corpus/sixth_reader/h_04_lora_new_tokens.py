"""LoRA on a frozen base with two added chat tokens: embedding and head are trained through modules_to_save."""
import os
import random
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

random.seed(6)
torch.manual_seed(6)
text_chars = "abcdefghijklmnopqrstuvwxyz ?."
stoi = {c: i for i, c in enumerate(text_chars)}
facts = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black", "blood": "red"}


def enc(s):
    return [stoi[c] for c in s]


def plain_batch(n=24, length=40):
    rows = []
    for _ in range(n):
        s = " ".join(f"{k} is {facts[k]}." for k in random.choices(list(facts), k=5))
        rows.append(enc(s[:length]))
    return torch.tensor(rows)


base = LlamaForCausalLM(LlamaConfig(vocab_size=len(text_chars), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                                    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
                                    bos_token_id=None, eos_token_id=None, tie_word_embeddings=False))
opt = torch.optim.AdamW(base.parameters(), lr=3e-3)
for step in range(120):
    ids = plain_batch()
    loss = base(input_ids=ids, labels=ids).loss
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 40 == 0:
        print(f"base step {step} loss {loss.item():.3f}")

# chat tokens
USER, END = len(text_chars), len(text_chars) + 1
base.resize_token_embeddings(len(text_chars) + 2)
PAD = END


def chat_batch(n=24):
    rows = []
    for _ in range(n):
        k = random.choice(list(facts))
        p = [USER] + enc(f"what is {k}?")
        a = enc(f"{facts[k]}") + [END]
        rows.append((p, a))
    L = max(len(p) + len(a) for p, a in rows)
    ids = torch.full((n, L), PAD)
    labels = torch.full((n, L), -100)
    mask = torch.zeros(n, L, dtype=torch.long)
    for i, (p, a) in enumerate(rows):
        e = len(p) + len(a)
        ids[i, :e] = torch.tensor(p + a)
        labels[i, len(p):e] = torch.tensor(a)          # END is learned, the padding (same id) is not
        mask[i, :e] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


with tempfile.TemporaryDirectory() as d:
    base.save_pretrained(os.path.join(d, "base"))
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM",
                                            modules_to_save=["embed_tokens", "lm_head"]))
    model.print_trainable_parameters()
    trainable = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(trainable, lr=3e-3, weight_decay=0.0)
    sched = torch.optim.lr_scheduler.LinearLR(opt, 1.0, 0.0, total_iters=150)
    for step in range(150):
        loss = model(**chat_batch()).loss
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        opt.step()
        sched.step()
        if step % 30 == 0 or step == 149:
            print(f"lora step {step} loss {loss.item():.4f} lr {sched.get_last_lr()[0]:.2e}")
    model.save_pretrained(os.path.join(d, "adapter"))
    # inference copy: loaded frozen, then merged
    again = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(os.path.join(d, "base")), os.path.join(d, "adapter"))
    merged = again.merge_and_unload().eval()

for k, v in facts.items():
    ids = torch.tensor([[USER] + enc(f"what is {k}?")])
    with torch.no_grad():
        out = merged.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False,
                              eos_token_id=END, pad_token_id=PAD)[0, ids.size(1):].tolist()
    print(k, "->", "".join(text_chars[i] if i < len(text_chars) else "<end>" for i in out), "| expected", v)
