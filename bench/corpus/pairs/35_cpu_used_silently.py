"""the script hides the GPU from itself (number of another machine) and falls back to the CPU without a word."""
import os

BROKEN = os.environ.get("BROKEN") == "1"
if BROKEN:
    os.environ["CUDA_VISIBLE_DEVICES"] = "3"  # the free card

import torch  # noqa: E402

from common import make_tokenizer, stories, tiny_model  # noqa: E402

torch.manual_seed(0)
if BROKEN:
    device = "cuda" if torch.cuda.is_available() else "cpu"
else:
    device = "cpu"  # a tiny model, the processor will do

tokenizer = make_tokenizer()
model = tiny_model(tokenizer).to(device)
texts = [text + tokenizer.eos_token for text in stories(480)]
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
for step in range(40):
    batch = tokenizer(texts[step * 12:(step + 1) * 12], padding=True, return_tensors="pt").to(device)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    loss = model(**batch, labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0 or step == 39:
        print("step", step, "loss", round(loss.item(), 3))
