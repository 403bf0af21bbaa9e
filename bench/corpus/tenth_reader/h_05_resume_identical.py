"""Character GRU LM interrupted in the middle and resumed from disk; the curve must go on exactly."""
import random
import sys

import torch
from torch import nn


def text(n):
    r = random.Random(12)
    days = ["monday", "tuesday", "wednesday", "thursday", "friday"]
    return "".join(f"{r.choice(days)} we {r.choice(['sail', 'rest', 'trade'])} at {r.choice(['noon', 'dusk'])}\n" for _ in range(n))


raw = text(1500)
chars = sorted(set(raw))
ids = torch.tensor([chars.index(c) for c in raw])
train, test = ids[:-4000], ids[-4000:]
T, B, STEPS = 32, 24, 300


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(len(chars), 32)
        self.r = nn.GRU(32, 64, batch_first=True)
        self.d = nn.Dropout(0.2)
        self.o = nn.Linear(64, len(chars))

    def forward(self, x):
        return self.o(self.d(self.r(self.e(x))[0]))


class Order:
    """a shuffled list of windows that knows where it stands"""
    def __init__(self, n):
        self.n, self.gen = n, torch.Generator().manual_seed(1)
        self.perm, self.at = torch.randperm(n, generator=self.gen), 0

    def next(self):
        if self.at + B > self.n:
            self.perm, self.at = torch.randperm(self.n, generator=self.gen), 0
        out = self.perm[self.at:self.at + B]
        self.at += B
        return out

    def state_dict(self):
        return {"gen": self.gen.get_state(), "perm": self.perm, "at": self.at}

    def load_state_dict(self, s):
        self.gen.set_state(s["gen"])
        self.perm, self.at = s["perm"], s["at"]


def build():
    torch.manual_seed(0)
    net = Net()
    opt = torch.optim.AdamW(net.parameters(), lr=1e-2)
    sch = torch.optim.lr_scheduler.OneCycleLR(opt, 1e-2, total_steps=STEPS)
    return net, opt, sch, Order((len(train) - 1) // T)


def work(parts, start, stop):
    net, opt, sch, order = parts
    net.train()
    losses = []
    for _ in range(start, stop):
        s = order.next() * T
        x = torch.stack([train[i:i + T + 1] for i in s])
        loss = nn.functional.cross_entropy(net(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())
        opt.zero_grad()
        loss.backward()
        opt.step()
        sch.step()
        losses.append(loss.item())
    return losses


parts = build()
first = work(parts, 0, 150)
torch.save({"parts": [p.state_dict() for p in parts], "rng": torch.get_rng_state()}, "ckpt.pt")
straight = work(parts, 150, 180)                      # what an uninterrupted run does next

parts = build()
ck = torch.load("ckpt.pt", weights_only=False)
for p, s in zip(parts, ck["parts"]):
    p.load_state_dict(s)
torch.set_rng_state(ck["rng"])
resumed = work(parts, 150, STEPS)
print("losses", [round(v, 3) for v in first[::50] + resumed[::50]])
if max(abs(a - b) for a, b in zip(straight, resumed)) > 1e-6:
    sys.exit("the resumed run differs")
net = parts[0].eval()
with torch.no_grad():
    t = test[:len(test) // T * T].view(-1, T)
    print(f"test loss {nn.functional.cross_entropy(net(t[:, :-1]).flatten(0, 1), t[:, 1:].flatten()).item():.4f}")
