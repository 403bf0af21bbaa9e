"""Classify spoken-like sounds from spectrogram frames with a 1-D CNN over time."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
FRAMES, N_MELS, CLASSES = 60, 24, 6
# every class is a short glide between two pitch bands
glides = torch.tensor([[4., 18.], [18., 4.], [10., 10.], [3., 9.], [20., 14.], [14., 21.]])

def clips(n):
    y = torch.randint(0, CLASSES, (n,))
    spec = torch.zeros(n, FRAMES, N_MELS)
    mel = torch.arange(N_MELS).float()
    for i in range(n):
        length = int(torch.randint(12, 22, (1,)))
        start = int(torch.randint(0, FRAMES - length, (1,)))
        a, b = glides[y[i]] + 0.7 * torch.randn(1)
        pitch = torch.linspace(a.item(), b.item(), length)
        spec[i, start:start + length] = torch.exp(-0.5 * ((mel[None] - pitch[:, None]) / 1.0) ** 2)
    return spec + 0.3 * torch.rand(n, FRAMES, 1) + 0.35 * torch.randn_like(spec), y

x_train, y_train = clips(1500)
x_test, y_test = clips(500)
mean, std = x_train.mean(), x_train.std()
train_dl = DataLoader(TensorDataset((x_train - mean) / std, y_train), batch_size=50, shuffle=True)
test_dl = DataLoader(TensorDataset((x_test - mean) / std, y_test), batch_size=100)

class AudioNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(N_MELS, 32, kernel_size=5, padding=2)
        self.bn1 = nn.BatchNorm1d(32)
        self.conv2 = nn.Conv1d(32, 48, kernel_size=5, padding=2)
        self.bn2 = nn.BatchNorm1d(48)
        self.fc = nn.Linear(48, CLASSES)

    def forward(self, spec):
        # spec: (batch, frames, mels) -> (batch, mels, frames)
        x = spec.reshape(spec.size(0), N_MELS, -1)
        x = F.max_pool1d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.relu(self.bn2(self.conv2(x)))
        return self.fc(x.amax(dim=-1))

model = AudioNet()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
for epoch in range(8):
    model.train()
    total = 0.0
    for spec, y in train_dl:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(spec), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        hits = sum((model(s).argmax(1) == y).sum().item() for s, y in test_dl)
    print(f"epoch {epoch + 1}: loss {total / len(train_dl):.3f} test accuracy {hits / len(y_test):.3f}")
