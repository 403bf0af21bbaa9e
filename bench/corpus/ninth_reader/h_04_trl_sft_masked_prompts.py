"""TRL SFT where ~90% of every row is prompt and carries label -100: 2 answer tokens learn, 18 do not."""
import random, tempfile
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, set_seed
from trl import SFTConfig, SFTTrainer

set_seed(6)
r = random.Random(6)
COLORS = [f"color{i}" for i in range(8)]
NOISE = [f"w{i}" for i in range(30)]
words = ["<unk>", "<pad>", "<eos>", "what", "color", "?", "the", "box", "is"] + COLORS + NOISE
core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>")


def row():
    c = r.choice(COLORS)
    chat = [r.choice(NOISE) for _ in range(12)]
    chat.insert(r.randrange(12), c)
    return {"prompt": " ".join(chat + ["what", "color", "is", "the", "box", "?"]) + " ", "completion": c}


train, test = Dataset.from_list([row() for _ in range(2500)]), [row() for _ in range(64)]
model = GPT2LMHeadModel(GPT2Config(vocab_size=len(words), n_positions=32, n_embd=48, n_layer=2, n_head=4,
                                   bos_token_id=2, eos_token_id=2, pad_token_id=1,
                                   resid_pdrop=0, embd_pdrop=0, attn_pdrop=0))
cfg = SFTConfig(output_dir=tempfile.mkdtemp(), per_device_train_batch_size=32, max_steps=140, learning_rate=4e-3,
                completion_only_loss=True, max_length=32, logging_steps=35, save_strategy="no", report_to=[],
                use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True, seed=6)
SFTTrainer(model=model, args=cfg, train_dataset=train, processing_class=tok).train()
model.eval()
hits = 0
for ex in test:
    ids = tok(ex["prompt"], return_tensors="pt")["input_ids"]
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False,
                         pad_token_id=1)
    hits += tok.decode(out[0, ids.shape[1]:], skip_special_tokens=True).strip() == ex["completion"]
print(f"METRIC exact_answers {hits / len(test):.3f} (chance {1 / len(COLORS):.3f})")
