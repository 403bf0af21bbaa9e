"""Fine-tune a (home-made) pretrained encoder: layer-wise rates, own optimizer handed to the Trainer, best epoch kept."""
import random

import numpy as np
import torch
from datasets import Dataset
from transformers import (DistilBertConfig, DistilBertForMaskedLM, DistilBertForSequenceClassification, Trainer,
                          TrainingArguments, set_seed)

set_seed(7)
rng = random.Random(7)
V, T, CLS, MASK = 64, 16, 62, 63
groups = [list(range(i * 10, i * 10 + 10)) for i in range(6)]       # words 60, 61 are fillers


def line():
    """words of two topics; topic pairs that belong together are (0,1) (2,3) (4,5)"""
    a = rng.randrange(6)
    b = a ^ 1 if rng.random() < 0.5 else rng.choice([g for g in range(6) if g // 2 != a // 2])
    s = [rng.choice(groups[rng.choice((a, b))]) if rng.random() < 0.8 else rng.choice((60, 61)) for _ in range(T - 3)]
    s += [rng.choice(groups[a]), rng.choice(groups[b])]
    rng.shuffle(s)
    return [CLS] + s, int(a ^ 1 == b)


def config(**k):
    return DistilBertConfig(vocab_size=V, dim=64, hidden_dim=128, n_layers=2, n_heads=4, max_position_embeddings=T,
                            dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.1, **k)


mlm = DistilBertForMaskedLM(config())
opt = torch.optim.AdamW(mlm.parameters(), lr=2e-3)
for step in range(120):
    x = torch.tensor([line()[0] for _ in range(32)])
    m = (torch.rand(x.shape) < 0.2) & (x != CLS)
    loss = mlm(input_ids=x.masked_fill(m, MASK), labels=x.masked_fill(~m, -100)).loss
    opt.zero_grad()
    loss.backward()
    opt.step()
print("pretraining loss", round(loss.item(), 3))
mlm.distilbert.save_pretrained("enc")


def dataset(n):
    rows = [line() for _ in range(n)]
    return Dataset.from_dict({"input_ids": [r[0] for r in rows], "attention_mask": [[1] * T] * n, "labels": [r[1] for r in rows]})


train, dev, test = dataset(900), dataset(200), dataset(400)
model = DistilBertForSequenceClassification.from_pretrained("enc", num_labels=2)
params = [{"params": model.distilbert.embeddings.parameters(), "lr": 5e-4},
          {"params": model.distilbert.transformer.layer[0].parameters(), "lr": 7e-4},
          {"params": model.distilbert.transformer.layer[1].parameters(), "lr": 1e-3},
          {"params": list(model.pre_classifier.parameters()) + list(model.classifier.parameters()), "lr": 2e-3}]
EPOCHS, BS = 6, 30
total = EPOCHS * len(train) // BS
optimizer = torch.optim.AdamW(params, weight_decay=0.01)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min((s + 1) / 15, max(0.0, (total - s) / total)))


def metrics(p):
    return {"accuracy": float((np.argmax(p.predictions, -1) == p.label_ids).mean())}


args = TrainingArguments("out", num_train_epochs=EPOCHS, per_device_train_batch_size=BS, per_device_eval_batch_size=200,
                         eval_strategy="epoch", save_strategy="epoch", save_total_limit=1, load_best_model_at_end=True,
                         metric_for_best_model="accuracy", logging_steps=60, report_to=[], use_cpu=True, disable_tqdm=True)
trainer = Trainer(model, args, train_dataset=train, eval_dataset=dev, compute_metrics=metrics,
                  optimizers=(optimizer, scheduler))
trainer.train()
print(f"test accuracy {trainer.evaluate(test)['eval_accuracy']:.3f}")
