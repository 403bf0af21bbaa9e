"""REINFORCE on a small corridor: one of 16 signs tells which end holds the prize."""
import torch
import torch.nn as nn

torch.manual_seed(13)
N, GAMMA, MAXSTEP, SIGNS = 7, 1.0, 14, 16

SIDE = torch.randperm(SIGNS) % 2              # what each sign means


class Corridor:
    def reset(self):
        self.sign = int(torch.randint(0, SIGNS, ()))
        self.goal = int(SIDE[self.sign])
        self.pos, self.t = N // 2, 0
        return self.obs()

    def obs(self):
        o = torch.zeros(N + SIGNS)
        o[self.pos] = 1
        o[N + self.sign] = 1
        return o

    def step(self, a):
        self.pos += 1 if a else -1
        self.t += 1
        end = self.pos in (0, N - 1)
        r = (1.0 if (self.pos == N - 1) == bool(self.goal) else -1.0) if end else -0.02
        return self.obs(), r, end or self.t >= MAXSTEP


policy = nn.Sequential(nn.Linear(N + SIGNS, 32), nn.Tanh(), nn.Linear(32, 2))
opt = torch.optim.Adam(policy.parameters(), lr=5e-3)
env = Corridor()


def rollout(episodes, greedy=False):
    O, A, R, DONE, wins = [], [], [], [], 0
    for _ in range(episodes):
        o, done = env.reset(), False
        while not done:
            with torch.no_grad():
                lg = policy(o)
            a = int(lg.argmax()) if greedy else int(torch.multinomial(lg.softmax(-1), 1))
            O.append(o); A.append(a)
            o, r, done = env.step(a)
            R.append(r); DONE.append(done)
            wins += r == 1.0
    return torch.stack(O), torch.tensor(A), R, DONE, wins / episodes


for it in range(60):
    O, A, R, DONE, win = rollout(48)
    G, g = [0.0] * len(R), 0.0
    for k in reversed(range(len(R))):
        g = R[k] + GAMMA * g
        G[k] = g
    G = torch.tensor(G)
    adv = (G - G.mean()) / (G.std() + 1e-6)
    logp = torch.log_softmax(policy(O), -1).gather(1, A[:, None]).squeeze(1)
    loss = -(logp * adv).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 15 == 0:
        print(f"iter {it} loss {loss.item():+.3f} wins {win:.2f}")

torch.manual_seed(99)
print(f"METRIC win_rate_sampled {rollout(200)[-1]:.3f}")
