"""Distil a larger text classifier into a bag-of-words student."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
V, L, C = 120, 16, 4
word_class = torch.randint(0, C, (V,))
strength = torch.rand(V)

def make(n):
    x = torch.randint(0, V, (n, L))
    score = torch.zeros(n, C)
    for c in range(C):
        score[:, c] = ((word_class[x] == c) * strength[x]).sum(1)
    return x, (score + 0.3 * torch.randn(n, C)).argmax(1)

x_lab, y_lab = make(3000)
x_unl, _ = make(4000)
x_te, y_te = make(1000)

class Teacher(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.emb = nn.Embedding(V, d)
        self.enc = nn.TransformerEncoder(nn.TransformerEncoderLayer(d, 4, 128, 0.1, batch_first=True), 1)
        self.fc = nn.Linear(d, C)

    def forward(self, x):
        return self.fc(self.enc(self.emb(x)).mean(1))

class Student(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.emb = nn.EmbeddingBag(V, d, mode="mean")
        self.fc = nn.Linear(d, C)

    def forward(self, x):
        return self.fc(self.emb(x))

@torch.no_grad()
def accuracy(m):
    m.eval()
    return (m(x_te).argmax(1) == y_te).float().mean().item()

teacher = Teacher()
opt = torch.optim.AdamW(teacher.parameters(), lr=1e-3)
for epoch in range(6):
    teacher.train()
    for x, y in DataLoader(TensorDataset(x_lab, y_lab), 64, shuffle=True):
        loss = F.cross_entropy(teacher(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
print("teacher acc", accuracy(teacher))

teacher.eval().requires_grad_(False)
student = Student()
opt = torch.optim.Adam(student.parameters(), lr=1e-2)
T = 2.0
for epoch in range(10):
    student.train()
    for (x,) in DataLoader(TensorDataset(torch.cat([x_lab, x_unl])), 64, shuffle=True):
        with torch.no_grad():
            soft = F.softmax(teacher(x) / T, dim=-1)
        loss = F.kl_div(F.log_softmax(student(x) / T, dim=-1), soft, reduction="batchmean") * T * T
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(f"epoch {epoch + 1} kd loss {loss.item():.4f} student acc {accuracy(student):.3f}")
