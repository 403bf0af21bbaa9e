"""1-D CNN that grades bearing wear from vibration recordings; then score recordings one at a time."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(4)
T = 128
GRADES = ["ok", "light", "medium", "severe"]


def recordings(n):
    y = torch.randint(0, 4, (n,))
    t = torch.arange(T) / T
    f = 8 + 4 * torch.rand(n, 1)
    amp = torch.tensor([0.3, 0.7, 1.2, 1.9])[y].unsqueeze(1) * (1 + 0.08 * torch.randn(n, 1))
    x = amp * torch.sin(2 * torch.pi * (f * t + torch.rand(n, 1))) + 0.15 * torch.randn(n, T)
    return x.unsqueeze(1), y


class WearNet(nn.Module):
    def __init__(self, n_classes=4):
        super().__init__()

        def block(i, o):
            return nn.Sequential(nn.Conv1d(i, o, 7, padding=3), nn.BatchNorm1d(o), nn.ReLU(), nn.MaxPool1d(2))
        self.features = nn.Sequential(block(1, 16), block(16, 32), block(32, 32))
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(32, n_classes)

    def forward(self, x):
        return self.fc(self.dropout(self.features(x).mean(-1)))


train_x, train_y = recordings(1200)
test_x, test_y = recordings(200)
loader = DataLoader(TensorDataset(train_x, train_y), batch_size=64, shuffle=True, drop_last=True)

model = WearNet()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.CrossEntropyLoss()

model.train()
for epoch in range(10):
    correct, total, running = 0, 0, 0.0
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = criterion(out, y)
        loss.backward()
        optimizer.step()
        running += loss.item()
        correct += (out.argmax(1) == y).sum().item()
        total += len(y)
    print(f"epoch {epoch + 1}: loss {running / len(loader):.4f}  train acc {correct / total:.3f}")

confusion = torch.zeros(4, 4, dtype=torch.long)
with torch.no_grad():
    for x, y in zip(test_x, test_y):
        pred = model(x.unsqueeze(0)).argmax(1).item()
        confusion[y, pred] += 1
print("confusion matrix (rows = true grade):")
for g, row in zip(GRADES, confusion.tolist()):
    print(f"{g:>8s}", row)
print(f"test acc {confusion.diag().sum().item() / len(test_y):.3f}")
