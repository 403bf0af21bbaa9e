"""PPO on a vectorised cart-pole written with numpy."""
import numpy as np
import torch
import torch.nn as nn
from torch.distributions import Categorical

N_ENVS, HORIZON, ITERS = 16, 128, 22
GAMMA, LAM, CLIP, EPOCHS, MINIBATCH = 0.99, 0.95, 0.2, 6, 256
MAX_LEN = 200


class CartPoles:
    def __init__(self, n, seed):
        self.n, self.rng = n, np.random.default_rng(seed)
        self.s = self.rng.uniform(-0.05, 0.05, (n, 4))
        self.t = np.zeros(n, int)

    def step(self, a):
        x, v, th, w = self.s.T
        force = np.where(a == 1, 10.0, -10.0)
        c, sn = np.cos(th), np.sin(th)
        tmp = (force + 0.05 * w ** 2 * sn) / 1.1
        acc_th = (9.8 * sn - c * tmp) / (0.5 * (4 / 3 - 0.1 * c ** 2 / 1.1))
        acc_x = tmp - 0.05 * acc_th * c / 1.1
        self.s = np.stack([x + 0.02 * v, v + 0.02 * acc_x, th + 0.02 * w, w + 0.02 * acc_th], 1)
        self.t += 1
        fail = (np.abs(self.s[:, 0]) > 2.4) | (np.abs(self.s[:, 2]) > 0.21)
        cut = self.t >= MAX_LEN
        final = self.s.copy()
        over = fail | cut
        lengths = self.t[over].tolist()
        self.s[over] = self.rng.uniform(-0.05, 0.05, (over.sum(), 4))
        self.t[over] = 0
        return np.ones(self.n, np.float32), fail, cut & ~fail, final, lengths


def layer(i, o, gain=np.sqrt(2)):
    m = nn.Linear(i, o)
    nn.init.orthogonal_(m.weight, gain)
    nn.init.zeros_(m.bias)
    return m


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.actor = nn.Sequential(layer(4, 48), nn.Tanh(), layer(48, 48), nn.Tanh(), layer(48, 2, 0.01))
        self.critic = nn.Sequential(layer(4, 48), nn.Tanh(), layer(48, 48), nn.Tanh(), layer(48, 1, 1.0))

    def forward(self, obs):
        return Categorical(logits=self.actor(obs)), self.critic(obs).squeeze(-1)


def to_t(a):
    return torch.as_tensor(a, dtype=torch.float32)


def main():
    torch.manual_seed(1)
    env, net = CartPoles(N_ENVS, 1), ActorCritic()
    opt = torch.optim.Adam(net.parameters(), lr=2e-3, eps=1e-5)
    anneal = torch.optim.lr_scheduler.LambdaLR(opt, lambda k: 1 - k / ITERS)
    recent = []
    for it in range(1, ITERS + 1):
        obs, act, logp, val, rew, done = [], [], [], [], [], []
        for _ in range(HORIZON):
            o = to_t(env.s)
            with torch.no_grad():
                pi, v = net(o)
                a = pi.sample()
                lp = pi.log_prob(a)
            r, fail, cut, final, lengths = env.step(a.numpy())
            recent += lengths
            if cut.any():
                # time limit: the value of the last state still counts
                with torch.no_grad():
                    r = r + GAMMA * net(to_t(final))[1].numpy() * cut
            for buf, item in zip((obs, act, logp, val, rew, done), (o, a, lp, v, to_t(r), to_t(fail | cut))):
                buf.append(item)
        with torch.no_grad():
            last = net(to_t(env.s))[1]
        adv, run = [None] * HORIZON, torch.zeros(N_ENVS)
        for t in reversed(range(HORIZON)):
            nxt = last if t == HORIZON - 1 else val[t + 1]
            delta = rew[t] + GAMMA * nxt * (1 - done[t]) - val[t]
            run = delta + GAMMA * LAM * (1 - done[t]) * run
            adv[t] = run
        adv = torch.stack(adv).flatten()
        obs, act, logp = torch.cat(obs), torch.cat(act), torch.cat(logp)
        ret = adv + torch.cat(val)
        pl, vl, ent = [], [], []
        for _ in range(EPOCHS):
            for idx in torch.randperm(len(ret)).split(MINIBATCH):
                pi, v = net(obs[idx])
                ratio = (pi.log_prob(act[idx]) - logp[idx]).exp()
                a = (adv[idx] - adv[idx].mean()) / (adv[idx].std() + 1e-8)
                policy_loss = -torch.min(ratio * a, ratio.clamp(1 - CLIP, 1 + CLIP) * a).mean()
                value_loss = (v - ret[idx]).pow(2).mean()
                entropy = pi.entropy().mean()
                loss = policy_loss + 0.5 * value_loss - 0.01 * entropy
                opt.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 0.5)
                opt.step()
                pl.append(policy_loss.item()), vl.append(value_loss.item()), ent.append(entropy.item())
        anneal.step()
        if it % 2 == 0:
            print(f"iter {it:3d}  length {np.mean(recent[-40:]):6.1f}  policy {np.mean(pl):+.4f}  "
                  f"value {np.mean(vl):8.3f}  entropy {np.mean(ent):.3f}")


if __name__ == "__main__":
    main()
