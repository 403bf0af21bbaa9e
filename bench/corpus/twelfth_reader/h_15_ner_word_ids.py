"""Token classification with sub-words: only the first piece of a word carries a label."""
import random
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.utils.data import DataLoader
from transformers import (DataCollatorForTokenClassification, DistilBertConfig, DistilBertForTokenClassification,
                          PreTrainedTokenizerFast, get_linear_schedule_with_warmup)

random.seed(0)
torch.manual_seed(0)
parts = ["zo", "pra", "mil", "tex", "gan", "vor", "li", "cam"]
drugs = ["".join(random.choices(parts, k=2)) + "ol" for _ in range(80)]
doses = [f"{n}mg" for n in (5, 10, 20, 50, 100, 250)]
temps = ["take D with X daily", "we gave X of D", "stop D if pain returns", "D was raised from X to X", "no drug today", "X D before sleep"]

def example():
    words, tags = [], []
    for w in random.choice(temps).split():
        words.append(random.choice(drugs) if w == "D" else random.choice(doses) if w == "X" else w)
        tags.append({"D": 1, "X": 2}.get(w, 0))
    return words, tags

train, test = [example() for _ in range(700)], [example() for _ in range(150)]
t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
t.pre_tokenizer = pre_tokenizers.Whitespace()
t.train_from_iterator([" ".join(w) for w, _ in train],
                      trainers.WordPieceTrainer(vocab_size=130, special_tokens=["[PAD]", "[UNK]"], show_progress=False))
tok = PreTrainedTokenizerFast(tokenizer_object=t, pad_token="[PAD]", unk_token="[UNK]")

def encode(words, tags):
    e = tok(words, is_split_into_words=True)
    labels, prev = [], None
    for w in e.word_ids():
        labels.append(-100 if w is None or w == prev else tags[w])
        prev = w
    return {"input_ids": e["input_ids"], "attention_mask": e["attention_mask"], "labels": labels}

collate = DataCollatorForTokenClassification(tok)
train_dl = DataLoader([encode(*r) for r in train], batch_size=32, shuffle=True, collate_fn=collate)
test_dl = DataLoader([encode(*r) for r in test], batch_size=50, collate_fn=collate)
model = DistilBertForTokenClassification(DistilBertConfig(vocab_size=len(tok), dim=48, n_layers=2, n_heads=4, hidden_dim=96,
                                                          max_position_embeddings=64, num_labels=3))
opt = torch.optim.AdamW(model.parameters(), lr=1.5e-3)
sched = get_linear_schedule_with_warmup(opt, 15, 5 * len(train_dl))
for epoch in range(5):
    model.train()
    total = 0.0
    for b in train_dl:
        loss = model(**b).loss
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        sched.step()
        total += loss.item()
    model.eval()
    right = n = 0
    with torch.no_grad():
        for b in test_dl:
            keep = b["labels"] != -100
            right += (model(**b).logits.argmax(-1) == b["labels"])[keep].sum().item()
            n += keep.sum().item()
    print(f"epoch {epoch + 1} loss {total / len(train_dl):.3f} test word accuracy {right / n:.3f}")
