"""Supervised fine-tuning with TRL on prompt/completion pairs."""
import random
import tempfile
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, set_seed
from trl import SFTConfig, SFTTrainer

set_seed(1)
jobs = {"bread": "baker", "meat": "butcher", "fish": "fisher", "shoes": "cobbler", "suits": "tailor", "clocks": "watch maker",
        "teeth": "dentist", "pipes": "plumber", "cars": "mechanic", "songs": "singer", "books": "writer", "laws": "judge"}
who = ["anna", "ben", "cleo", "dan", "eva", "finn", "greta", "hans", "ida", "jon"]
forms = ["{} works with {}", "all day {} thinks of {}", "the work of {} is about {}", "{} earns money with {}"]
pairs = [(f.format(n, k) + " . so the job is", f" {j} <eos>") for n in who for f in forms for k, j in jobs.items()]
random.shuffle(pairs)
train, test = pairs[:400], pairs[400:]

vocab = ["<pad>", "<unk>", "<eos>"] + sorted({w for p, c in pairs for w in (p + c).split()} - {"<eos>"})
backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocab)}, unk_token="<unk>"))
backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>")

def to_ds(rows):
    return Dataset.from_dict({"prompt": [p for p, _ in rows], "completion": [c for _, c in rows]})

model = GPT2LMHeadModel(GPT2Config(vocab_size=len(vocab), n_positions=64, n_embd=64, n_layer=2, n_head=4,
                                   bos_token_id=None, eos_token_id=2, pad_token_id=0, initializer_range=0.08,
                                   resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
args = SFTConfig(output_dir=tempfile.mkdtemp(), max_length=64, completion_only_loss=True, per_device_train_batch_size=10,
                 num_train_epochs=8, learning_rate=5e-3, warmup_steps=20, lr_scheduler_type="cosine", logging_steps=50,
                 eval_strategy="epoch", save_strategy="no", report_to="none", use_cpu=True, bf16=False,
                 gradient_checkpointing=False, disable_tqdm=True)
SFTTrainer(model=model, args=args, train_dataset=to_ds(train), eval_dataset=to_ds(test), processing_class=tok).train()

model.eval()
hits = 0
for prompt, completion in test:
    enc = tok(prompt, return_tensors="pt")
    out = model.generate(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], max_new_tokens=4, do_sample=False)
    hits += tok.decode(out[0, enc["input_ids"].shape[1]:]).strip().startswith(completion.strip())
print(f"exact answers incl. stop: {hits / len(test):.3f}")
