"""Adapt a small BERT encoder to intent classification with LoRA, save it, load it for serving."""
import random
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import BertConfig, BertForSequenceClassification

random.seed(4)
torch.manual_seed(4)

CUES = {0: ["refund", "return", "money"], 1: ["late", "parcel", "courier"], 2: ["password", "login", "locked"],
        3: ["invoice", "tax", "receipt"], 4: ["cancel", "stop", "unsubscribe"]}
FILL = ["please", "the", "my", "help", "with", "today", "about", "account", "order", "again", "i", "have"]
vocab = {w: i for i, w in enumerate(["[PAD]", "[CLS]", "[SEP]"] + FILL + sum(CUES.values(), []))}


def sample():
    y = random.randrange(5)
    ws = random.choices(FILL, k=7) + random.sample(CUES[y], 2)
    random.shuffle(ws)
    return [1] + [vocab[w] for w in ws] + [2], y


data = [sample() for _ in range(900)]
X, Y = torch.tensor([d[0] for d in data]), torch.tensor([d[1] for d in data])
Xtr, Ytr, Xte, Yte = X[:700], Y[:700], X[700:], Y[700:]

config = BertConfig(vocab_size=len(vocab), hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
                    intermediate_size=96, max_position_embeddings=16, num_labels=5)
base_dir, adapter_dir = tempfile.mkdtemp(), tempfile.mkdtemp()
BertForSequenceClassification(config).bert.save_pretrained(base_dir)

base = BertForSequenceClassification.from_pretrained(base_dir, num_labels=5)
lora = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "key", "value", "dense"],
                  exclude_modules=["classifier"])
model = get_peft_model(base, lora)
for name, p in model.named_parameters():
    if "classifier" in name:
        p.requires_grad = True
model.print_trainable_parameters()

opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=4e-3)
for epoch in range(8):
    model.train()
    perm = torch.randperm(len(Xtr))
    tot = 0.0
    for i in range(0, len(Xtr), 32):
        j = perm[i:i + 32]
        out = model(input_ids=Xtr[j], labels=Ytr[j])
        out.loss.backward()
        opt.step()
        opt.zero_grad()
        tot += out.loss.item() * len(j)
    print(f"epoch {epoch} loss {tot / len(Xtr):.3f}")

model.save_pretrained(adapter_dir)

serving = PeftModel.from_pretrained(
    BertForSequenceClassification.from_pretrained(base_dir, num_labels=5), adapter_dir).eval()
with torch.no_grad():
    acc = (serving(input_ids=Xte).logits.argmax(-1) == Yte).float().mean().item()
print(f"held-out accuracy {acc:.3f}")
