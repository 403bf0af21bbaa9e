"""DQN on a windy grid world written by hand."""
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

GAMMA = 0.97
LR = 1e-3
BATCH = 64
EPISODES = 160
MAX_STEPS = 60
TARGET_SYNC = 200
EPS_START, EPS_END, EPS_DECAY = 1.0, 0.05, 90


class WindyGrid:
    """8x8 grid, start on the left, goal on the right, walls in between."""

    moves = [(-1, 0), (1, 0), (0, -1), (0, 1)]

    def __init__(self, size=8, slip=0.05, seed=0):
        self.size, self.slip = size, slip
        self.rng = random.Random(seed)
        self.walls = {(r, 3) for r in range(0, 6)} | {(r, 5) for r in range(3, 8)}
        self.goal = (6, 7)

    def reset(self):
        self.pos = (self.rng.randrange(self.size), self.rng.randrange(3))
        return self._obs()

    def _obs(self):
        o = np.zeros(2 * self.size, np.float32)
        o[self.pos[0]] = 1
        o[self.size + self.pos[1]] = 1
        return o

    def step(self, a):
        if self.rng.random() < self.slip:
            a = self.rng.randrange(4)
        r = self.pos[0] + self.moves[a][0]
        c = self.pos[1] + self.moves[a][1]
        if 0 <= r < self.size and 0 <= c < self.size and (r, c) not in self.walls:
            self.pos = (r, c)
        done = self.pos == self.goal
        return self._obs(), (1.0 if done else -0.01), done


def make_net():
    return nn.Sequential(nn.Linear(16, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 4))


def learn(policy, target, opt, memory):
    s, a, r, s2, d = zip(*random.sample(memory, BATCH))
    s, s2 = torch.from_numpy(np.stack(s)), torch.from_numpy(np.stack(s2))
    a, r, d = torch.tensor(a), torch.tensor(r), torch.tensor(d, dtype=torch.float32)
    q = policy(s).gather(1, a[:, None]).squeeze(1)
    with torch.no_grad():
        best = policy(s2).argmax(1, keepdim=True)
        y = r + GAMMA * (1 - d) * target(s2).gather(1, best).squeeze(1)
    loss = F.smooth_l1_loss(q, y)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(policy.parameters(), 10.0)
    opt.step()
    return loss.item()


def greedy_success(policy, n=50):
    env, ok = WindyGrid(seed=123), 0
    for _ in range(n):
        s = env.reset()
        for _ in range(MAX_STEPS):
            with torch.no_grad():
                a = policy(torch.from_numpy(s)).argmax().item()
            s, _, done = env.step(a)
            if done:
                ok += 1
                break
    return ok / n


def main():
    random.seed(3)
    torch.manual_seed(3)
    env = WindyGrid()
    policy, target = make_net(), make_net()
    target.load_state_dict(policy.state_dict())
    opt = torch.optim.Adam(policy.parameters(), lr=LR)
    memory = deque(maxlen=20000)
    rewards, losses = [], []

    for ep in range(1, EPISODES + 1):
        eps = EPS_END + (EPS_START - EPS_END) * max(0.0, 1 - ep / EPS_DECAY)
        s, total = env.reset(), 0.0
        for t in range(1, MAX_STEPS + 1):
            if random.random() < eps:
                a = random.randrange(4)
            else:
                with torch.no_grad():
                    a = policy(torch.from_numpy(s)).argmax().item()
            s2, r, done = env.step(a)
            memory.append((s, a, r, s2, done))
            s, total = s2, total + r
            if len(memory) >= 500 and t % 3 == 0:
                losses.append(learn(policy, target, opt, memory))
            if t % TARGET_SYNC == 0:
                target.load_state_dict(policy.state_dict())
            if done:
                break
        rewards.append(total)
        if ep % 20 == 0:
            mean_loss = np.mean(losses[-200:]) if losses else float("nan")
            print(f"episode {ep:4d}  eps {eps:.2f}  reward(20) {np.mean(rewards[-20:]):+.3f}  loss {mean_loss:.5f}")

    print(f"greedy success rate: {greedy_success(policy):.2f}")


if __name__ == "__main__":
    main()
