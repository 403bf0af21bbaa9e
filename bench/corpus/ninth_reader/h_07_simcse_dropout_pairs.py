"""SimCSE: a sentence is its own positive pair; the two views differ only by dropout."""
import random
import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(14); torch.manual_seed(14)
V, TOPICS = 400, 20
topic_words = [random.sample(range(V), 12) for _ in range(TOPICS)]


def sentence(k):
    return [random.choice(topic_words[k]) if random.random() < 0.45 else random.randrange(V) for _ in range(10)]


def sentences(n):
    ks = [random.randrange(TOPICS) for _ in range(n)]
    return torch.tensor([sentence(k) for k in ks]), torch.tensor(ks)


class Enc(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.e = nn.Embedding(V, d)
        self.drop = nn.Dropout(0.3)          # the only source of difference between the views
        self.f = nn.Sequential(nn.Linear(d, d), nn.Tanh())

    def forward(self, x):
        return F.normalize(self.f(self.drop(self.e(x)).mean(1)), dim=-1)


def knn_accuracy(enc, ref, ref_y, q, q_y):
    enc.eval()
    with torch.no_grad():
        near = (enc(q) @ enc(ref).T).topk(7).indices
    enc.train()                               # stays in train mode all through the training
    return (ref_y[near].mode(1).values == q_y).float().mean().item()


x, y = sentences(3000)
q, qy = sentences(400)
enc = Enc()
print("before:", round(knn_accuracy(enc, x, y, q, qy), 3))
opt = torch.optim.Adam(enc.parameters(), lr=2e-3)
for step in range(250):
    b = x[torch.randint(len(x), (128,))]
    z1, z2 = enc(b), enc(b)
    loss = F.cross_entropy(z1 @ z2.T / 0.1, torch.arange(len(b)))
    # same words seen together should be close too: a skip-gram style half-sentence pair
    h1, h2 = enc(b[:, :5]), enc(b[:, 5:])
    loss = loss + F.cross_entropy(h1 @ h2.T / 0.1, torch.arange(len(b)))
    opt.zero_grad(); loss.backward(); opt.step()
    if step % 50 == 0:
        print(step, f"{loss.item():.3f}")
print(f"METRIC knn_topic_acc {knn_accuracy(enc, x, y, q, qy):.3f} (chance {1 / TOPICS})")
