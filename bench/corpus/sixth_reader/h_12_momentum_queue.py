"""Text encoder with a momentum key encoder and a queue of negatives (MoCo style). Keys never get gradients."""
import copy
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(37)
torch.manual_seed(37)
V, D, L, QUEUE, M = 240, 48, 12, 256, 0.98
TOPIC_WORDS = [list(range(1 + 9 * t, 1 + 9 * (t + 1))) for t in range(20)]     # 1..180, the rest is filler


def passage(topic):
    w = [random.choice(TOPIC_WORDS[topic]) if random.random() < 0.5 else random.randint(181, V - 1) for _ in range(2 * L)]
    return w[:L], w[L:]                                    # two halves of a passage are the two views


def batch(n):
    t = [random.randrange(20) for _ in range(n)]
    a, b = zip(*(passage(x) for x in t))
    return torch.tensor(a), torch.tensor(b), torch.tensor(t)


class TextEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(V, D)
        self.rnn = nn.GRU(D, D, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * D, D)

    def forward(self, ids):
        h, _ = self.rnn(self.emb(ids))
        return F.normalize(self.out(h.mean(1)), dim=-1)


query_enc = TextEncoder()
key_enc = copy.deepcopy(query_enc).requires_grad_(False)
queue = F.normalize(torch.randn(QUEUE, D), dim=-1)
ptr = 0
opt = torch.optim.AdamW(query_enc.parameters(), lr=3e-3, weight_decay=1e-2)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 400)


@torch.no_grad()
def momentum_update():
    for q, k in zip(query_enc.parameters(), key_enc.parameters()):
        k.lerp_(q, 1 - M)


@torch.no_grad()
def knn_topic_accuracy(enc):
    """topic labels are used here only, never in training"""
    enc.eval()
    a, _, ta = batch(400)
    b, _, tb = batch(100)
    sims = enc(b) @ enc(a).T
    top = ta[sims.topk(9, 1).indices]
    pred = torch.stack([row.bincount(minlength=20).argmax() for row in top])
    enc.train()
    return (pred == tb).float().mean().item()


print(f"kNN topic accuracy untrained {knn_topic_accuracy(query_enc):.3f}")
for step in range(400):
    x1, x2, _ = batch(32)
    q = query_enc(x1)
    with torch.no_grad():
        momentum_update()
        k = key_enc(x2)
    pos = (q * k).sum(1, keepdim=True)
    neg = q @ queue.clone().T
    logits = torch.cat([pos, neg], 1) / 0.1
    loss = F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))      # the positive is always column 0
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    queue[ptr:ptr + len(k)] = k
    ptr = (ptr + len(k)) % QUEUE
    if step % 50 == 0 or step == 399:
        # the loss goes up first: the random queue is easy, real keys are harder
        print(f"step {step:3d} loss {loss.item():.3f} positive sim {pos.mean().item():.3f} negative sim {neg.mean().item():.3f}")
print(f"kNN topic accuracy query encoder {knn_topic_accuracy(query_enc):.3f}, key encoder {knn_topic_accuracy(key_enc):.3f}")
