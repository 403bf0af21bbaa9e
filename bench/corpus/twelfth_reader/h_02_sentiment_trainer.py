"""Sentiment classification with a small BERT and the Trainer."""
import random
import tempfile
import numpy as np
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (BertConfig, BertForSequenceClassification, DataCollatorWithPadding, PreTrainedTokenizerFast,
                          Trainer, TrainingArguments, set_seed)

set_seed(0)
pos = ["great", "lovely", "superb", "nice", "charming", "brilliant"]
neg = ["awful", "boring", "dull", "poor", "terrible", "weak"]
nouns = ["film", "story", "cast", "music", "ending", "script"]
fill = ["honestly", "the", "was", "and", "really", "quite", "we", "thought", "that"]

def review():
    y = random.randint(0, 1)
    words = []
    for _ in range(random.randint(2, 4)):
        negated = random.random() < 0.3
        pool = pos if (y == 1) != negated else neg
        words += random.choices(fill, k=random.randint(0, 2)) + [random.choice(nouns), "was"]
        words += (["not"] if negated else []) + [random.choice(pool)]
    return {"text": " ".join(words), "label": y}

rows = [review() for _ in range(1900)]
vocab = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + sorted({w for r in rows for w in r["text"].split()}))}
t = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
t.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
tok = PreTrainedTokenizerFast(tokenizer_object=t, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")

ds = Dataset.from_list(rows).map(lambda b: tok(b["text"], truncation=True, max_length=48), batched=True)
ds = ds.train_test_split(test_size=400, seed=0)
model = BertForSequenceClassification(BertConfig(vocab_size=len(vocab), hidden_size=48, num_hidden_layers=2,
                                                 num_attention_heads=4, intermediate_size=96,
                                                 max_position_embeddings=64, num_labels=2))

def metrics(p):
    return {"accuracy": float((np.argmax(p.predictions, -1) == p.label_ids).mean())}

args = TrainingArguments(tempfile.mkdtemp(), num_train_epochs=6, per_device_train_batch_size=32,
                         per_device_eval_batch_size=100, learning_rate=1e-3, warmup_steps=30, weight_decay=0.01,
                         eval_strategy="epoch", save_strategy="no", report_to="none", use_cpu=True,
                         disable_tqdm=True, logging_steps=50)
trainer = Trainer(model=model, args=args, train_dataset=ds["train"], eval_dataset=ds["test"], processing_class=tok,
                  data_collator=DataCollatorWithPadding(tok), compute_metrics=metrics)
trainer.train()
print(trainer.evaluate())
