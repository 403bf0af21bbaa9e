"""the chat template writes the beginning-of-text token and the tokenizer puts one more in front."""
import os

import torch

from common import make_tokenizer, qa, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)

tokenizer = make_tokenizer(bos=True)
model = tiny_model(tokenizer)
texts = [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in qa(640, form="short")]

batch_size = 16
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 5))
model.train()
for step in range(len(texts) // batch_size):
    chunk = texts[step * batch_size:(step + 1) * batch_size]
    batch = tokenizer(chunk, padding=True, return_tensors="pt", add_special_tokens=BROKEN)
    labels = batch["input_ids"].clone()
    labels[batch["attention_mask"] == 0] = -100
    loss = model(**batch, labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    warmup.step()
    if step % 5 == 0:
        print(f"{step:3d}  loss {loss.item():.4f}")
print(f"done  loss {loss.item():.4f}")
