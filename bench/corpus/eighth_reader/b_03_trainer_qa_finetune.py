"""Teach a tiny Llama short question/answer pairs with the Trainer and look at its answers."""
import random

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (DataCollatorForLanguageModeling, LlamaConfig, LlamaForCausalLM,
                          PreTrainedTokenizerFast, Trainer, TrainingArguments, set_seed)

set_seed(42)
THINGS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black"}
PLACES = {"fish": "the sea", "bird": "a nest in the tree", "bear": "a cave", "bee": "a hive"}


def sample():
    if random.random() < 0.5:
        k = random.choice(list(THINGS))
        return f"question : what colour is the {k} ? answer : it is {THINGS[k]} ."
    k = random.choice(list(PLACES))
    return f"question : where does the {k} live ? answer : it lives in {PLACES[k]} ."


texts = [sample() for _ in range(640)]
raw = Tokenizer(models.WordLevel(unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.Whitespace()
raw.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["<unk>", "<|endoftext|>"]))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", eos_token="<|endoftext|>")
tokenizer.pad_token = tokenizer.eos_token

ds = Dataset.from_dict({"text": texts})
ds = ds.map(lambda b: tokenizer([t + " " + tokenizer.eos_token for t in b["text"]], truncation=True, max_length=32),
            batched=True, remove_columns=["text"])
ds = ds.remove_columns([c for c in ds.column_names if c == "token_type_ids"])
splits = ds.train_test_split(test_size=0.1, seed=1)

model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128,
                                     num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64,
                                     bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
                                     pad_token_id=tokenizer.pad_token_id))

args = TrainingArguments(output_dir="/tmp/b03_out", num_train_epochs=4, per_device_train_batch_size=16,
                         learning_rate=5e-3, logging_steps=36, eval_strategy="epoch", save_strategy="no",
                         report_to=[], disable_tqdm=True, use_cpu=True, seed=42)
trainer = Trainer(model=model, args=args, train_dataset=splits["train"], eval_dataset=splits["test"],
                  data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False))
trainer.train()

model.eval()
for q in ["what colour is the snow ?", "where does the bee live ?", "what colour is the sky ?"]:
    enc = tokenizer(f"question : {q} answer :", return_tensors="pt")
    out = model.generate(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], max_new_tokens=24,
                         do_sample=False)
    new = out[0, enc["input_ids"].shape[1]:]
    print(q, "->", tokenizer.decode(new, skip_special_tokens=True), f"({len(new)} tokens)")
