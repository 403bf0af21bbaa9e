"""LoRA fine-tuning of a small BERT for review sentiment; save the adapter and load it for inference."""
import random
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

torch.manual_seed(7)
random.seed(7)
VOCAB, LEN = 200, 20
POS, NEG = list(range(10, 35)), list(range(40, 65))


def review():
    label = random.randint(0, 1)
    words = [random.randint(70, VOCAB - 1) for _ in range(LEN - 1)]
    good, bad = (POS, NEG) if label else (NEG, POS)
    for i in random.sample(range(LEN - 1), 5):
        words[i] = random.choice(good)
    words[random.randrange(LEN - 1)] = random.choice(bad)
    return [1] + words, label


data = [review() for _ in range(1500)]
train, test = data[:1250], data[1250:]


def collate(items):
    ids = torch.tensor([x for x, _ in items])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([y for _, y in items])}


train_dl = DataLoader(train, batch_size=32, shuffle=True, collate_fn=collate)
test_dl = DataLoader(test, batch_size=64, collate_fn=collate)


@torch.no_grad()
def accuracy(model):
    model.eval()
    hits = sum((model(**b).logits.argmax(-1) == b["labels"]).sum().item() for b in test_dl)
    return hits / len(test)


base_dir, adapter_dir = tempfile.mkdtemp(), tempfile.mkdtemp()
BertModel(BertConfig(vocab_size=VOCAB, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                     intermediate_size=128, max_position_embeddings=32, initializer_range=0.1)).save_pretrained(base_dir)

model = AutoModelForSequenceClassification.from_pretrained(base_dir, num_labels=2)
lora = LoraConfig(r=8, lora_alpha=32, lora_dropout=0.05, target_modules=["query", "value", "dense"])
model = get_peft_model(model, lora)
model.print_trainable_parameters()

optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
for epoch in range(5):
    model.train()
    running = 0.0
    for batch in train_dl:
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item()
    print(f"epoch {epoch}: loss {running / len(train_dl):.4f}  test acc {accuracy(model):.3f}")

model.save_pretrained(adapter_dir)

# inference script
base = AutoModelForSequenceClassification.from_pretrained(base_dir, num_labels=2)
served = PeftModel.from_pretrained(base, adapter_dir)
print(f"loaded adapter: test acc {accuracy(served):.3f}")
