"""Named entity tagging with a small BERT and a subword tokenizer trained on the spot."""
import random

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch.utils.data import DataLoader
from transformers import (BertConfig, BertForTokenClassification, DataCollatorForTokenClassification,
                          PreTrainedTokenizerFast, get_cosine_schedule_with_warmup, set_seed)

set_seed(13)
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "B-ORG"]
syll = ["ka", "lo", "mi", "ren", "tos", "vin", "dra", "bel", "sun", "gor", "pet", "ula"]


def name(n):
    return "".join(random.choice(syll) for _ in range(n)).capitalize()


first, last = [name(2) for _ in range(30)], [name(3) for _ in range(30)]
cities, firms = [name(3) + "burg" for _ in range(30)], [name(2) + "tech" for _ in range(30)]
context = ["yesterday", "the", "visited", "director", "joined", "from", "arrived", "with", "report", "in", "small"]


def sentence():
    words, tags = [], []

    def filler():
        for _ in range(random.randint(1, 3)):
            words.append(random.choice(context))
            tags.append("O")

    for kind in random.sample(["PER", "LOC", "ORG"], k=random.randint(1, 3)):
        filler()
        if kind == "PER":
            words.extend([random.choice(first), random.choice(last)])
            tags.extend(["B-PER", "I-PER"])
        else:
            words.append(random.choice(cities if kind == "LOC" else firms))
            tags.append("B-" + kind)
    filler()
    return words, [LABELS.index(t) for t in tags]


train_rows, dev_rows = [sentence() for _ in range(800)], [sentence() for _ in range(150)]

raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
raw.normalizer = normalizers.Lowercase()
raw.pre_tokenizer = pre_tokenizers.Whitespace()
raw.train_from_iterator([" ".join(w) for w, _ in train_rows],
                        trainers.WordPieceTrainer(vocab_size=140, show_progress=False,
                                                  special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                                    sep_token="[SEP]", mask_token="[MASK]", model_max_length=64)


def encode(words, tags):
    enc = tokenizer(words, is_split_into_words=True, truncation=True)
    n = len(enc["input_ids"])
    enc["labels"] = (tags + [-100] * n)[:n]
    return {k: enc[k] for k in ("input_ids", "attention_mask", "labels")}


train_set = [encode(w, t) for w, t in train_rows]
dev_set = [encode(w, t) for w, t in dev_rows]
collator = DataCollatorForTokenClassification(tokenizer)
train_loader = DataLoader(train_set, batch_size=32, shuffle=True, collate_fn=collator)
dev_loader = DataLoader(dev_set, batch_size=64, collate_fn=collator)

model = BertForTokenClassification(BertConfig(
    vocab_size=len(tokenizer), hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
    max_position_embeddings=64, num_labels=len(LABELS), hidden_dropout_prob=0.1, initializer_range=0.06))
epochs = 6
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
scheduler = get_cosine_schedule_with_warmup(optimizer, 20, epochs * len(train_loader))

for epoch in range(epochs):
    model.train()
    total = 0.0
    for batch in train_loader:
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        total += loss.item()
    model.eval()
    right = count = ent_right = ent = 0
    with torch.no_grad():
        for batch in dev_loader:
            labels = batch.pop("labels")
            pred = model(**batch).logits.argmax(-1)
            keep = labels != -100
            right += (pred[keep] == labels[keep]).sum().item()
            count += keep.sum().item()
            e = labels > 0
            ent_right += (pred[e] == labels[e]).sum().item()
            ent += e.sum().item()
    print(f"epoch {epoch + 1} train loss {total / len(train_loader):.3f} dev tag accuracy {right / count:.3f} "
          f"entity tag accuracy {ent_right / ent:.3f}")
