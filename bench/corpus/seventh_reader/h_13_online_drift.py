"""Online forecasting of electricity demand: predict, score, then learn from the same hour.

The stream is in time order and has a change of regime; updates are written by hand.
"""
import numpy as np
import torch
import torch.nn as nn

LAGS = 24
HOURS = 4000
DRIFT_AT = 2400


def demand_stream(seed=0):
    rng = np.random.default_rng(seed)
    temp = 0.0
    for h in range(HOURS):
        temp = 0.98 * temp + rng.normal(0, 0.4)
        day = np.sin(2 * np.pi * h / 24)
        half = np.cos(4 * np.pi * h / 24)
        if h < DRIFT_AT:
            y = 500 + 120 * day + 40 * half - 14 * temp
        else:
            y = 620 - 60 * day + 90 * half + 10 * temp
        yield h, np.float32(temp), np.float32(y + rng.normal(0, 8))


class RunningStats:
    """Mean and variance of what has been seen so far, with slow forgetting."""

    def __init__(self, rate=0.002):
        self.rate, self.n, self.mean, self.var = rate, 0, 0.0, 1.0

    def update(self, v):
        self.n += 1
        a = max(self.rate, 1 / self.n)
        d = float(v) - self.mean
        self.mean += a * d
        self.var = (1 - a) * (self.var + a * d * d)

    @property
    def std(self):
        return max(self.var, 1.0) ** 0.5

    def scale(self, v):
        return (v - self.mean) / self.std


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(LAGS + 5, 1)
        self.hidden = nn.Sequential(nn.Linear(LAGS + 5, 24), nn.Tanh())
        self.readout = nn.Linear(24, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.readout.weight)

    def forward(self, x):
        return self.linear(x) + self.readout(self.hidden(x))


def main():
    torch.manual_seed(0)
    model = Forecaster()
    stats = RunningStats()
    params = [p for p in model.parameters() if p.requires_grad]
    velocity = [torch.zeros_like(p) for p in params]
    lr, momentum = 0.002, 0.8
    past, errors, naive = [], [], []

    for hour, temp, y in demand_stream():
        if len(past) >= LAGS and hour > 100:
            lags = [stats.scale(v) for v in past[-LAGS:]]
            clock = 2 * np.pi * hour / 24
            feats = lags + [temp / 3, np.sin(clock), np.cos(clock), np.sin(2 * clock), np.cos(2 * clock)]
            x = torch.tensor([feats], dtype=torch.float32)
            pred = model(x)
            guess = pred.item() * stats.std + stats.mean
            errors.append(abs(guess - float(y)))
            naive.append(abs(float(past[-24]) - float(y)))

            target = torch.tensor([[stats.scale(float(y))]], dtype=torch.float32)
            loss = 0.5 * (pred - target).pow(2).sum()
            grads = torch.autograd.grad(loss, params)
            norm = torch.sqrt(sum((g ** 2).sum() for g in grads))
            scale = min(1.0, 2.0 / (norm.item() + 1e-8))
            with torch.no_grad():
                for p, v, g in zip(params, velocity, grads):
                    v.mul_(momentum).add_(g, alpha=scale)
                    p.sub_(v, alpha=lr)
        past.append(y)
        stats.update(y)
        if hour % 400 == 0 and errors:
            k = min(400, len(errors))
            note = "  <- new tariff" if hour - 400 < DRIFT_AT <= hour - 1 else ""
            print(f"hour {hour:5d}  mean abs error {np.mean(errors[-k:]):7.2f} MW  same hour yesterday {np.mean(naive[-k:]):7.2f} MW{note}")
    print(f"whole stream: {np.mean(errors):.2f} MW against {np.mean(naive):.2f} MW; last 500 hours {np.mean(errors[-500:]):.2f} MW")


if __name__ == "__main__":
    main()
