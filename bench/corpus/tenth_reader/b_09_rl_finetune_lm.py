"""Policy-gradient finetuning of a tiny LM: sample completions, reward rhymes, push up what scored well."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
V, PROMPT, NEW = 20, 4, 6


class Policy(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.emb = nn.Embedding(V, d)
        self.pos = nn.Embedding(PROMPT + NEW, d)
        self.gru = nn.GRU(d, d, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(2 * d, 2 * d), nn.ReLU(), nn.Linear(2 * d, V))

    def forward(self, ids):
        e = self.emb(ids) + self.pos(torch.arange(ids.shape[1]))
        h, _ = self.gru(e)
        return self.mlp(torch.cat([h, e], -1))

    @torch.no_grad()
    def sample(self, prompt, greedy=False):
        seq = prompt
        for _ in range(NEW):
            p = F.softmax(self(seq)[:, -1], -1)
            nxt = p.argmax(-1, keepdim=True) if greedy else torch.multinomial(p, 1)
            seq = torch.cat([seq, nxt], 1)
        return seq

    def token_logps(self, seq, prompt_len):
        logits = self(seq)
        logp = F.log_softmax(logits, -1).gather(-1, seq.unsqueeze(-1)).squeeze(-1)
        return logp[:, prompt_len:]


def reward_fn(seq):
    """share of new tokens in the prompt's rhyme class, each at most once in a row"""
    rhyme = seq[:, :1] % 5
    new = seq[:, PROMPT:]
    ok = (new % 5 == rhyme) & (new != seq[:, PROMPT - 1:-1])
    return ok.float().mean(1)


def prompts(n):
    return torch.randint(V, (n, PROMPT))


policy = Policy()
opt = torch.optim.Adam(policy.parameters(), lr=3e-3)

# short supervised warm start on random text so that samples are varied
for _ in range(30):
    seq = torch.randint(V, (64, PROMPT + NEW))
    loss = F.cross_entropy(policy(seq[:, :-1]).flatten(0, 1), seq[:, 1:].flatten())
    opt.zero_grad()
    loss.backward()
    opt.step()

opt = torch.optim.Adam(policy.parameters(), lr=2e-3)
GROUP = 8
for it in range(250):
    p = prompts(16).repeat_interleave(GROUP, 0)
    seq = policy.sample(p)
    r = reward_fn(seq)
    g = r.view(-1, GROUP)
    adv = ((g - g.mean(1, keepdim=True)) / (g.std(1, keepdim=True) + 1e-4)).view(-1)
    logp = policy.token_logps(seq, PROMPT)
    loss = -(adv.unsqueeze(1) * logp).mean()
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    opt.step()
    if it % 50 == 0:
        print(f"iter {it} reward {r.mean().item():.3f} loss {loss.item():.4f}")

test = reward_fn(policy.sample(prompts(500))).mean().item()
print(f"mean reward on new prompts: {test:.3f}")
