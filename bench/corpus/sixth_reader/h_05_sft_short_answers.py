"""SFT with TRL on prompt/completion pairs: the loss covers one or two tokens of each example, and is long done after epoch 2."""
import random
import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Qwen2Config, Qwen2ForCausalLM, PreTrainedTokenizerFast, set_seed
from trl import SFTConfig, SFTTrainer

set_seed(9)
kinds = {"apple": "fruit", "plum": "fruit", "pear": "fruit", "oak": "tree", "pine": "tree", "elm": "tree",
         "trout": "fish", "carp": "fish", "eel": "fish"}
frames = ["tell me please what a {} is", "classify this word for me : {}", "is {} a fruit a tree or a fish"]


def row():
    k = random.choice(list(kinds))
    return {"prompt": random.choice(frames).format(k) + " <answer>", "completion": f" {kinds[k]} <eos>"}


rows = [row() for _ in range(400)]
vocab = {"<pad>": 0, "<unk>": 1, "<eos>": 2, "<answer>": 3}
for r in rows:
    for w in (r["prompt"] + r["completion"]).split():
        vocab.setdefault(w, len(vocab))
raw = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(vocab), hidden_size=48, intermediate_size=96, num_hidden_layers=2,
                                     num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                                     tie_word_embeddings=True, pad_token_id=0, eos_token_id=2, bos_token_id=None))

with tempfile.TemporaryDirectory() as out:
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=out, max_length=32, per_device_train_batch_size=8, gradient_accumulation_steps=2,
            num_train_epochs=4, learning_rate=4e-3, warmup_steps=10, lr_scheduler_type="linear", logging_steps=10,
            eval_strategy="epoch", save_strategy="no", report_to="none", use_cpu=True, bf16=False,
            gradient_checkpointing=False, disable_tqdm=True, weight_decay=0.1,
        ),
        train_dataset=Dataset.from_list(rows[:352]),
        eval_dataset=Dataset.from_list(rows[352:]),
        processing_class=tok,
    )
    trainer.train()

model.eval()
right = 0
for k in kinds:
    ids = tok(frames[0].format(k) + " <answer>", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        gen = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False)
    text = tok.decode(gen[0, ids.size(1):])
    right += text.split() == [kinds[k], "<eos>"]
print(f"{right}/{len(kinds)} answered exactly and stopped")
