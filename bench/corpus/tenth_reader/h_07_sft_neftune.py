"""TRL SFT, completion-only loss, NEFTune noise on the embeddings, few examples and many epochs."""
import random

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed
from trl import SFTConfig, SFTTrainer

set_seed(1)
rng = random.Random(1)
nouns = "apple boat chair drum eagle flute grape house island jacket kite ladder".split()
plural = {n: n + "_s" for n in nouns}
templates = ["more than one {n} ?", "plural of {n} ?", "two {n} are ?", "say {n} in plural ?", "many {n} ?"]
vocab = ["<pad>", "<s>", "<eos>", "<unk>", "=>"] + nouns + list(plural.values()) + sorted(
    {w for t in templates for w in t.split() if w != "{n}"})
tk = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocab)}, unk_token="<unk>"))
tk.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=tk, pad_token="<pad>", bos_token="<s>", eos_token="<eos>", unk_token="<unk>")

combos = [(t, n) for t in templates for n in nouns]
rng.shuffle(combos)
train, test = combos[:45], combos[45:]


def row(t, n):
    return {"prompt": f"<s> {t.format(n=n)} =>", "completion": f" {plural[n]} <eos>"}


model = LlamaForCausalLM(LlamaConfig(
    vocab_size=len(vocab), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=4, max_position_embeddings=32, initializer_range=0.1, pad_token_id=0, bos_token_id=1, eos_token_id=2))
trainer = SFTTrainer(
    model=model, processing_class=tok,
    train_dataset=Dataset.from_list([row(*c) for c in train]),
    eval_dataset=Dataset.from_list([row(*c) for c in test]),
    args=SFTConfig("out", per_device_train_batch_size=15, num_train_epochs=40, learning_rate=4e-3, weight_decay=0.1,
                   neftune_noise_alpha=0.5, completion_only_loss=True, max_length=32, lr_scheduler_type="cosine",
                   warmup_steps=6, logging_steps=30, save_strategy="no", report_to=[], use_cpu=True, bf16=False,
                   gradient_checkpointing=False, disable_tqdm=True))
trainer.train()
print({k: round(v, 3) for k, v in trainer.evaluate().items() if k == "eval_loss"})
model.eval()
ok = 0
for t, n in test:
    enc = tok(row(t, n)["prompt"], return_tensors="pt")
    out = model.generate(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], max_new_tokens=4, do_sample=False)
    ok += tok.decode(out[0, enc["input_ids"].shape[1]:]).split() == [plural[n], "<eos>"]
print(f"exact answers to unseen phrasings: {ok / len(test):.3f}")
