"""DQN with replay buffer and target network on a small grid world."""
import random
from collections import deque

import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(0)
torch.manual_seed(0)
SIZE, GOAL, HOLES = 5, (4, 4), {(1, 3), (2, 1), (3, 3)}
MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]


class Grid:
    def reset(self):
        self.pos, self.t = (0, 0), 0
        return self.obs()

    def obs(self):
        x = torch.zeros(SIZE * SIZE)
        x[self.pos[0] * SIZE + self.pos[1]] = 1
        return x

    def step(self, a):
        r, c = self.pos[0] + MOVES[a][0], self.pos[1] + MOVES[a][1]
        self.pos = (min(max(r, 0), SIZE - 1), min(max(c, 0), SIZE - 1))
        self.t += 1
        if self.pos == GOAL:
            return self.obs(), 1.0, True, False
        if self.pos in HOLES:
            return self.obs(), -1.0, True, False
        return self.obs(), -0.01, False, self.t >= 40


def net():
    return nn.Sequential(nn.Linear(SIZE * SIZE, 64), nn.ReLU(), nn.Linear(64, 4))


q, target = net(), net()
target.load_state_dict(q.state_dict())
target.eval()
opt = torch.optim.Adam(q.parameters(), lr=2e-3)
buffer = deque(maxlen=5000)
env, gamma, eps, returns, steps = Grid(), 0.97, 1.0, [], 0
losses = deque(maxlen=200)


def learn():
    s, a, r, s2, d = zip(*random.sample(buffer, 32))
    s, s2 = torch.stack(s), torch.stack(s2)
    a, r, d = torch.tensor(a), torch.tensor(r), torch.tensor(d, dtype=torch.float32)
    qa = q(s).gather(1, a.unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        y = r + gamma * (1 - d) * target(s2).max(1).values
    loss = F.smooth_l1_loss(qa, y)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(q.parameters(), 10.0)
    opt.step()
    losses.append(loss.item())


for episode in range(1, 301):
    s, total, end = env.reset(), 0.0, False
    while not end:
        if random.random() < eps:
            a = random.randrange(4)
        else:
            with torch.no_grad():
                a = q(s).argmax().item()
        s2, r, terminated, truncated = env.step(a)
        buffer.append((s, a, r, s2, terminated))
        s, total, end = s2, total + r, terminated or truncated
        steps += 1
        if len(buffer) >= 300 and steps % 2 == 0:
            learn()
        if steps % 200 == 0:
            target.load_state_dict(q.state_dict())
    eps = max(0.05, eps * 0.985)
    returns.append(total)
    if episode % 50 == 0:
        print(f"episode {episode}: return {sum(returns[-50:]) / 50:.2f} eps {eps:.2f} "
              f"loss {sum(losses) / max(1, len(losses)):.4f}")

s, total, end = env.reset(), 0.0, False
while not end:
    with torch.no_grad():
        s, r, t1, t2 = env.step(q(s).argmax().item())
    total, end = total + r, t1 or t2
print(f"greedy return {total:.2f}")
