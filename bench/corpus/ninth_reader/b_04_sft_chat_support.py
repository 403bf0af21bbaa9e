"""Supervised fine-tuning of a toy support bot with TRL. Chat rows -> prompt/completion."""
import random, tempfile
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, set_seed
from trl import SFTConfig, SFTTrainer

set_seed(5)
r = random.Random(5)
PRODUCTS = [f"prod{i}" for i in range(12)]
FAULTS = [f"fault{i}" for i in range(4)]
STEPS = [f"step{i}" for i in range(20)]
CHAT = ["hello", "hi", "my", "is", "broken", "since", "today", "help", "thanks", "really", "it", "was"]
words = ["<unk>", "<pad>", "<eos>", "<user>", "<bot>"] + PRODUCTS + FAULTS + STEPS + CHAT
core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>")
FIX = {f: r.sample(STEPS, 3) for f in FAULTS}
LAST = {p: r.choice(STEPS) for p in PRODUCTS}


def row():
    p, f = r.choice(PRODUCTS), r.choice(FAULTS)
    chat = r.choices(CHAT, k=r.randint(3, 7))
    prompt = " ".join(["<user>"] + chat + [p, f, "<bot>"])
    answer = " ".join(FIX[f] + [LAST[p]])
    return {"prompt": prompt + " ", "completion": answer}


train = Dataset.from_list([row() for _ in range(1500)])
test = [row() for _ in range(48)]
model = GPT2LMHeadModel(GPT2Config(vocab_size=len(words), n_positions=64, n_embd=48, n_layer=2, n_head=4,
                                   bos_token_id=2, eos_token_id=2, pad_token_id=1,
                                   resid_pdrop=0, embd_pdrop=0, attn_pdrop=0))
cfg = SFTConfig(output_dir=tempfile.mkdtemp(), per_device_train_batch_size=32, max_steps=160, learning_rate=5e-3,
                max_length=12, logging_steps=40, save_strategy="no", report_to=[], use_cpu=True, bf16=False,
                gradient_checkpointing=False, disable_tqdm=True, seed=5)
SFTTrainer(model=model, args=cfg, train_dataset=train, processing_class=tok).train()

model.eval()
hits = 0
for ex in test:
    ids = tok(ex["prompt"], return_tensors="pt")["input_ids"]
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False,
                         pad_token_id=1)
    hits += tok.decode(out[0, ids.shape[1]:], skip_special_tokens=True).split() == ex["completion"].split()
print(f"METRIC exact_answers {hits / len(test):.3f}")
