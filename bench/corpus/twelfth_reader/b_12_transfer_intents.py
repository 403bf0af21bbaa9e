"""Train a BERT classifier on a large intent set, then transfer it to a new set of intents."""
import random
import torch
import torch.nn as nn
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

random.seed(0)
torch.manual_seed(0)
things = ["light", "music", "heating", "alarm", "door", "window", "tv", "oven"]
actions = {"on": ["start", "open", "activate", "enable"], "off": ["stop", "close", "disable", "kill"], "ask": ["check", "show", "tell", "what"]}
polite = ["please", "now", "quickly", "could", "you", "the", "my", "in", "kitchen", "for", "me", "today"]
vocab = {w: i for i, w in enumerate(["[PAD]", "[CLS]"] + things + sum(actions.values(), []) + polite)}
source = [(t, a) for t in things[:4] for a in actions]
target = [(t, a) for t in things[4:] for a in actions]

def utterance(intents):
    y = random.randrange(len(intents))
    t, a = intents[y]
    words = [t, random.choice(actions[a])] + random.choices(polite, k=random.randint(2, 6))
    random.shuffle(words)
    return [vocab["[CLS]"]] + [vocab[w] for w in words], y

def collate(rows):
    n = max(len(x) for x, _ in rows)
    ids = torch.tensor([x + [0] * (n - len(x)) for x, _ in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": torch.tensor([y for _, y in rows])}

def accuracy(model, rows):
    model.eval()
    batch = collate(rows)
    with torch.no_grad():
        return (model(**batch).logits.argmax(-1) == batch["labels"]).float().mean().item()

def train(model, optimizer, rows, epochs):
    loader = DataLoader(rows, batch_size=32, shuffle=True, collate_fn=collate)
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for batch in loader:
            loss = model(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"  epoch {epoch + 1} loss {total / len(loader):.3f}")

model = BertForSequenceClassification(BertConfig(vocab_size=len(vocab), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                                                 intermediate_size=128, max_position_embeddings=32, num_labels=len(source)))
print("source task")
train(model, torch.optim.AdamW(model.parameters(), lr=1e-3), [utterance(source) for _ in range(2000)], 4)
print("source accuracy", accuracy(model, [utterance(source) for _ in range(400)]))

optimizer = torch.optim.AdamW([
    {"params": model.bert.parameters(), "lr": 5e-5},
    {"params": model.classifier.parameters(), "lr": 5e-3},
])
model.classifier = nn.Linear(64, len(target))
model.num_labels = model.config.num_labels = len(target)
print("target task")
train(model, optimizer, [utterance(target) for _ in range(1500)], 5)
print("target accuracy", accuracy(model, [utterance(target) for _ in range(400)]))
