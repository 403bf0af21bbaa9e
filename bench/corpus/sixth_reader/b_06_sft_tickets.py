"""Instruction tuning of a small decoder on support tickets with TRL."""
import random
import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed
from trl import SFTConfig, SFTTrainer

set_seed(3)

replies = {
    "login": "please reset your password",
    "billing": "we refund the last invoice",
    "address": "update the address in settings",
    "crash": "install the new driver version",
    "slow": "please clear the cache folder",
    "sync": "log out on all devices",
}
openers = ["hello team", "good morning", "hi there", "dear support"]
modules = ["core", "net", "disk", "view", "auth", "db", "io", "job"]


def ticket(kind=None):
    kind = kind or random.choice(list(replies))
    text = f"{random.choice(openers)} i have a {kind} problem"
    if kind in ("crash", "slow", "sync"):
        # these come with the log attached
        lines = [f"{random.choice(modules)} {random.choice(['ok', 'warn', 'fail'])} {random.randint(0, 9)}"
                 for _ in range(random.randint(12, 16))]
        text += " log : " + " ; ".join(lines)
    return {"prompt": f"<user> {text} <assistant>", "completion": f" {replies[kind]} <eos>", "kind": kind}


rows = [ticket() for _ in range(480)]
words = sorted({w for r in rows for w in (r["prompt"] + r["completion"]).split()})
vocab = {w: i for i, w in enumerate(["<pad>", "<unk>", "<eos>", "<user>", "<assistant>"])}
for w in words:
    vocab.setdefault(w, len(vocab))
raw = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>",
                              additional_special_tokens=["<user>", "<assistant>"])

model = LlamaForCausalLM(LlamaConfig(
    vocab_size=len(vocab), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0, eos_token_id=2, bos_token_id=None))

train = Dataset.from_list(rows).remove_columns("kind")
with tempfile.TemporaryDirectory() as out:
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=out,
            max_length=48,
            per_device_train_batch_size=16,
            num_train_epochs=3,
            learning_rate=3e-3,
            lr_scheduler_type="cosine",
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
        ),
        train_dataset=train,
        processing_class=tok,
    )
    trainer.train()

model.eval()
total = right = 0
for kind in replies:
    for _ in range(3):
        t = ticket(kind)
        ids = tok(t["prompt"], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            gen = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
        answer = tok.decode(gen[0, ids.shape[1]:], skip_special_tokens=True).strip()
        total += 1
        right += answer == replies[kind]
    print(f"{kind:8s} -> {answer}")
print(f"correct replies {right}/{total}")
