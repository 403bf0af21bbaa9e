"""Pretrain a tiny Llama from scratch on a synthetic recipe corpus, then sample from it."""
import random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.utils.data import DataLoader, Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

set_seed(0)
ITEMS = ["flour", "butter", "sugar", "garlic", "onion", "rice", "salt", "pepper"]
TOOLS = ["bowl", "pan", "pot", "oven"]


def recipe():
    a, b = random.sample(ITEMS, 2)
    t = random.choice(TOOLS)
    return (f"first take the {a} and the {b} from the shelf . put them in the {t} . "
            f"then stir the {t} slowly until the {a} is soft and serve it warm .")


texts = [recipe() for _ in range(1000)]
tok = Tokenizer(models.WordLevel(unk_token="<unk>"))
tok.pre_tokenizer = pre_tokenizers.Whitespace()
tok.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["<unk>", "<s>", "</s>"]))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


class CorpusDataset(Dataset):
    def __init__(self, texts, tokenizer, block_size=64):
        ids = []
        for t in texts:
            ids += [tokenizer.bos_token_id] + tokenizer(t)["input_ids"] + [tokenizer.eos_token_id]
        self.ids = torch.tensor(ids)
        self.block_size = block_size

    def __len__(self):
        return (len(self.ids) - 1) // self.block_size

    def __getitem__(self, i):
        chunk = self.ids[i * self.block_size:(i + 1) * self.block_size + 1]
        return {"input_ids": chunk[:-1], "labels": chunk[1:]}


train_ds = CorpusDataset(texts[:900], tokenizer)
val_ds = CorpusDataset(texts[900:], tokenizer)
train_dl = DataLoader(train_ds, batch_size=16, shuffle=True, drop_last=True)
val_dl = DataLoader(val_ds, batch_size=16)

config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                     num_attention_heads=4, max_position_embeddings=128,
                     bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
model = LlamaForCausalLM(config)
print("parameters:", model.num_parameters())
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)

for epoch in range(3):
    model.train()
    total = 0.0
    for batch in train_dl:
        out = model(input_ids=batch["input_ids"], labels=batch["labels"])
        optimizer.zero_grad()
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += out.loss.item()
    model.eval()
    with torch.no_grad():
        val = sum(model(**b).loss.item() for b in val_dl) / len(val_dl)
    print(f"epoch {epoch}: train loss {total / len(train_dl):.4f}  val loss {val:.4f}")

prompt = tokenizer("first take the", return_tensors="pt")
gen = model.generate(input_ids=prompt["input_ids"], attention_mask=prompt["attention_mask"],
                     max_new_tokens=30, do_sample=False, pad_token_id=tokenizer.eos_token_id)
print(tokenizer.decode(gen[0]))
