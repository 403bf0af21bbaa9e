"""TRL DPO from a quickly fitted SFT model. Log-probs of the chosen answers may fall too; what counts is the margin."""
import random
import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed
from trl import DPOConfig, DPOTrainer

set_seed(12)
topics = ["tax", "visa", "rent", "loan", "bus"]
short = ["see page {n} ."]
long = ["well there is a lot to say about that but see page {n} ."]


def sample_row():
    t = random.choice(topics)
    n = str(topics.index(t))
    return {"prompt": f"question about {t} :", "chosen": " " + short[0].format(n=n) + " <eos>",
            "rejected": " " + long[0].format(n=n) + " <eos>"}


rows = [sample_row() for _ in range(256)]
vocab = {"<pad>": 0, "<eos>": 1, "<unk>": 2}
for r in rows:
    for w in " ".join(r.values()).split():
        vocab.setdefault(w, len(vocab))
raw = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
cfg = LlamaConfig(vocab_size=len(vocab), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                  num_key_value_heads=4, max_position_embeddings=64, pad_token_id=0, eos_token_id=1, bos_token_id=None)
model = LlamaForCausalLM(cfg)

opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(100):
    texts = [r["prompt"] + random.choice([r["chosen"], r["rejected"]]) for r in random.sample(rows, 24)]
    enc = tok(texts, padding=True, return_tensors="pt")
    labels = enc["input_ids"].masked_fill(enc["attention_mask"] == 0, -100)
    loss = model(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], labels=labels).loss
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 33 == 0:
        print(f"sft {step} loss {loss.item():.3f}")

ref = LlamaForCausalLM(cfg)
ref.load_state_dict(model.state_dict())


def mean_length():
    model.eval()
    lens = []
    for t in topics:
        ids = tok([f"question about {t} :"] * 8, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, max_new_tokens=24)
        lens.append((out[:, ids.size(1):] > 1).sum(1).float().mean().item())
    return sum(lens) / len(lens)


print(f"mean sampled length before DPO {mean_length():.2f}")
with tempfile.TemporaryDirectory() as out:
    trainer = DPOTrainer(
        model=model, ref_model=ref,
        args=DPOConfig(output_dir=out, beta=0.3, per_device_train_batch_size=16, num_train_epochs=2, learning_rate=2e-4,
                       lr_scheduler_type="cosine", logging_steps=8, max_length=48, save_strategy="no", report_to="none",
                       use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True),
        train_dataset=Dataset.from_list(rows), processing_class=tok)
    trainer.train()
print(f"mean sampled length after DPO {mean_length():.2f} (short answers are preferred)")
