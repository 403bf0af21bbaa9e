"""Character language model on synthetic words, GPT-2 architecture, plain training loop."""
import random
import torch
from transformers import GPT2Config, GPT2LMHeadModel, get_cosine_schedule_with_warmup

random.seed(0)
torch.manual_seed(0)

onsets, vowels, codas = ["b", "d", "k", "st", "tr", "m", "pl"], ["a", "e", "i", "o"], ["n", "r", "l", ""]
lexicon = ["".join(random.choice(onsets) + random.choice(vowels) + random.choice(codas) for _ in range(random.randint(1, 2)))
           for _ in range(40)]
text = " ".join(random.choices(lexicon, k=16000))
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])
cut = int(0.9 * len(data))
train_data, val_data = data[:cut], data[cut:]
BLOCK, BATCH, STEPS = 48, 24, 300

def get_batch(source):
    starts = torch.randint(0, len(source) - BLOCK, (BATCH,))
    return torch.stack([source[s:s + BLOCK] for s in starts])

model = GPT2LMHeadModel(GPT2Config(vocab_size=len(chars), n_positions=BLOCK, n_embd=64, n_layer=2, n_head=4, resid_pdrop=0.0,
                                   embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
scheduler = get_cosine_schedule_with_warmup(optimizer, 30, STEPS)

@torch.no_grad()
def evaluate():
    model.eval()
    losses = []
    for _ in range(8):
        x = get_batch(val_data)
        losses.append(model(input_ids=x, labels=x).loss.item())
    model.train()
    return sum(losses) / len(losses)

running = []
model.train()
for step in range(STEPS + 1):
    if step % 60 == 0:
        print(f"step {step}: train {sum(running) / max(1, len(running)):.3f} val {evaluate():.3f}")
        running = []
    x = get_batch(train_data)
    loss = model(input_ids=x, labels=x).loss
    if step < STEPS:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        running.append(loss.item())
print(f"validation perplexity per character: {torch.exp(torch.tensor(evaluate())).item():.3f}")
