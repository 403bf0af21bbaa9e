"""SFT with TRL on short trivia answers, own BPE tokenizer; afterwards ask the model paraphrased questions."""
import random

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, set_seed
from trl import SFTConfig, SFTTrainer

set_seed(0)
rng = random.Random(0)
lands = ["Avaria", "Borland", "Cestia", "Dorvik", "Elmara", "Fenwick", "Gaulia", "Hestia", "Ivoria", "Jutmark"]
facts = {
    "capital": ["Port Ash", "Lindel", "Miro", "Tarn", "Quell", "Sund", "Vesper", "Brack", "Orlo", "Kest"],
    "animal": ["heron", "lynx", "otter", "crane", "badger", "ibex", "falcon", "seal", "marten", "stork"],
    "drink": ["cider", "mead", "tea", "cocoa", "kvass", "juice", "coffee", "ale", "milk", "rum"],
}
asks = ["what is the {k} of {l}?", "tell me the {k} of {l}?", "the {k} of {l} is?", "{l} has which {k}?",
        "do you know the {k} of {l}?"]
rows, test = [], []
for k, values in facts.items():
    for l, v in zip(lands, values):
        forms = rng.sample(asks, 5)
        for f in forms[:4]:
            rows.append({"prompt": f"### Question: {f.format(k=k, l=l)}\n### Answer:", "completion": f" {v}<eos>"})
        test.append((forms[4].format(k=k, l=l), v))

tk = Tokenizer(models.BPE())
tk.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tk.decoder = decoders.ByteLevel()
tk.train_from_iterator([(r["prompt"] + r["completion"]).replace("<eos>", "") for r in rows] * 3, trainers.BpeTrainer(
    vocab_size=400, special_tokens=["<pad>", "<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False))
tok = PreTrainedTokenizerFast(tokenizer_object=tk, pad_token="<pad>", eos_token="<eos>")

model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tok), n_positions=48, n_embd=64, n_layer=2, n_head=4,
                                   resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                                   bos_token_id=1, eos_token_id=1, pad_token_id=0))
trainer = SFTTrainer(
    model=model, processing_class=tok, train_dataset=Dataset.from_list(rows * 2),
    args=SFTConfig("out", per_device_train_batch_size=20, num_train_epochs=14, learning_rate=4e-3, max_length=48,
                   lr_scheduler_type="cosine", warmup_steps=10, logging_steps=30, save_strategy="no", report_to=[],
                   use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True))
trainer.train()
model.eval()


def ask(prompt):
    enc = tok(prompt, return_tensors="pt")
    n = enc["input_ids"].shape[1]
    out = model.generate(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], max_new_tokens=8, do_sample=False)
    return tok.decode(out[0, n:], skip_special_tokens=True).strip()


right = 0
for q, answer in test:
    got = ask(f"### Question: {q}\n### Answer: ")
    right += got == answer
print("last answer:", repr(got), "expected:", repr(answer))
print(f"right answers to new phrasings: {right / len(test):.3f}")
