"""Train a small BART to translate toy sentences into another toy language."""
import random
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import BartConfig, BartForConditionalGeneration

random.seed(0)
torch.manual_seed(0)
PAD, BOS, EOS = 0, 1, 2
source_words = "the a big red old dog cat man house tree sees likes has and".split()
target_words = "der ein gross rot alt hund katze mann haus baum sieht mag hat und".split()
lexicon = dict(zip(source_words, target_words))
vocab = {w: i for i, w in enumerate(["<pad>", "<s>", "</s>"] + source_words + target_words)}

def sentence():
    def noun_phrase():
        return [random.choice(["the", "a"]), random.choice(["big", "red", "old"]), random.choice(["dog", "cat", "man", "house", "tree"])]
    src = noun_phrase() + [random.choice(["sees", "likes", "has"])] + noun_phrase()
    if random.random() < 0.5:
        src += ["and"] + noun_phrase()
    return src, [lexicon[w] for w in src]

def encode(words):
    return torch.tensor([BOS] + [vocab[w] for w in words] + [EOS])

def collate(rows):
    return (pad_sequence([encode(s) for s, _ in rows], batch_first=True, padding_value=PAD),
            pad_sequence([encode(t) for _, t in rows], batch_first=True, padding_value=PAD))

pairs = [sentence() for _ in range(2200)]
train_dl = DataLoader(pairs[:2000], batch_size=32, shuffle=True, collate_fn=collate)
test_dl = DataLoader(pairs[2000:], batch_size=100, collate_fn=collate)

model = BartForConditionalGeneration(BartConfig(
    vocab_size=len(vocab), d_model=64, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
    decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, max_position_embeddings=32, dropout=0.0,
    pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, decoder_start_token_id=EOS, forced_eos_token_id=None))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

for epoch in range(8):
    model.train()
    total = 0.0
    for src, tgt in train_dl:
        out = model(input_ids=src, attention_mask=(src != PAD).long(), labels=tgt.masked_fill(tgt == PAD, -100), decoder_input_ids=tgt)
        optimizer.zero_grad()
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += out.loss.item()
    print(f"epoch {epoch + 1}: loss {total / len(train_dl):.4f}")

model.eval()
right = 0
for src, tgt in test_dl:
    out = model.generate(input_ids=src, attention_mask=(src != PAD).long(), max_new_tokens=14, num_beams=1, do_sample=False)
    for hyp, ref in zip(out.tolist(), tgt.tolist()):
        keep = lambda ids: [i for i in ids if i > EOS]
        right += keep(hyp) == keep(ref)
print(f"sentences translated exactly: {right / 200:.3f}")
