"""DQN for a rover on a small map (reach the beacon)."""
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn

SIZE = 6
MOVES = [(0, 1), (0, -1), (1, 0), (-1, 0)]


class Rover:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.state = np.zeros(4, dtype=np.float32)

    def reset(self):
        self.pos = self.rng.integers(0, SIZE, 2)
        self.goal = self.rng.integers(0, SIZE, 2)
        while (self.pos == self.goal).all():
            self.goal = self.rng.integers(0, SIZE, 2)
        self.state = np.concatenate([self.pos, self.goal]).astype(np.float32)
        self.t = 0
        return self.state

    def step(self, a):
        self.pos = np.clip(self.pos + MOVES[a], 0, SIZE - 1)
        self.state[:2] = self.pos
        self.t += 1
        done = bool((self.pos == self.goal).all())
        return self.state, 1.0 if done else -0.05, done, self.t >= 25


class Q(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(4, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 4))

    def forward(self, s):
        return self.f(s / (SIZE - 1) - 0.5)


random.seed(0)
torch.manual_seed(0)
env, q, target = Rover(0), Q(), Q()
target.load_state_dict(q.state_dict())
target.requires_grad_(False)
buf = deque(maxlen=6000)
opt = torch.optim.Adam(q.parameters(), lr=1e-3)
state, returns, ret = env.reset(), [], 0.0
for step in range(6000):
    eps = max(0.05, 1 - step / 3500)
    if random.random() < eps:
        a = random.randrange(4)
    else:
        with torch.no_grad():
            a = q(torch.from_numpy(state)).argmax().item()
    nxt, r, done, cut = env.step(a)
    buf.append((state, a, r, nxt, done))
    ret += r
    state = nxt
    if done or cut:
        returns.append(ret)
        state, ret = env.reset(), 0.0
    if step > 300 and step % 2 == 0:
        s, ac, rw, s2, d = zip(*random.sample(buf, 64))
        s, s2 = torch.from_numpy(np.stack(s)), torch.from_numpy(np.stack(s2))
        rw, d = torch.tensor(rw), torch.tensor(d).float()
        with torch.no_grad():
            y = rw + 0.95 * (1 - d) * target(s2).amax(1)
        loss = nn.functional.smooth_l1_loss(q(s).gather(1, torch.tensor(ac)[:, None]).squeeze(1), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    if step % 300 == 0:
        target.load_state_dict(q.state_dict())
    if step % 1500 == 1499:
        print(f"step {step + 1} mean return {np.mean(returns[-50:]):.2f} loss {loss.item():.4f}")

test_env, wins = Rover(123), 0
for _ in range(100):
    s = test_env.reset()
    while True:
        with torch.no_grad():
            s, _, done, cut = test_env.step(q(torch.from_numpy(s)).argmax().item())
        if done or cut:
            wins += done
            break
print(f"greedy success on new starts: {wins / 100:.2f}")
