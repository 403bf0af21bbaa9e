"""T5 from a config: spell numbers, with Seq2SeqTrainer-style padding done by the collator."""
import random
import tempfile
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (DataCollatorForSeq2Seq, PreTrainedTokenizerFast, Seq2SeqTrainer, Seq2SeqTrainingArguments,
                          T5Config, T5ForConditionalGeneration, set_seed)

set_seed(0)
ones = "zero one two three four five six seven eight nine".split()

def pair():
    digits = random.choices(range(10), k=random.randint(2, 4))
    return " ".join(map(str, digits)), " ".join(ones[d] for d in digits)

rows = list({pair() for _ in range(4000)})
random.shuffle(rows)
vocab = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>"] + [str(i) for i in range(10)] + ones)}
t = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
t.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
tok = PreTrainedTokenizerFast(tokenizer_object=t, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")

def prep(b):
    enc = tok(b["src"])
    return {"input_ids": enc["input_ids"], "attention_mask": enc["attention_mask"], "labels": tok(b["tgt"])["input_ids"]}

train = Dataset.from_dict({"src": [s for s, _ in rows[:1600]], "tgt": [g for _, g in rows[:1600]]})
train = train.map(prep, batched=True, remove_columns=["src", "tgt"])
model = T5ForConditionalGeneration(T5Config(vocab_size=len(vocab), d_model=64, d_kv=16, d_ff=128, num_layers=1, num_decoder_layers=1,
                                            num_heads=4, dropout_rate=0.0, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0))
args = Seq2SeqTrainingArguments(tempfile.mkdtemp(), num_train_epochs=8, per_device_train_batch_size=32, learning_rate=3e-3,
                                warmup_steps=40, logging_steps=50, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True)
Seq2SeqTrainer(model=model, args=args, train_dataset=train, processing_class=tok,
               data_collator=DataCollatorForSeq2Seq(tok, model=model)).train()

model.eval()
test = rows[1600:1900]
enc = tok([s for s, _ in test], return_tensors="pt", padding=True)
out = model.generate(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], max_new_tokens=8)
texts = tok.batch_decode(out, skip_special_tokens=True)
print("exact match", sum(a.strip() == g for a, (_, g) in zip(texts, test)) / len(test))
