"""CNN on small synthetic 'digit' images, 10 classes."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
protos = (torch.rand(10, 1, 16, 16) > 0.7).float()


def make(n):
    y = torch.randint(0, 10, (n,))
    x = protos[y].clone()
    shifts = torch.randint(-2, 3, (n, 2))
    x = torch.stack([torch.roll(im, (int(a), int(b)), (1, 2)) for im, (a, b) in zip(x, shifts)])
    return (x + 0.5 * torch.randn_like(x) - 0.3) / 0.6, y


train_loader = DataLoader(TensorDataset(*make(2000)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*make(500)), batch_size=250)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.25)
        self.fc1 = nn.Linear(32 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, 10)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x):
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = self.drop(torch.relu(self.fc1(x.flatten(1))))
        return self.softmax(self.fc2(x))


model = Net()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

for epoch in range(1, 9):
    model.train()
    running_loss = 0.0
    for images, labels in train_loader:
        optimizer.zero_grad()
        outputs = model(images)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item() * images.size(0)
    model.eval()
    correct = 0
    with torch.no_grad():
        for images, labels in test_loader:
            correct += (model(images).argmax(1) == labels).sum().item()
    print(f"Epoch {epoch}  loss: {running_loss / 2000:.4f}  test acc: {100 * correct / 500:.1f}%")
