"""BERT-like classifier for (noisy) review labels, trained with Accelerate. Keeps the best epoch on the dev set."""
import random

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertConfig, BertForSequenceClassification, get_constant_schedule_with_warmup
from accelerate.utils import set_seed

set_seed(21)
good = ["lovely", "great", "tasty", "fresh", "kind", "fast"]
bad = ["awful", "cold", "rude", "slow", "stale", "dirty"]
things = ["soup", "staff", "room", "bread", "table", "music", "view", "price", "menu", "door", "tea", "cake"]
fill = ["the", "was", "and", "we", "found", "very", "quite", "rather", "today", "again", "there", "honestly"]
vocab = {w: i for i, w in enumerate(["[PAD]", "[CLS]", "[SEP]"] + good + bad + things + fill)}
MAXLEN = 20


def review(noise):
    score = 0
    words = []
    for _ in range(3):
        pos = random.random() < 0.5
        score += 1 if pos else -1
        words += [random.choice(fill), random.choice(things), random.choice(fill), random.choice(good if pos else bad)]
    label = int(score > 0)
    if random.random() < noise:
        label = 1 - label
    ids = [1] + [vocab[w] for w in words] + [random.choice(list(vocab.values())[3:]) for _ in range(random.randint(0, 4))] + [2]
    return ids, label


def build(n, noise):
    rows = [review(noise) for _ in range(n)]
    ids = torch.zeros(n, MAXLEN, dtype=torch.long)
    for i, (r, _) in enumerate(rows):
        ids[i, :len(r)] = torch.tensor(r)
    return TensorDataset(ids, (ids != 0).long(), torch.tensor([l for _, l in rows]))


train_set, dev_set, test_set = build(400, 0.25), build(300, 0.0), build(600, 0.0)
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
config = BertConfig(vocab_size=len(vocab), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                    intermediate_size=128, max_position_embeddings=32, num_labels=2,
                    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
model = BertForSequenceClassification(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
train_loader = DataLoader(train_set, batch_size=16, shuffle=True)
dev_loader = DataLoader(dev_set, batch_size=100)
test_loader = DataLoader(test_set, batch_size=100)
scheduler = get_constant_schedule_with_warmup(optimizer, 10)
model, optimizer, train_loader, dev_loader, test_loader, scheduler = accelerator.prepare(
    model, optimizer, train_loader, dev_loader, test_loader, scheduler)


@torch.no_grad()
def evaluate(loader):
    model.eval()
    loss, right, n = 0.0, 0, 0
    for ids, mask, y in loader:
        logits = model(input_ids=ids, attention_mask=mask).logits
        logits, y = accelerator.gather_for_metrics((logits, y))
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        right += (logits.argmax(-1) == y).sum().item()
        n += len(y)
    return loss / n, right / n


best_loss, best_state, best_epoch = float("inf"), None, -1
for epoch in range(16):
    model.train()
    running = 0.0
    for ids, mask, y in train_loader:
        with accelerator.accumulate(model):
            out = model(input_ids=ids, attention_mask=mask, labels=y)
            accelerator.backward(out.loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        running += out.loss.item()
    dev_loss, dev_acc = evaluate(dev_loader)
    accelerator.print(f"epoch {epoch:2d} train loss {running / len(train_loader):.3f} dev loss {dev_loss:.3f} dev acc {dev_acc:.3f}")
    if dev_loss < best_loss:
        best_loss, best_epoch = dev_loss, epoch
        best_state = accelerator.get_state_dict(model)

accelerator.unwrap_model(model).load_state_dict(best_state)
test_loss, test_acc = evaluate(test_loader)
accelerator.print(f"best epoch {best_epoch} (dev loss {best_loss:.3f})")
accelerator.print(f"test loss {test_loss:.3f} test acc {test_acc:.3f}")
