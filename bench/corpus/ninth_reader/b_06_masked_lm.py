#!/usr/bin/env python
# coding: utf-8
# # Masked language model on a toy grammar
# In[1]:
import numpy as np
import torch
from torch import nn
rs = np.random.RandomState(0)
torch.manual_seed(0)
PAD, MASK, FIRST = 0, 1, 2
n_words = 40

# In[2]: every word has three likely successors (a Markov chain)
nxt = rs.randint(0, n_words, size=(n_words, 3))


def walk(n, T=14):
    w = rs.randint(0, n_words, size=n)
    cols = []
    for _ in range(T):
        cols.append(w)
        w = nxt[w, rs.choice(3, p=[.8, .15, .05], size=n)]
    return torch.from_numpy(np.stack(cols, 1) + FIRST)


train_ids, test_ids = walk(3000), walk(500)

# In[3]:


def corrupt(ids, p=0.2):
    labels = ids
    pick = torch.rand(ids.shape) < p
    ids[pick] = MASK
    labels = labels.masked_fill(~pick, -100)
    return ids, labels


class Bert(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.tok, self.pos = nn.Embedding(n_words + FIRST, d), nn.Embedding(14, d)
        self.layers = nn.ModuleList([nn.TransformerEncoderLayer(d, 4, 96, 0.0, batch_first=True) for _ in range(2)])
        self.head = nn.Linear(d, n_words + FIRST)

    def forward(self, x):
        h = self.tok(x) + self.pos.weight
        for l in self.layers:
            h = l(h)
        return self.head(h)


# In[4]:
net = Bert()
opt = torch.optim.AdamW(net.parameters(), lr=3e-3)
lossf = nn.CrossEntropyLoss()
for step in range(250):
    ids, labels = corrupt(train_ids[torch.randint(len(train_ids), (64,))])
    loss = lossf(net(ids).transpose(1, 2), labels)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(step, round(loss.item(), 4))

# In[5]: fill-in accuracy, one hidden word per held-out sentence
net.eval()
where = torch.from_numpy(rs.randint(1, 13, size=len(test_ids)))
rows = torch.arange(len(test_ids))
truth = test_ids[rows, where].clone()
masked = test_ids.clone()
masked[rows, where] = MASK
with torch.no_grad():
    guess = net(masked)[rows, where].argmax(-1)
print("METRIC fill_in_acc %.3f" % (guess == truth).float().mean())
