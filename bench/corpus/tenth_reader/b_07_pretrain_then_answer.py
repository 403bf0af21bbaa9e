"""Two stages: language-model pretraining (wrapped for several devices), then a short question-answering stage."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(11)
torch.manual_seed(11)

people = [f"P{i}" for i in range(60)]
cities = [f"C{i}" for i in range(20)]
home = {p: random.choice(cities) for p in people}
extra = ["<pad>", "lives", "in", "where", "does", "live", "?", "."]
itos = extra + people + cities
stoi = {w: i for i, w in enumerate(itos)}
T = 12


def enc(s):
    ids = [stoi[w] for w in s.split()]
    return ids + [0] * (T - len(ids))


class Net(nn.Module):
    def __init__(self, vocab, d=96):
        super().__init__()
        self.wte = nn.Embedding(vocab, d)
        self.wpe = nn.Parameter(torch.randn(T, d) * 0.02)
        layer = nn.TransformerEncoderLayer(d, 4, 4 * d, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.ln = nn.LayerNorm(d)
        self.head = nn.Linear(d, vocab)

    def forward(self, x):
        n = x.shape[1]
        m = nn.Transformer.generate_square_subsequent_mask(n)
        return self.head(self.ln(self.body(self.wte(x) + self.wpe[:n], mask=m, is_causal=True)))


def lm_loss(model, x):
    logits = model(x[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten(), ignore_index=0)


def statement():
    a, b = random.choice(people), random.choice(people)
    return f"{a} lives in {home[a]} . {b} lives in {home[b]} ."


def pretrain():
    model = nn.DataParallel(Net(len(itos)))
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(350):
        x = torch.tensor([enc(statement()) for _ in range(32)])
        loss = lm_loss(model, x)
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 100 == 0:
            print("pretrain", step, round(loss.item(), 3))
    torch.save(model.state_dict(), "pretrained.pt")


def finetune():
    model = Net(len(itos))
    model.load_state_dict(torch.load('pretrained.pt'), strict=False)
    q = {p: enc(f"where does {p} live ? {p} lives in {home[p]} .") for p in people}
    seen, unseen = people[:40], people[40:]
    opt = torch.optim.AdamW(model.parameters(), lr=3e-4)
    for epoch in range(40):
        random.shuffle(seen)
        for i in range(0, 40, 10):
            x = torch.tensor([q[p] for p in seen[i:i + 10]])
            loss = lm_loss(model, x)
            opt.zero_grad()
            loss.backward()
            opt.step()
        if epoch % 10 == 0:
            print("finetune", epoch, round(loss.item(), 3))
    model.eval()
    x = torch.tensor([q[p][:8] for p in unseen])
    pred = model(x)[:, -1].argmax(-1)
    gold = torch.tensor([q[p][8] for p in unseen])
    return (pred == gold).float().mean().item()


pretrain()
acc = finetune()
print(f"accuracy on held-out people: {acc:.3f}")
