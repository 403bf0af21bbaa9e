"""LoRA for sequence classification on a frozen tiny BERT; save, reload, merge, compare."""
import random
import tempfile

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel, get_linear_schedule_with_warmup

torch.manual_seed(0)
random.seed(0)
VOCAB, PAD = 150, 0
TOPIC_WORDS = [range(10, 30), range(30, 50), range(50, 70)]


def doc():
    y = random.randrange(3)
    n = random.randint(8, 20)
    return [1] + [random.choice(TOPIC_WORDS[y]) if random.random() < 0.3 else random.randint(70, VOCAB - 1)
                  for _ in range(n)], y


data = [doc() for _ in range(1000)]
train, test = data[:850], data[850:]


def collate(items):
    m = max(len(x) for x, _ in items)
    ids = torch.tensor([x + [PAD] * (m - len(x)) for x, _ in items])
    return {"input_ids": ids, "attention_mask": (ids != PAD).long(), "labels": torch.tensor([y for _, y in items])}


train_dl = DataLoader(train, batch_size=32, shuffle=True, collate_fn=collate)
test_dl = DataLoader(test, batch_size=50, collate_fn=collate)


@torch.no_grad()
def accuracy(m):
    m.eval()
    return sum((m(**b).logits.argmax(-1) == b["labels"]).sum().item() for b in test_dl) / len(test)


base_dir, out_dir = tempfile.mkdtemp(), tempfile.mkdtemp()
BertModel(BertConfig(vocab_size=VOCAB, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                     intermediate_size=128, max_position_embeddings=32, pad_token_id=PAD,
                     initializer_range=0.1)).save_pretrained(base_dir)
model = AutoModelForSequenceClassification.from_pretrained(base_dir, num_labels=3)
model = get_peft_model(model, LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, lora_dropout=0.05,
                                         target_modules=["query", "value"], modules_to_save=["classifier"]))
model.print_trainable_parameters()

EPOCHS = 5
opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
sched = get_linear_schedule_with_warmup(opt, 10, EPOCHS * len(train_dl))
for epoch in range(EPOCHS):
    model.train()
    tot = 0.0
    for b in train_dl:
        loss = model(**b).loss
        loss.backward()
        opt.step()
        sched.step()
        opt.zero_grad()
        tot += loss.item()
    print(f"epoch {epoch + 1} loss {tot / len(train_dl):.3f} test acc {accuracy(model):.3f}")

model.save_pretrained(out_dir)
again = PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(base_dir, num_labels=3), out_dir)
print(f"reloaded acc {accuracy(again):.3f}")
print(f"merged acc {accuracy(again.merge_and_unload()):.3f}")
