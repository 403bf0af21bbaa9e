"""Stage 1: next-word pretraining of a GRU encoder on plenty of unlabeled text.
Stage 2: load the checkpoint and fine-tune on 80 labelled reviews."""
import os
import tempfile
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = 17
np_rng = np.random.default_rng(SEED)
torch.manual_seed(SEED)
V, T = 240, 15
# words come in two hidden moods; a review stays mostly in one mood
mood = np_rng.permutation(np.repeat([0, 1], V // 2))
words = [np.flatnonzero(mood == m) for m in (0, 1)]


def reviews(n):
    y = np_rng.integers(0, 2, n)
    own = np_rng.random((n, T)) < 0.76
    m = np.where(own, y[:, None], 1 - y[:, None])
    x = np.where(m == 1, np_rng.choice(words[1], (n, T)), np_rng.choice(words[0], (n, T)))
    return torch.from_numpy(x), torch.from_numpy(y)


class Encoder(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.emb = nn.Embedding(V, d)
        self.rnn = nn.GRU(d, d, batch_first=True)

    def forward(self, x):
        return self.rnn(self.emb(x))[0]


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.out = nn.Linear(32, V)

    def forward(self, x):
        return self.out(self.encoder(x))


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.out = nn.Linear(32, 2)

    def forward(self, x):
        return self.out(self.encoder(x).mean(1))


workdir = tempfile.mkdtemp()
unlabelled, _ = reviews(6000)
lm = LanguageModel()
wrapped = nn.DataParallel(lm)      # no-op on a laptop, used on the big box
opt = torch.optim.Adam(lm.parameters(), lr=1e-2)
for step in range(190):
    b = unlabelled[torch.randint(len(unlabelled), (128,))]
    loss = F.cross_entropy(wrapped(b[:, :-1]).transpose(1, 2), b[:, 1:])
    opt.zero_grad(); loss.backward(); opt.step()
    if step % 60 == 0:
        print("pretrain", step, f"{loss.item():.3f}")
torch.save(wrapped.state_dict(), os.path.join(workdir, "lm.pt"))

clf = Classifier()
state = torch.load(os.path.join(workdir, "lm.pt"))
state = {k: v for k, v in state.items() if not k.endswith("out.weight") and not k.endswith("out.bias")}
clf.load_state_dict(state, strict=False)     # strict=False: the output layer is new

x, y = reviews(80)
xt, yt = reviews(1000)
opt = torch.optim.Adam(clf.parameters(), lr=2e-3)
for epoch in range(15):
    for i in torch.randperm(80).split(16):
        loss = F.cross_entropy(clf(x[i]), y[i])
        opt.zero_grad(); loss.backward(); opt.step()
print("finetune loss", f"{loss.item():.3f}")
clf.eval()
with torch.no_grad():
    print(f"METRIC test_acc {(clf(xt).argmax(1) == yt).float().mean():.3f}")
