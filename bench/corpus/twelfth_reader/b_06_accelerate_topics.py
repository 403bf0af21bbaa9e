"""Topic classification with DistilBERT and Accelerate."""
import random
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import DistilBertConfig, DistilBertForSequenceClassification, get_linear_schedule_with_warmup

set_seed(0)
topic_words = [["goal", "match", "team", "coach", "league", "score"], ["vote", "party", "senate", "law", "minister", "poll"],
               ["chip", "software", "robot", "laptop", "code", "server"], ["virus", "doctor", "vaccine", "clinic", "nurse", "drug"],
               ["stock", "market", "bank", "profit", "loan", "trade"]]
common = [f"word{i}" for i in range(60)]
vocab = ["[PAD]", "[CLS]"] + common + [w for t in topic_words for w in t]
stoi = {w: i for i, w in enumerate(vocab)}

def article():
    y = random.randrange(5)
    other = random.choice([k for k in range(5) if k != y])
    words = random.choices(topic_words[y], k=4) + random.choices(topic_words[other], k=2) + random.choices(common, k=random.randint(6, 14))
    random.shuffle(words)
    return [stoi["[CLS]"]] + [stoi[w] for w in words], y

def collate(rows):
    n = max(len(x) for x, _ in rows)
    ids = torch.tensor([x + [0] * (n - len(x)) for x, _ in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": torch.tensor([y for _, y in rows])}

train_set, val_set = [article() for _ in range(1600)], [article() for _ in range(400)]
train_dl = DataLoader(train_set, batch_size=16, shuffle=True, collate_fn=collate)
val_dl = DataLoader(val_set, batch_size=100, collate_fn=collate)

model = DistilBertForSequenceClassification(DistilBertConfig(vocab_size=len(vocab), dim=48, n_layers=2, n_heads=4,
                                                             hidden_dim=96, max_position_embeddings=64, num_labels=5))
num_epochs = 5
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
scheduler = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=0, num_training_steps=num_epochs)

accelerator = Accelerator(cpu=True)
model, optimizer, train_dl, val_dl, scheduler = accelerator.prepare(model, optimizer, train_dl, val_dl, scheduler)

for epoch in range(num_epochs):
    model.train()
    total = 0.0
    for batch in train_dl:
        loss = model(**batch).loss
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        total += loss.item()
    model.eval()
    hits = 0
    for batch in val_dl:
        with torch.no_grad():
            logits = model(**batch).logits
        preds, refs = accelerator.gather_for_metrics((logits.argmax(-1), batch["labels"]))
        hits += (preds == refs).sum().item()
    accelerator.print(f"epoch {epoch + 1}: train loss {total / len(train_dl):.4f}, val accuracy {hits / len(val_set):.4f}")
