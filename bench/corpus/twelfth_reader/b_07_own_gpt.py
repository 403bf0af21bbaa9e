"""A character GPT written with nn.TransformerEncoder; it should write words of an invented language."""
import random
import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(0)
torch.manual_seed(0)
syllables = ["ba", "do", "ki", "stu", "tra", "men", "plo", "ril"]
lexicon = sorted({"".join(random.choices(syllables, k=random.randint(1, 3))) for _ in range(40)})
text = " ".join(random.choices(lexicon, k=12000))
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])
V, T = len(chars), 40

class GPT(nn.Module):
    def __init__(self, d=64, heads=4, layers=2):
        super().__init__()
        self.tok = nn.Embedding(V, d)
        self.pos = nn.Embedding(T, d)
        layer = nn.TransformerEncoderLayer(d, heads, 4 * d, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, V)

    def forward(self, idx):
        T = idx.size(1)
        h = self.tok(idx) + self.pos(torch.arange(T))
        h = self.blocks(h)
        return self.head(self.norm(h))

    @torch.no_grad()
    def generate(self, idx, n):
        for _ in range(n):
            probs = F.softmax(self(idx)[:, -1], dim=-1)
            nxt = torch.multinomial(probs, 1)
            idx = torch.cat([idx, nxt], dim=1)
        return idx

model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

model.train()
for step in range(400):
    starts = torch.randint(0, len(data) - T - 1, (24,))
    batch = torch.stack([data[s:s + T + 1] for s in starts])
    x, y = batch[:, :-1], batch[:, 1:]
    loss = F.cross_entropy(model(x).reshape(-1, V), y.reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 80 == 79:
        print(f"step {step + 1}: loss {loss.item():.4f}")

model.eval()
prompts = torch.tensor([[stoi[c] for c in (random.choice(lexicon) + " ").rjust(8)[-8:]] for _ in range(60)])
out = model.generate(prompts, T - 8)
written = ["".join(chars[i] for i in row)[8:].split(" ")[:-1] for row in out.tolist()]
words = [w for row in written for w in row]
print("sample:", " ".join(written[0]))
print(f"generated words that exist: {sum(w in lexicon for w in words) / max(1, len(words)):.3f} of {len(words)}")
