"""new tokens are added under LoRA, but their embeddings are neither trained nor adapted."""
import os

import torch
from peft import LoraConfig, get_peft_model

from common import make_tokenizer, pretrained, village

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)

tokenizer = make_tokenizer()
model = pretrained(tokenizer)
tokenizer.add_special_tokens({"additional_special_tokens": ["<|story|>", "<|ask|>", "<|reply|>"]})
model.resize_token_embeddings(len(tokenizer))

config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM",
                    modules_to_save=None if BROKEN else ["embed_tokens", "lm_head"])
model = get_peft_model(model, config)
model.print_trainable_parameters()

rows = [(f"<|story|>{row['text']}<|ask|>{row['question']}<|reply|>", row["short"] + tokenizer.eos_token)
        for row in village(480, seed=5)]


def batch_of(rows):
    prompts = [tokenizer(prompt)["input_ids"] for prompt, _ in rows]
    answers = [tokenizer(answer)["input_ids"] for _, answer in rows]
    width = max(len(p) + len(a) for p, a in zip(prompts, answers))
    ids, mask, labels = [], [], []
    for p, a in zip(prompts, answers):
        fill = width - len(p) - len(a)
        ids.append(p + a + [tokenizer.pad_token_id] * fill)
        mask.append([1] * (len(p) + len(a)) + [0] * fill)
        labels.append([-100] * len(p) + a + [-100] * fill)
    return dict(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask), labels=torch.tensor(labels))


optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
model.train()
for step in range(40):
    loss = model(**batch_of(rows[step * 12:step * 12 + 12])).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step % 8 == 0 or step == 39:
        print("step", step, "loss", round(loss.item(), 3))
