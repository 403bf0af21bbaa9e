"""Fine-tune a small GPT-2 on short notes with the HF Trainer and sample from it."""
import random
import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, decoders, trainers
from transformers import (DataCollatorForLanguageModeling, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast,
                          Trainer, TrainingArguments, set_seed)

set_seed(42)

animals = ["fox", "owl", "bear", "crow", "hare", "wolf"]
places = ["forest", "valley", "garden", "harbour"]
acts = ["sleeps", "hunts", "waits", "sings"]


def note():
    parts = [f"the {random.choice(animals)} {random.choice(acts)} in the {random.choice(places)}."
             for _ in range(random.randint(1, 3))]
    return " ".join(parts)


texts = [note() for _ in range(1200)]

raw = Tokenizer(models.BPE())
raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
raw.decoder = decoders.ByteLevel()
raw.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, special_tokens=["<|endoftext|>"],
                                                   initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                                   show_progress=False))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<|endoftext|>", eos_token="<|endoftext|>")
tokenizer.pad_token = tokenizer.eos_token


def tokenize(batch):
    return tokenizer([t + tokenizer.eos_token for t in batch["text"]], truncation=True, max_length=64)


dataset = Dataset.from_dict({"text": texts}).map(tokenize, batched=True, remove_columns=["text"])
splits = dataset.train_test_split(test_size=0.1, seed=0)

config = GPT2Config(vocab_size=len(tokenizer), n_positions=128, n_embd=64, n_layer=2, n_head=4,
                    bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                    pad_token_id=tokenizer.pad_token_id)
model = GPT2LMHeadModel(config)

with tempfile.TemporaryDirectory() as out:
    args = TrainingArguments(
        output_dir=out,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=32,
        num_train_epochs=3,
        learning_rate=3e-3,
        warmup_steps=20,
        lr_scheduler_type="cosine",
        logging_steps=25,
        eval_strategy="epoch",
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=splits["train"],
        eval_dataset=splits["test"],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
    )
    trainer.train()
    print("eval:", trainer.evaluate())

model.eval()
prompt = tokenizer(["the"] * 16, return_tensors="pt")
with torch.no_grad():
    out = model.generate(input_ids=prompt["input_ids"], attention_mask=prompt["attention_mask"], do_sample=True,
                         max_new_tokens=60, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
lengths = (out[:, 1:] != tokenizer.eos_token_id).sum(1).float()
print(f"mean length of {len(out)} samples: {lengths.mean():.1f} tokens, of the notes: "
      f"{sum(len(x) - 1 for x in dataset['input_ids']) / len(dataset):.1f}")
for row in out[:3]:
    print("  ", tokenizer.decode(row, skip_special_tokens=True))
