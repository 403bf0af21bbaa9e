"""Small CNN that tells apart noisy drawings of ten patterns."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
N_CLASSES = 10
templates = (torch.rand(N_CLASSES, 1, 5, 5) > 0.5).float()

def make(n):
    y = torch.randint(0, N_CLASSES, (n,))
    x = torch.zeros(n, 1, 16, 16)
    for i in range(n):
        r, c = torch.randint(0, 12, (2,)).tolist()
        x[i, :, r:r + 5, c:c + 5] = templates[y[i]]
    return x + 0.35 * torch.randn_like(x), y

x_train, y_train = make(3000)
x_val, y_val = make(800)
mean, std = x_train.mean(), x_train.std()
train_dl = DataLoader(TensorDataset((x_train - mean) / std, y_train), batch_size=64, shuffle=True)
val_dl = DataLoader(TensorDataset((x_val - mean) / std, y_val), batch_size=200)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 5, padding=2)
        self.conv2 = nn.Conv2d(24, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(32 * 4 * 4, N_CLASSES)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        return F.softmax(self.fc(x.flatten(1)), dim=1)

net = Net()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)

for epoch in range(8):
    net.train()
    running = 0.0
    for x, y in train_dl:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(y)
    net.eval()
    with torch.no_grad():
        acc = sum((net(x).argmax(1) == y).sum().item() for x, y in val_dl) / len(y_val)
    print(f"epoch {epoch + 1}: loss {running / len(y_train):.3f}  val acc {acc:.3f}")
