"""Sanity check before the long run: can the model memorise 8 sequences? Everything here is on the training data."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
V, T, D = 64, 32, 96
x_all = torch.randint(0, V, (8, T + 1))          # random tokens, nothing to generalise


class CausalBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.attn = nn.MultiheadAttention(D, 4, batch_first=True)
        self.ff = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))
        self.register_buffer("mask", torch.triu(torch.ones(T, T, dtype=torch.bool), 1))   # True = not allowed

    def forward(self, x):
        h = self.ln1(x)
        n = x.size(1)
        x = x + self.attn(h, h, h, attn_mask=self.mask[:n, :n], need_weights=False)[0]
        return x + self.ff(self.ln2(x))


class LM(nn.Module):
    """Returns hidden states, the head is applied by the loss function below."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(V, D)
        self.pos = nn.Parameter(torch.randn(T, D) * 0.02)
        self.blocks = nn.Sequential(CausalBlock(), CausalBlock())
        self.ln = nn.LayerNorm(D)
        nn.init.normal_(self.emb.weight, std=0.05)

    def forward(self, ids):
        return self.ln(self.blocks(self.emb(ids) + self.pos[: ids.size(1)]))


def lm_loss(model, hidden, targets):
    logits = hidden @ model.emb.weight.t()       # tied head
    logp = logits.log_softmax(-1)
    return -logp.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


model = LM()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
inputs, targets = x_all[:, :-1], x_all[:, 1:]
for epoch in range(240):
    loss = lm_loss(model, model(inputs), targets).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if epoch % 40 == 0:
        print(f"epoch {epoch:3d} loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    nll = lm_loss(model, model(inputs), targets)
    print(f"memorised: train nll {nll.mean():.4f}, worst token {nll.max():.3f}")
    # prompt with the first 6 tokens and continue greedily: has to reproduce the training sequence
    ids = x_all[:, :6]
    while ids.size(1) < T:
        nxt = (model(ids)[:, -1] @ model.emb.weight.t()).argmax(-1, keepdim=True)
        ids = torch.cat([ids, nxt], 1)
    print(f"reproduced {(ids[:, 6:] == x_all[:, 6:T]).float().mean():.3f} of the training continuation (training data, on purpose)")
    # held-out loss is expected to be bad for random tokens, only printed as a reference
    other = torch.randint(0, V, (8, T + 1))
    print(f"fresh random tokens: {lm_loss(model, model(other[:, :-1]), other[:, 1:]).mean():.3f} (log V = {torch.tensor(float(V)).log():.3f})")
