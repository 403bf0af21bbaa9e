"""Small Llama-style decoder (RMSNorm, RoPE, GQA, SwiGLU) with a KV cache. Task: repeat a sequence after '>'."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
VOCAB = 20           # 0..17 symbols, 18 = '>', 19 = bos
SEP, BOS = 18, 19
N_SYM = 7
DIM, N_HEADS, N_KV, N_LAYERS = 64, 4, 2, 2
HEAD = DIM // N_HEADS


def rope_table(max_len, dim, base=10000.0):
    inv = 1.0 / base ** (torch.arange(0, dim, 2).float() / dim)
    ang = torch.outer(torch.arange(max_len).float(), inv)
    return ang.cos(), ang.sin()


def apply_rope(x, cos, sin):
    # x: B, H, T, D
    x1, x2 = x[..., ::2], x[..., 1::2]
    out = torch.stack((x1 * cos - x2 * sin, x1 * sin + x2 * cos), dim=-1)
    return out.flatten(-2)


class RMSNorm(nn.Module):
    def __init__(self, dim, eps=1e-6):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.wq = nn.Linear(DIM, N_HEADS * HEAD, bias=False)
        self.wk = nn.Linear(DIM, N_KV * HEAD, bias=False)
        self.wv = nn.Linear(DIM, N_KV * HEAD, bias=False)
        self.wo = nn.Linear(DIM, DIM, bias=False)
        cos, sin = rope_table(64, HEAD)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, x, cache=None):
        B, T, _ = x.shape
        q = self.wq(x).view(B, T, N_HEADS, HEAD).transpose(1, 2)
        k = self.wk(x).view(B, T, N_KV, HEAD).transpose(1, 2)
        v = self.wv(x).view(B, T, N_KV, HEAD).transpose(1, 2)
        q = apply_rope(q, self.cos[:T], self.sin[:T])
        k = apply_rope(k, self.cos[:T], self.sin[:T])
        if cache is not None:
            if "k" in cache:
                k = torch.cat([cache["k"], k], dim=2)
                v = torch.cat([cache["v"], v], dim=2)
            cache["k"], cache["v"] = k, v
        k = k.repeat_interleave(N_HEADS // N_KV, dim=1)
        v = v.repeat_interleave(N_HEADS // N_KV, dim=1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
        return self.wo(y.transpose(1, 2).reshape(B, T, DIM))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.n1, self.n2 = Attention(), RMSNorm(DIM), RMSNorm(DIM)
        self.w1, self.w3 = nn.Linear(DIM, 160, bias=False), nn.Linear(DIM, 160, bias=False)
        self.w2 = nn.Linear(160, DIM, bias=False)

    def forward(self, x, cache=None):
        x = x + self.attn(self.n1(x), cache)
        h = self.n2(x)
        return x + self.w2(F.silu(self.w1(h)) * self.w3(h))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, DIM)
        self.layers = nn.ModuleList(Layer() for _ in range(N_LAYERS))
        self.norm, self.out = RMSNorm(DIM), nn.Linear(DIM, VOCAB, bias=False)

    def forward(self, ids, caches=None):
        x = self.emb(ids)
        for i, layer in enumerate(self.layers):
            x = layer(x, None if caches is None else caches[i])
        return self.out(self.norm(x))

    @torch.no_grad()
    def generate(self, prompt, n):
        caches = [{} for _ in self.layers]
        ids = prompt
        logits = self(prompt, caches)
        for _ in range(n):
            nxt = logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, nxt], dim=1)
            logits = self(nxt, caches)
        return ids


def get_batch(n):
    s = torch.randint(0, 18, (n, N_SYM))
    bos, sep = torch.full((n, 1), BOS), torch.full((n, 1), SEP)
    return torch.cat([bos, s, sep, s], dim=1)


model = Decoder()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.01)
steps = 400
sched = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
for step in range(steps):
    ids = get_batch(64)
    logits = model(ids[:, :-1])
    loss = F.cross_entropy(logits[:, N_SYM + 1:].reshape(-1, VOCAB), ids[:, N_SYM + 2:].reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    gn = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    sched.step()
    if step % 50 == 0 or step == steps - 1:
        print(f"step {step:4d} | loss {loss.item():.4f} | grad norm {gn:.3f}")

model.eval()
test = get_batch(200)
with torch.no_grad():
    tf = (model(test[:, :-1])[:, N_SYM + 1:].argmax(-1) == test[:, N_SYM + 2:]).float().mean()
gen = model.generate(test[:, :N_SYM + 2], N_SYM)
hit = gen[:, N_SYM + 2:] == test[:, N_SYM + 2:]
print(f"teacher forced token accuracy {tf:.3f}")
print(f"generated token accuracy {hit.float().mean():.3f}, whole sequence {hit.all(1).float().mean():.3f}")
