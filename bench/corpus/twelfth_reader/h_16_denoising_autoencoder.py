"""Denoising autoencoder: noise and masking in the inputs at training time, clean reconstruction as target."""
import torch
import torch.nn as nn

torch.manual_seed(0)
basis = torch.randn(5, 40)

def make(n):
    return torch.tanh(torch.randn(n, 5) @ basis / 2)

x_train, x_val = make(3000), make(600)
net = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 40), nn.Tanh())
opt = torch.optim.RAdam(net.parameters(), lr=3e-3)

def corrupt(x):
    x = x + 0.3 * torch.randn_like(x)
    return x * (torch.rand_like(x) > 0.2)

for epoch in range(30):
    net.train()
    perm = torch.randperm(len(x_train))
    total = 0.0
    for i in range(0, len(perm), 100):
        clean = x_train[perm[i:i + 100]]
        loss = (net(corrupt(clean)) - clean).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    if epoch % 5 == 4:
        net.eval()
        with torch.no_grad():
            clean_mse = (net(x_val) - x_val).pow(2).mean().item()
            noisy = corrupt(x_val)
            denoised = (net(noisy) - x_val).pow(2).mean().item()
        print(f"epoch {epoch + 1} train {total / 30:.4f} val clean {clean_mse:.4f} val denoised {denoised:.4f} "
              f"(noise itself {(noisy - x_val).pow(2).mean().item():.4f})")
