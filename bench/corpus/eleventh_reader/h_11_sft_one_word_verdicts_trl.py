"""TRL SFT on long reports where only a one-word completion carries loss."""
import random

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

random.seed(52)
torch.manual_seed(52)
PARTS = {"valve": "pump", "seal": "pump", "rotor": "motor", "coil": "motor", "blade": "fan", "hub": "fan"}
FILL = "the crew came early and wrote that noise grew during shift two while all lights stayed green".split()


def report():
    part = random.choice(list(PARTS))
    body = random.choices(FILL, k=18)
    for _ in range(4):
        body.insert(random.randrange(18), part)
    return {"prompt": " ".join(body) + " => order a", "completion": " " + PARTS[part]}


data = [report() for _ in range(950)]
train, held = Dataset.from_list(data[:850]), data[850:]
words = sorted(set(FILL) | set(PARTS) | set(PARTS.values()) | {"=>", "order", "a"})
raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<pad>", "<eos>", "<unk>"] + words)}, unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")

model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tok), n_positions=48, n_embd=48, n_layer=2, n_head=4,
                                   bos_token_id=1, eos_token_id=1, pad_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0,
                                   attn_pdrop=0.0))
cfg = SFTConfig(output_dir="/tmp/verdicts", num_train_epochs=3, per_device_train_batch_size=16, learning_rate=3e-3,
                max_length=48, completion_only_loss=True, lr_scheduler_type="cosine", warmup_steps=10,
                logging_steps=36, save_strategy="no", report_to=[], use_cpu=True, bf16=False,
                gradient_checkpointing=False, disable_tqdm=True, seed=52)
SFTTrainer(model=model, args=cfg, train_dataset=train, processing_class=tok).train()

model.eval()
right = 0
for r in held:
    ids = tok(r["prompt"], return_tensors="pt")["input_ids"]
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False)
    right += tok.decode(out[0, ids.shape[1]:], skip_special_tokens=True).strip() == r["completion"].strip()
print(f"held-out exact match {right / len(held):.3f}")
