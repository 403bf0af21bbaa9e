"""DQN that keeps an unstable cart near the centre of a track."""
import random
from collections import deque
import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(0)
torch.manual_seed(0)

class Track:
    """Position drifts away from the centre; pushing left or right changes the speed. Leaving the track ends the episode."""
    def reset(self):
        self.x, self.v, self.t = random.uniform(-0.2, 0.2), 0.0, 0
        return [self.x, self.v]

    def step(self, action):
        self.v = 0.9 * self.v + 0.12 * (1 if action == 1 else -1) + 0.15 * self.x + random.gauss(0, 0.02)
        self.x += 0.5 * self.v
        self.t += 1
        fell = abs(self.x) > 1.0
        return [self.x, self.v], 1.0, fell, self.t >= 100

def make_net():
    return nn.Sequential(nn.Linear(2, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))

q_net, target_net = make_net(), make_net()
target_net.load_state_dict(q_net.state_dict())
optimizer = torch.optim.Adam(q_net.parameters(), lr=1e-3)
memory = deque(maxlen=10000)
gamma, env = 0.95, Track()
state, episode_len, lengths = env.reset(), 0, []

for step in range(6000):
    epsilon = max(0.1, 1.0 - step / 3000)
    if random.random() < epsilon:
        action = random.randrange(2)
    else:
        with torch.no_grad():
            action = q_net(torch.tensor(state)).argmax().item()
    nxt, reward, fell, timeout = env.step(action)
    memory.append((state, action, reward, nxt, float(fell)))
    state, episode_len = nxt, episode_len + 1
    if fell or timeout:
        lengths.append(episode_len)
        state, episode_len = env.reset(), 0
    if len(memory) >= 300 and step % 2 == 0:
        s, a, r, s2, done = zip(*random.sample(memory, 64))
        s, s2, a = torch.tensor(s), torch.tensor(s2), torch.tensor(a)
        r, done = torch.tensor(r), torch.tensor(done)
        with torch.no_grad():
            target = r + gamma * target_net(s2).max(1).values
        loss = F.smooth_l1_loss(q_net(s).gather(1, a[:, None]).squeeze(1), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if step % 200 == 0:
        target_net.load_state_dict(q_net.state_dict())
    if step % 1500 == 1499:
        print(f"step {step + 1}: loss {loss.item():.4f} mean episode length (last 20) {sum(lengths[-20:]) / len(lengths[-20:]):.1f}")

scores = []
for _ in range(30):
    state, n = env.reset(), 0
    while True:
        with torch.no_grad():
            state, _, fell, timeout = env.step(q_net(torch.tensor(state)).argmax().item())
        n += 1
        if fell or timeout:
            break
    scores.append(n)
print(f"greedy policy stays on the track for {sum(scores) / len(scores):.1f} of 100 steps")
