"""Tiny T5 with Seq2SeqTrainer: the decoder starts from <pad>, as T5 does; a constant rate."""
import random, tempfile
import torch
from transformers import (DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments, T5Config,
                          T5ForConditionalGeneration, PreTrainedTokenizerFast, set_seed)
from tokenizers import Tokenizer, models, pre_tokenizers

set_seed(9)
r = random.Random(9)
SRC = [f"a{i}" for i in range(14)]
DST = [f"b{i}" for i in range(14)]
words = ["<pad>", "</s>", "<unk>"] + SRC + DST
core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def row():
    k = [r.randrange(14) for _ in range(r.randint(2, 4))]
    src = tok(" ".join(SRC[i] for i in k) + " </s>")["input_ids"]
    tgt = tok(" ".join(DST[i] for i in k) + " </s>")["input_ids"]
    return {"input_ids": src, "attention_mask": [1] * len(src), "labels": tgt}


train, test = [row() for _ in range(3000)], [row() for _ in range(100)]
model = T5ForConditionalGeneration(T5Config(vocab_size=len(words), d_model=48, d_kv=12, num_heads=4, d_ff=96,
                                            num_layers=1, num_decoder_layers=1, dropout_rate=0.0, pad_token_id=0,
                                            eos_token_id=1, decoder_start_token_id=0,
                                            relative_attention_num_buckets=16))
args = Seq2SeqTrainingArguments(output_dir=tempfile.mkdtemp(), per_device_train_batch_size=48, max_steps=300,
                                learning_rate=4e-3, lr_scheduler_type="constant", optim="adamw_torch", logging_steps=50,
                                save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, seed=9)
coll = DataCollatorForSeq2Seq(tok, model=model)
Seq2SeqTrainer(model=model, args=args, train_dataset=train, data_collator=coll).train()
model.eval()
b = coll([dict(t) for t in test])
gen = model.generate(input_ids=b["input_ids"], attention_mask=b["attention_mask"], max_new_tokens=6, do_sample=False)
hits = sum(tok.decode(g, skip_special_tokens=True) == tok.decode(t["labels"], skip_special_tokens=True)
           for g, t in zip(gen, test))
print(f"METRIC exact_match {hits / len(test):.3f}")
