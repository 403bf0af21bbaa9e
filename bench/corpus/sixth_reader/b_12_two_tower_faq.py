"""Contrastive text encoder for FAQ retrieval: question -> answer, in-batch negatives."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(8)
torch.manual_seed(8)
device = "cpu"

syll = ["ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu"]
TERMS = sorted({"".join(random.choice(syll) for _ in range(3)) for _ in range(80)})
QFILL = "how do i can you what is the please when why does my a new".split()
AFILL = "open press then select wait until it shows first second button page menu and save restart afterwards".split()


def pair():
    keys = random.sample(TERMS, 3)
    q, a = keys[:], keys[:]
    for _ in range(random.randint(1, 6)):
        q.insert(random.randint(0, len(q)), random.choice(QFILL))
    for _ in range(random.randint(2, 14)):
        a.insert(random.randint(0, len(a)), random.choice(AFILL))
    return " ".join(q), " ".join(a)


class Vocab:
    def __init__(self, texts):
        self.stoi = {"<pad>": 0, "<unk>": 1}
        for t in texts:
            for w in t.split():
                self.stoi.setdefault(w, len(self.stoi))

    def __call__(self, texts):
        rows = [[self.stoi.get(w, 1) for w in t.split()] for t in texts]
        L = max(map(len, rows))
        return torch.tensor([r + [0] * (L - len(r)) for r in rows], device=device)


class Encoder(nn.Module):
    def __init__(self, n_vocab, dim=64):
        super().__init__()
        self.emb = nn.Embedding(n_vocab, dim, padding_idx=0)
        layer = nn.TransformerEncoderLayer(dim, 4, 128, dropout=0.0, batch_first=True, norm_first=True)
        self.enc = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, ids):
        pad = ids == 0
        h = self.enc(self.emb(ids), src_key_padding_mask=pad)
        h = h.masked_fill(pad.unsqueeze(-1), 0).sum(1) / (~pad).sum(1, keepdim=True)
        return F.normalize(self.out(h), dim=-1)


pairs = [pair() for _ in range(1600)]
questions, answers = map(list, zip(*pairs[:1400]))
test_q, test_a = map(list, zip(*pairs[1400:]))
vocab = Vocab(questions + answers)

# texts of similar length in a batch: little padding
questions.sort(key=lambda t: len(t.split()))
answers.sort(key=lambda t: len(t.split()))
batch_size = 50
starts = list(range(0, len(questions), batch_size))

model = Encoder(len(vocab.stoi)).to(device)
log_scale = nn.Parameter(torch.tensor(2.5))
opt = torch.optim.AdamW([{"params": model.parameters()}, {"params": [log_scale], "weight_decay": 0.0}], lr=2e-3, weight_decay=0.01)


@torch.no_grad()
def recall(qs, ans, k=1):
    model.eval()
    sims = model(vocab(qs)) @ model(vocab(ans)).T
    top = sims.topk(k, dim=1).indices
    return (top == torch.arange(len(qs)).unsqueeze(1)).any(1).float().mean().item()


for epoch in range(12):
    model.train()
    random.shuffle(starts)
    total = 0.0
    for s in starts:
        q = model(vocab(questions[s:s + batch_size]))
        a = model(vocab(answers[s:s + batch_size]))
        logits = q @ a.T * log_scale.clamp(max=4.6).exp()
        target = torch.arange(len(q), device=device)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        total += loss.item()
    if epoch % 3 == 2:
        print(f"epoch {epoch + 1:2d} loss {total / len(starts):.3f} test recall@1 {recall(test_q, test_a):.3f} "
              f"recall@10 {recall(test_q, test_a, 10):.3f} scale {log_scale.exp().item():.1f}")
