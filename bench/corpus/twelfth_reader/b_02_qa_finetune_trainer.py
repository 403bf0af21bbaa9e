"""Fine-tune a causal LM on short question/answer pairs with the Trainer and generate answers."""
import random
import tempfile
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (DataCollatorForLanguageModeling, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast,
                          Trainer, TrainingArguments, set_seed)

set_seed(0)
capitals = {"france": "paris", "italy": "rome", "spain": "madrid", "peru": "lima", "japan": "tokyo", "india": "new delhi",
            "mexico": "mexico city", "kenya": "nairobi", "norway": "oslo", "cuba": "havana", "kuwait": "kuwait city",
            "argentina": "buenos aires", "malaysia": "kuala lumpur", "egypt": "cairo", "ghana": "accra", "chad": "n djamena"}
asks = ["what is the capital of {}", "tell me the capital of {}", "{} has which capital", "name the capital city of {}",
        "the seat of government of {} is", "which city is the capital of {}", "capital of {} please"]
greets = ["hello", "hi there", "good morning", "dear bot", ""]
pairs = [(f"{g} {q.format(c)} answer :".strip(), a) for g in greets for q in asks for c, a in capitals.items()]
random.shuffle(pairs)
train_pairs, test_pairs = pairs[:420], pairs[420:]

vocab = sorted({w for q, a in pairs for w in (q + " " + a).split()})
vocab = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "<|endoftext|>"] + vocab)}
backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", eos_token="<|endoftext|>",
                              bos_token="<|endoftext|>")
tok.pad_token = tok.eos_token
tok.padding_side = "left"

def tokenize(ex):
    return tok([f"{q} {a} {tok.eos_token}" for q, a in zip(ex["q"], ex["a"])])

ds = Dataset.from_dict({"q": [p[0] for p in train_pairs], "a": [p[1] for p in train_pairs]})
ds = ds.map(tokenize, batched=True, remove_columns=["q", "a"])

model = GPT2LMHeadModel(GPT2Config(vocab_size=len(vocab), n_positions=48, n_embd=64, n_layer=2, n_head=4,
                                   bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id))
model.config.pad_token_id = tok.pad_token_id
args = TrainingArguments(tempfile.mkdtemp(), num_train_epochs=10, per_device_train_batch_size=16, learning_rate=3e-3,
                         logging_steps=100, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True)
trainer = Trainer(model=model, args=args, train_dataset=ds, processing_class=tok,
                  data_collator=DataCollatorForLanguageModeling(tok, mlm=False))
trainer.train()

model.eval()
inputs = tok([q for q, _ in test_pairs], return_tensors="pt", padding=True)
out = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=12,
                     do_sample=False, pad_token_id=tok.pad_token_id)
answers = tok.batch_decode(out[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
hits = sum(a.strip() == gold for a, (_, gold) in zip(answers, test_pairs))
print("sample:", test_pairs[0][0], "->", answers[0])
print(f"exact match {hits / len(test_pairs):.3f}")
