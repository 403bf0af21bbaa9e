"""MLM with a 40% mask rate, no 80/10/10 split, and only the masked rows pushed through the output layer."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(12)
W, T, MASK = 36, 15, 36
g = torch.Generator().manual_seed(5)


def corpus(n):
    """each line repeats a random motif of 4 words; 5% of the words are replaced by noise"""
    motif = torch.randint(0, W, (n, 4), generator=g)
    x = motif[:, torch.arange(T) % 4]
    return torch.where(torch.rand(x.shape, generator=g) < 0.05, torch.randint(0, W, x.shape, generator=g), x)


class Mlm(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.tok, self.pos = nn.Embedding(W + 1, d), nn.Parameter(torch.zeros(T, d).normal_(0, 0.3))
        layer = nn.TransformerEncoderLayer(d, 4, 128, 0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, nn.LayerNorm(d), enable_nested_tensor=False)
        self.bias = nn.Parameter(torch.zeros(W))

    def forward(self, x, at):
        return self.body(self.tok(x) + self.pos)[at] @ self.tok.weight[:W].T / 4 + self.bias


train, test = corpus(4000), corpus(500)
net = Mlm()
opt = torch.optim.AdamW(net.parameters(), lr=3e-3)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, 4e-3, total_steps=300)
for step in range(300):
    x = train[torch.randint(len(train), (48,))]
    at = torch.rand(x.shape) < 0.4
    loss = F.cross_entropy(net(x.masked_fill(at, MASK), at), x[at])
    opt.zero_grad(); loss.backward(); opt.step(); sched.step()
    if step % 60 == 0:
        print(step, f"{loss.item():.3f}")
net.eval()
at = torch.zeros_like(test, dtype=torch.bool)
at[torch.arange(len(test)), torch.randint(0, T, (len(test),))] = True
with torch.no_grad():
    acc = (net(test.masked_fill(at, MASK), at).argmax(-1) == test[at]).float().mean()
print(f"METRIC fill_in_acc {acc:.3f} (chance {1 / W:.3f})")
