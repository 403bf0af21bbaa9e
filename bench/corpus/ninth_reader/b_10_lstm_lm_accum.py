"""Character LSTM language model, SGD + gradient accumulation (effective batch 64 on a small card)."""
import math, random
import torch
from torch import nn
from torch.nn import functional as F

random.seed(2); torch.manual_seed(2)
syll = ["ka", "lo", "mi", "ren", "tu", "sha", "bo", "vi", "nel", "gor"]
lexicon = ["".join(random.choices(syll, k=random.randint(1, 3))) for _ in range(40)]
follow = {w: random.sample(lexicon, 4) for w in lexicon}


def text(n):
    w, out = random.choice(lexicon), []
    for _ in range(n):
        out.append(w)
        w = random.choice(follow[w])
    return " ".join(out)


train_txt, val_txt = text(9000), text(900)
chars = sorted(set(train_txt))
enc = {c: i for i, c in enumerate(chars)}
train_ids = torch.tensor([enc[c] for c in train_txt])
val_ids = torch.tensor([enc[c] for c in val_txt if c in enc])
SEQ, MICRO, ACCUM, UPDATES = 32, 16, 4, 130


class CharLSTM(nn.Module):
    def __init__(self, hidden=96):
        super().__init__()
        self.emb = nn.Embedding(len(chars), 32)
        self.lstm = nn.LSTM(32, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, len(chars))

    def forward(self, x):
        return self.fc(self.lstm(self.emb(x))[0])


def get_batch():
    i = torch.randint(len(train_ids) - SEQ - 1, (MICRO,))
    rows = train_ids[i[:, None] + torch.arange(SEQ + 1)]
    return rows[:, :-1], rows[:, 1:]


model = CharLSTM()
optimizer = torch.optim.SGD(model.parameters(), lr=2.0, momentum=0.8)
for update in range(UPDATES):
    total = 0.0
    for micro in range(ACCUM):
        optimizer.zero_grad()
        x, y = get_batch()
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten()) / ACCUM
        loss.backward()
        total += loss.item()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if update % 30 == 0:
        print(f"update {update:4d}  loss {total:.3f}")

model.eval()
with torch.no_grad():
    n = (len(val_ids) - 1) // 64 * 64
    x, y = val_ids[:n].view(-1, 64), val_ids[1:n + 1].view(-1, 64)
    nll = F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item()
print(f"METRIC val_bits_per_char {nll / math.log(2):.3f}")
