"""Train a small GPT-2 from scratch on simple sentences, then complete prompts never seen in training."""
import random
import torch
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel

random.seed(0)
torch.manual_seed(0)

animals = {"dog": "woof", "cat": "meow", "cow": "moo", "duck": "quack", "sheep": "baa", "frog": "ribbit",
           "owl": "hoot", "pig": "oink", "lion": "roar", "bee": "buzz", "snake": "hiss", "mouse": "squeak"}
adjs = ["old", "small", "happy", "brown", "hungry", "tired"]
places = ["park", "garden", "field", "house", "yard", "forest", "barn", "street"]
combos = [(a, j, p) for a in animals for j in adjs for p in places]
random.shuffle(combos)
train, test = combos[:450], combos[450:]

def sentence(a, j, p):
    return f"<s> the {j} {a} in the {p} says {animals[a]} . </s>"

words = sorted({w for c in combos for w in sentence(*c).split()})
stoi = {w: i for i, w in enumerate(words)}

def encode(text):
    return torch.tensor([stoi[w] for w in text.split()])

loader = DataLoader([encode(sentence(*c)) for c in train], batch_size=32, shuffle=True)
config = GPT2Config(vocab_size=len(words), n_positions=32, n_embd=64, n_layer=2, n_head=4,
                    bos_token_id=stoi["<s>"], eos_token_id=stoi["</s>"])
model = GPT2LMHeadModel(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)

for epoch in range(15):
    model.train()
    total = 0.0
    for batch in loader:
        out = model(input_ids=batch[:, :-1], labels=batch[:, 1:])
        optimizer.zero_grad()
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += out.loss.item()
    if epoch % 3 == 2:
        print(f"epoch {epoch + 1} loss {total / len(loader):.4f}")

model.eval()
correct = 0
for a, j, p in test:
    ids = encode(f"<s> the {j} {a} in the {p} says").unsqueeze(0)
    with torch.no_grad():
        gen = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, do_sample=False,
                             pad_token_id=stoi["</s>"])
    correct += words[gen[0, -1].item()] == animals[a]
print(f"completion accuracy on unseen prompts: {correct / len(test):.3f}")
