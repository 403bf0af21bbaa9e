"""Matrix factorisation with biases for a (synthetic) movie rating set.

Item vectors start from genre profiles so that new movies are not cold.
"""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

N_USERS, N_ITEMS, N_GENRES, DIM = 500, 300, 12, 12


def make_ratings(seed=0, n=40000):
    rng = np.random.default_rng(seed)
    genres = (rng.random((N_ITEMS, N_GENRES)) < 0.2).astype(np.float32)
    genres[genres.sum(1) == 0, 0] = 1
    taste = rng.normal(0, 0.25, (N_USERS, N_GENRES))
    hidden_u = rng.normal(0, 0.75, (N_USERS, 3))
    hidden_i = rng.normal(0, 0.75, (N_ITEMS, 3))
    bias_u, bias_i = rng.normal(0, 0.3, N_USERS), rng.normal(0, 0.3, N_ITEMS)
    u, i = rng.integers(0, N_USERS, n), rng.integers(0, N_ITEMS, n)
    score = (taste[u] * genres[i]).sum(1) + (hidden_u[u] * hidden_i[i]).sum(1)
    r = 3.4 + score + bias_u[u] + bias_i[i] + rng.normal(0, 0.3, n)
    r = np.clip(r, 1, 5).astype(np.float32)
    return genres, torch.from_numpy(u), torch.from_numpy(i), torch.from_numpy(r)


class MatrixFactorization(nn.Module):
    def __init__(self, n_users, n_items, dim):
        super().__init__()
        self.user_emb = nn.Embedding(n_users, dim)
        self.item_emb = nn.Embedding(n_items, dim)
        self.user_bias = nn.Embedding(n_users, 1)
        self.item_bias = nn.Embedding(n_items, 1)
        self.mu = nn.Parameter(torch.tensor(3.0))
        nn.init.normal_(self.user_emb.weight, std=0.1)
        nn.init.normal_(self.item_emb.weight, std=0.1)
        nn.init.zeros_(self.user_bias.weight)
        nn.init.zeros_(self.item_bias.weight)

    def init_items_from_genres(self, genres):
        profile = genres / np.linalg.norm(genres, axis=1, keepdims=True)
        profile = torch.from_numpy(profile - profile.mean(0))
        self.item_emb = nn.Embedding.from_pretrained(profile, freeze=False)

    def forward(self, u, i):
        dot = (self.user_emb(u) * self.item_emb(i)).sum(-1)
        return self.mu + dot + self.user_bias(u).squeeze(-1) + self.item_bias(i).squeeze(-1)


def iterate(n, batch):
    for idx in torch.randperm(n).split(batch):
        yield idx


def rmse(model, u, i, r):
    model.eval()
    with torch.no_grad():
        return F.mse_loss(model(u, i).clamp(1, 5), r).sqrt().item()


def main():
    torch.manual_seed(0)
    genres, u, i, r = make_ratings()
    cut = int(0.85 * len(r))
    train, test = (u[:cut], i[:cut], r[:cut]), (u[cut:], i[cut:], r[cut:])

    model = MatrixFactorization(N_USERS, N_ITEMS, DIM)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.05)
    model.init_items_from_genres(genres)
    n_params = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(f"{len(train[2])} ratings for training, {len(test[2])} for test, {n_params} trainable parameters")
    print(f"baseline (global mean): {(test[2] - train[2].mean()).pow(2).mean().sqrt():.4f}")

    for epoch in range(1, 21):
        model.train()
        total = 0.0
        for idx in iterate(cut, 512):
            pred = model(train[0][idx], train[1][idx])
            loss = F.mse_loss(pred, train[2][idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(idx)
        if epoch % 2 == 0:
            print(f"epoch {epoch:2d}  train rmse {(total / cut) ** 0.5:.4f}  test rmse {rmse(model, *test):.4f}")

    with torch.no_grad():
        scores = model(torch.zeros(N_ITEMS, dtype=torch.long), torch.arange(N_ITEMS))
    print("top items for user 0:", scores.topk(5).indices.tolist())


if __name__ == "__main__":
    main()
