"""Supervised fine-tuning with TRL on prompt/completion pairs; the loss counts only the completions."""
import random

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed
from trl import SFTConfig, SFTTrainer

set_seed(1)
NUM = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def pair():
    n = random.randint(0, 9)
    pad = random.choice(["", "please ", "could you please ", "hello there , "])
    if random.random() < 0.5 and n < 9:
        return {"prompt": f"{pad}what comes after {NUM[n]} ?", "completion": f" {NUM[n + 1]} comes next ."}
    return {"prompt": f"{pad}repeat the word {NUM[n]} twice", "completion": f" {NUM[n]} {NUM[n]} ."}


rows = [pair() for _ in range(540)]
raw = Tokenizer(models.WordLevel(unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
raw.train_from_iterator([r["prompt"] + r["completion"] for r in rows],
                        trainers.WordLevelTrainer(special_tokens=["<unk>", "<pad>", "<eos>"]))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>",
                                    padding_side="right")

model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128,
                                     num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                                     max_position_embeddings=64, bos_token_id=2, eos_token_id=2, pad_token_id=1))
data = Dataset.from_list(rows).train_test_split(test_size=0.1, seed=0)
args = SFTConfig(output_dir="/tmp/h03_out", max_length=32, num_train_epochs=4, per_device_train_batch_size=8,
                 gradient_accumulation_steps=2, learning_rate=3e-3, lr_scheduler_type="linear", logging_steps=20,
                 eval_strategy="epoch", save_strategy="no", report_to=[], use_cpu=True, bf16=False,
                 gradient_checkpointing=False, disable_tqdm=True, completion_only_loss=True)
trainer = SFTTrainer(model=model, args=args, train_dataset=data["train"], eval_dataset=data["test"],
                     processing_class=tokenizer)
trainer.train()

model.eval()
tokenizer.padding_side = "left"
qs = ["what comes after three ?", "hello there , what comes after six ?", "please repeat the word two twice"]
enc = tokenizer(qs, return_tensors="pt", padding=True)
out = model.generate(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], max_new_tokens=8,
                     do_sample=False)
for q, o in zip(qs, out):
    print(q, "->", tokenizer.decode(o[enc["input_ids"].shape[1]:], skip_special_tokens=True))
