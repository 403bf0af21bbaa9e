"""Take a pretrained causal LM, add control tokens for ticket routing, and fine-tune it with LoRA."""
import random
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel

random.seed(0)
torch.manual_seed(0)

topics = {"billing": ["invoice", "refund", "payment", "charge", "price"],
          "network": ["wifi", "router", "cable", "signal", "outage"],
          "account": ["password", "login", "profile", "email", "username"],
          "shipping": ["parcel", "courier", "address", "tracking", "delivery"]}
starts = ["hello i have a problem with my", "please help me with the", "can you check the", "there is an issue with my"]

def ticket():
    topic = random.choice(list(topics))
    a, b = random.sample(topics[topic], 2)
    return f"{random.choice(starts)} {a} and the {b} . thanks", topic

corpus = [ticket() for _ in range(2500)]
words = sorted({w for t, _ in corpus for w in t.split()})
stoi = {w: i for i, w in enumerate(["<pad>"] + words)}

def pad(seqs, value):
    n = max(map(len, seqs))
    return torch.tensor([s + [value] * (n - len(s)) for s in seqs])

def collate(texts):
    seqs = [[stoi[w] for w in t.split()] for t in texts]
    ids = pad(seqs, 0)
    mask = pad([[1] * len(s) for s in seqs], 0)
    labels = ids.masked_fill(mask == 0, -100)
    if "<route>" in stoi:
        for row, lab in zip(ids, labels):
            lab[:(row == stoi["<route>"]).nonzero()[0, 0] + 1] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}

def fit(model, texts, lr, epochs, name):
    dl = DataLoader(texts, batch_size=32, shuffle=True, collate_fn=collate)
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    model.train()
    for ep in range(epochs):
        total = 0.0
        for batch in dl:
            loss = model(**batch).loss
            loss.backward()
            opt.step()
            opt.zero_grad()
            total += loss.item()
        print(f"{name} epoch {ep + 1}: loss {total / len(dl):.3f}")

base = GPT2LMHeadModel(GPT2Config(vocab_size=len(stoi), n_positions=32, n_embd=64, n_layer=2, n_head=4,
                                  bos_token_id=None, eos_token_id=None, initializer_range=0.08,
                                  resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
fit(base, [t for t, _ in corpus[:1500]], 3e-3, 7, "pretrain")

new_tokens = ["<route>"] + [f"<{t}>" for t in topics]
for t in new_tokens:
    stoi[t] = len(stoi)
base.resize_token_embeddings(len(stoi))
itos = {i: w for w, i in stoi.items()}

model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["c_attn", "c_proj", "c_fc"], task_type="CAUSAL_LM"))
model.print_trainable_parameters()
fit(model, [f"{t} <route> <{y}>" for t, y in corpus[1500:2200]], 5e-3, 8, "lora")

model.eval()
hits = 0
test = corpus[2200:]
for text, topic in test:
    ids = torch.tensor([[stoi[w] for w in text.split()] + [stoi["<route>"]]])
    with torch.no_grad():
        nxt = model(input_ids=ids).logits[0, -1].argmax().item()
    hits += itos[nxt] == f"<{topic}>"
print(f"routing accuracy on new tickets: {hits / len(test):.3f}")
