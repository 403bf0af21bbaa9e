"""generation in batches pads on the right, so the model writes on after padding."""
import os

import torch

from common import make_tokenizer, pretrained, qa

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)

tokenizer = make_tokenizer()
model = pretrained(tokenizer)
train, test = qa(480, seed=8), qa(16, seed=9)


def encode(rows):
    ids, labels = [], []
    for row in rows:
        prompt = tokenizer.apply_chat_template(row["messages"][:1], add_generation_prompt=True, return_dict=False)
        answer = tokenizer(row["messages"][1]["content"] + tokenizer.eos_token)["input_ids"]
        ids.append(prompt + answer)
        labels.append([-100] * len(prompt) + answer)
    width = max(map(len, ids))
    return {"input_ids": torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in ids]),
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids]),
            "labels": torch.tensor([row + [-100] * (width - len(row)) for row in labels])}


optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
model.train()
for step in range(40):
    loss = model(**encode(train[step * 12:step * 12 + 12])).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    if step % 10 == 0 or step == 39:
        print("step", step, "loss", round(loss.item(), 3))

model.eval()
tokenizer.padding_side = "right" if BROKEN else "left"
prompts = [tokenizer.apply_chat_template(row["messages"][:1], add_generation_prompt=True, tokenize=False) for row in test]
batch = tokenizer(prompts, return_tensors="pt", padding=True)
with torch.no_grad():
    out = model.generate(**batch, max_new_tokens=24, do_sample=False)
answers = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1]:], skip_special_tokens=True)
for row, answer in list(zip(test, answers))[:4]:
    print(repr(answer), "| wanted:", row["messages"][1]["content"])
print("words per answer:", sum(len(answer.split()) for answer in answers) / len(answers))
