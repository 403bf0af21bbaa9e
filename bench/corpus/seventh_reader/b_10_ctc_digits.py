"""Recognise spoken digit strings (synthetic filterbank features) with CTC."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

ALPHABET = "0123456789"
BLANK = len(ALPHABET)
N_MELS = 16

_proto = np.random.default_rng(1234).normal(0, 1.0, (len(ALPHABET), N_MELS)).astype(np.float32)


def utterance(rng):
    digits = rng.integers(0, 10, rng.integers(3, 7))
    frames = [np.zeros((rng.integers(2, 5), N_MELS), np.float32)]
    for d in digits:
        frames.append(np.repeat(_proto[d][None], rng.integers(4, 8), 0))
        frames.append(np.zeros((rng.integers(2, 5), N_MELS), np.float32))
    x = np.concatenate(frames)
    x = x + rng.normal(0, 0.35, x.shape)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(digits)


def batches(items, size, shuffle):
    order = torch.randperm(len(items)).tolist() if shuffle else list(range(len(items)))
    for s in range(0, len(order), size):
        chunk = [items[k] for k in order[s:s + size]]
        feats = nn.utils.rnn.pad_sequence([c[0] for c in chunk], batch_first=True)
        flen = torch.tensor([len(c[0]) for c in chunk])
        labels = torch.cat([c[1] for c in chunk])
        llen = torch.tensor([len(c[1]) for c in chunk])
        yield feats, flen, labels, llen


class AcousticModel(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(N_MELS, 48, 5, padding=2), nn.ReLU(),
            nn.Conv1d(48, 48, 3, stride=2, padding=1), nn.ReLU(),
        )
        self.rnn = nn.GRU(48, hidden, bidirectional=True, batch_first=True)
        self.out = nn.Linear(2 * hidden, len(ALPHABET) + 1)

    def forward(self, x, lengths):
        h = self.conv(x.transpose(1, 2)).transpose(1, 2)
        h, _ = self.rnn(h)
        return F.log_softmax(self.out(h), dim=-1), (lengths + 1) // 2


def greedy_decode(logp, lengths):
    out = []
    for path, n in zip(logp.argmax(-1), lengths):
        path = torch.unique_consecutive(path[:n])
        out.append([k for k in path.tolist() if k != BLANK])
    return out


def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        prev, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            prev, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, prev + (x != y))
    return row[-1]


@torch.no_grad()
def digit_error_rate(model, items):
    model.eval()
    errors = total = 0
    shown = None
    for feats, flen, labels, llen in batches(items, 50, False):
        logp, olen = model(feats, flen)
        refs = [r.tolist() for r in labels.split(llen.tolist())]
        hyps = greedy_decode(logp, olen)
        errors += sum(edit_distance(h, r) for h, r in zip(hyps, refs))
        total += sum(len(r) for r in refs)
        shown = shown or (refs[0], hyps[0])
    return errors / total, shown


def main():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    train = [utterance(rng) for _ in range(500)]
    dev = [utterance(rng) for _ in range(100)]
    model = AcousticModel()
    criterion = nn.CTCLoss(zero_infinity=True)
    opt = torch.optim.Adam(model.parameters(), lr=4e-3)
    for epoch in range(1, 11):
        model.train()
        losses = []
        for feats, flen, labels, llen in batches(train, 25, True):
            logp, olen = model(feats, flen)
            loss = criterion(logp.transpose(0, 1), labels, olen, llen)
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            opt.step()
            losses.append(loss.item())
        der, (ref, hyp) = digit_error_rate(model, dev)
        print(f"epoch {epoch:2d}  ctc {np.mean(losses):.4f}  digit error rate {der:.3f}  ref {ref} hyp {hyp}")


if __name__ == "__main__":
    main()
