"""Supervised fine-tuning of a small decoder that routes tickets; loss on the response only."""
import random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

random.seed(6)
torch.manual_seed(6)

TEAM = {"printer": "hardware", "laptop": "hardware", "vpn": "network", "wifi": "network", "payroll": "finance",
        "invoice": "finance", "badge": "security", "keycard": "security", "visa": "travel", "flight": "travel"}
TEMPL = ["my {} is not working", "question about the {}", "someone must look at the {} now", "{} problem again",
         "please fix the {}", "the {} has an issue since monday", "urgent {} request", "can you check my {} today"]

examples = [(t.format(w), team) for t in TEMPL for w, team in TEAM.items()]
random.shuffle(examples)
train, held = examples[:60] * 6, examples[60:]

words = sorted({w for p, a in examples for w in f"ticket: {p} team: {a}".split()})
raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<pad>", "</s>", "<unk>"] + words)}, unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
tok = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def encode(question, team):
    prompt = f"ticket: {question} team:"
    ids = tok(f"{prompt} {team}")["input_ids"]
    prompt_len = len(tok(prompt)["input_ids"])
    return ids, [-100] * prompt_len + ids[prompt_len:]


def collate(rows):
    n = max(len(i) for i, _ in rows)
    ids = torch.tensor([i + [tok.pad_token_id] * (n - len(i)) for i, _ in rows])
    lab = torch.tensor([l + [-100] * (n - len(l)) for _, l in rows])
    return ids, lab, (ids != tok.pad_token_id).long()


model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tok), n_positions=32, n_embd=64, n_layer=2, n_head=4,
                                   bos_token_id=1, eos_token_id=1, pad_token_id=0))
opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
enc = [encode(*e) for e in train]
model.train()
for epoch in range(6):
    random.shuffle(enc)
    total = 0.0
    for i in range(0, len(enc), 24):
        ids, lab, att = collate(enc[i:i + 24])
        loss = model(input_ids=ids, attention_mask=att, labels=lab).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad()
        total += loss.item()
    print(f"epoch {epoch} loss {total / (len(enc) / 24):.4f}")

model.eval()
right = 0
for q, team in held:
    ids = tok(f"ticket: {q} team:", add_special_tokens=False, return_tensors="pt")["input_ids"]
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=2, do_sample=False)
    right += tok.decode(out[0, ids.shape[1]:], skip_special_tokens=True).strip() == team
print(f"held-out routing accuracy {right / len(held):.3f}")
