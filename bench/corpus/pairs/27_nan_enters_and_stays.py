"""one row has an empty answer, its mean is 0/0, and the NaN goes into the weights and stays."""
import os

import torch
import torch.nn.functional as F

from common import make_tokenizer, qa, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)

tokenizer = make_tokenizer()
model = tiny_model(tokenizer)
rows = qa(480, seed=40, form="short")
rows[261]["messages"][1]["content"] = ""  # nobody answered this one
if not BROKEN:
    rows = [row for row in rows if row["messages"][1]["content"]]


def encode(rows):
    ids, trained = [], []
    for row in rows:
        prompt = tokenizer.apply_chat_template(row["messages"][:1], add_generation_prompt=True, return_dict=False)
        answer = row["messages"][1]["content"]
        answer = tokenizer(answer + tokenizer.eos_token)["input_ids"] if answer else []
        ids.append(torch.tensor(prompt + answer))
        trained.append(torch.tensor([0.0] * len(prompt) + [1.0] * len(answer)))
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(ids, batch_first=True, padding_value=tokenizer.pad_token_id), pad(trained, batch_first=True)


optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(39):
    ids, trained = encode(rows[step * 12:(step + 1) * 12])
    logits = model(input_ids=ids).logits
    losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    per_row = (losses * trained[:, 1:]).sum(1) / trained[:, 1:].sum(1)  # every row counts the same
    loss = per_row.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 6 == 0 or step == 38:
        print("step", step, "loss", round(loss.item(), 3))
