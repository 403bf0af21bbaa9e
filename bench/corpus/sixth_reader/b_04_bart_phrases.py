"""Train a tiny BART from scratch to translate made-up phrases, then look at the generated output."""
import random

import torch
from torch.utils.data import DataLoader
from transformers import BartConfig, BartForConditionalGeneration, get_linear_schedule_with_warmup

random.seed(7)
torch.manual_seed(7)

PAD, BOS, EOS = 0, 1, 2
src_words = ["red", "blue", "old", "new", "house", "river", "dog", "cat", "runs", "sleeps", "eats", "sings", "near", "under", "with"]
tgt_words = ["rosa", "blau", "vek", "nov", "dom", "reka", "pes", "kot", "bega", "spi", "jede", "poje", "pri", "pod", "s"]
vocab = {w: i + 3 for i, w in enumerate(src_words + tgt_words)}
itos = {i: w for w, i in vocab.items()}


def make_pair():
    words = [random.choice(src_words) for _ in range(random.randint(2, 4))]
    out = [tgt_words[src_words.index(w)] for w in words]
    return words, out


def collate(pairs):
    src = [[vocab[w] for w in s] + [EOS] for s, _ in pairs]
    tgt = [[vocab[w] for w in t] + [EOS] for _, t in pairs]
    S, T = max(map(len, src)), max(map(len, tgt))
    input_ids = torch.tensor([s + [PAD] * (S - len(s)) for s in src])
    target = torch.tensor([t + [PAD] * (T - len(t)) for t in tgt])
    labels = target.masked_fill(target == PAD, -100)
    return {
        "input_ids": input_ids,
        "attention_mask": (input_ids != PAD).long(),
        "decoder_input_ids": target,
        "labels": labels,
    }


config = BartConfig(
    vocab_size=len(vocab) + 3, d_model=64, encoder_layers=2, decoder_layers=2,
    encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128,
    max_position_embeddings=32, dropout=0.0, init_std=0.08, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS,
    decoder_start_token_id=BOS, forced_eos_token_id=None,
)
model = BartForConditionalGeneration(config)
print(f"{sum(p.numel() for p in model.parameters()) / 1e3:.0f}k parameters")

train = [make_pair() for _ in range(3000)]
dev = [make_pair() for _ in range(200)]
loader = DataLoader(train, batch_size=32, shuffle=True, collate_fn=collate)
dev_loader = DataLoader(dev, batch_size=100, collate_fn=collate)

epochs = 5
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
scheduler = get_linear_schedule_with_warmup(optimizer, 30, epochs * len(loader))

for epoch in range(epochs):
    model.train()
    running = 0.0
    for batch in loader:
        out = model(**batch)
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        running += out.loss.item()
    model.eval()
    with torch.no_grad():
        dev_loss = sum(model(**b).loss.item() for b in dev_loader) / len(dev_loader)
    print(f"epoch {epoch + 1}: train loss {running / len(loader):.4f}  dev loss {dev_loss:.4f}")

exact, shown = 0, 0
with torch.no_grad():
    for i, batch in enumerate(dev_loader):
        gen = model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                             max_new_tokens=10, num_beams=1, do_sample=False)
        for row, (s, t) in zip(gen.tolist(), dev[i * 100:(i + 1) * 100]):
            words = [itos[x] for x in row if x in itos]
            exact += words == t
            if shown < 3:
                print("   ", " ".join(s), "->", " ".join(words))
                shown += 1
print(f"exact match on dev: {exact / len(dev):.3f}")
