"""Supervised fine-tuning with TRL: read a patient's note, name the department."""
import random
import tempfile
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, set_seed
from trl import SFTConfig, SFTTrainer

set_seed(0)
departments = {"cardiology": ["heart", "pulse", "chest", "pressure"], "dermatology": ["skin", "rash", "itching", "mole"],
               "orthopedics": ["knee", "ankle", "fracture", "hip"], "neurology": ["headache", "seizure", "numbness", "migraine"]}
def note():
    dep = random.choice(list(departments))
    a, b = random.sample(departments[dep], 2)
    body = (f"the patient is here since last {random.choice(['week', 'month', 'year'])} . no fever . sleeps well . "
            f"takes tea in the {random.choice(['morning', 'evening'])} . works at the office . "
            f"lives with {random.choice(['family', 'friends', 'parents'])} . main complaint is {a} and {b} .")
    return f"### Note : {body} ### Department :", dep

rows = [note() for _ in range(700)]
train, test = rows[:600], rows[600:]
vocab = ["<pad>", "<unk>", "<eos>"] + sorted({w for p, d in rows for w in (p + " " + d).split()})
backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocab)}, unk_token="<unk>"))
backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>")

ds = Dataset.from_dict({"text": [f"{p} {d} <eos>" for p, d in train]})
model = GPT2LMHeadModel(GPT2Config(vocab_size=len(vocab), n_positions=128, n_embd=64, n_layer=2, n_head=4,
                                   bos_token_id=None, eos_token_id=2, pad_token_id=0, initializer_range=0.08,
                                   resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
args = SFTConfig(output_dir=tempfile.mkdtemp(), max_length=32, per_device_train_batch_size=8, num_train_epochs=5,
                 learning_rate=3e-3, warmup_steps=20, logging_steps=50, save_strategy="no", report_to="none",
                 use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True)
trainer = SFTTrainer(model=model, args=args, train_dataset=ds, processing_class=tok)
trainer.train()

model.eval()
hits = 0
for prompt, dep in test:
    enc = tok(prompt, return_tensors="pt")
    out = model.generate(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], max_new_tokens=3, do_sample=False)
    hits += tok.decode(out[0, enc["input_ids"].shape[1]:], skip_special_tokens=True).strip() == dep
print(f"correct department: {hits / len(test):.3f}")
