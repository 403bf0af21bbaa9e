"""Spam detection with a BERT classifier and the Trainer."""
import random
import tempfile
import numpy as np
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (BertConfig, BertForSequenceClassification, DataCollatorWithPadding, PreTrainedTokenizerFast,
                          Trainer, TrainingArguments, set_seed)

set_seed(0)
spam_words = ["winner", "prize", "cash", "click", "offer", "urgent", "bonus", "casino"]
ham_words = ["meeting", "lunch", "report", "homework", "grandma", "train", "project", "dinner"]
both = ["hello", "today", "please", "your", "we", "you", "for", "the", "call", "free", "now", "time", "new", "is"]

def mail():
    y = int(random.random() < 0.4)
    strong, weak = (spam_words, ham_words) if y else (ham_words, spam_words)
    words = random.choices(strong, k=3) + random.choices(weak, k=1) + random.choices(both, k=random.randint(6, 14))
    random.shuffle(words)
    return {"text": " ".join(words), "label": y}

rows = [mail() for _ in range(1400)]
specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
vocab = {w: i for i, w in enumerate(specials + spam_words + ham_words + both)}
t = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=t, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")

dataset = Dataset.from_list(rows).map(lambda b: tokenizer(b["text"], truncation=True), batched=True)
dataset = dataset.train_test_split(test_size=400, seed=1)
model = BertForSequenceClassification(BertConfig(vocab_size=len(vocab), hidden_size=64, num_hidden_layers=3,
                                                 num_attention_heads=4, intermediate_size=128,
                                                 max_position_embeddings=64, num_labels=2))

def compute_metrics(p):
    preds = np.argmax(p.predictions, axis=-1)
    tp = ((preds == 1) & (p.label_ids == 1)).sum()
    return {"accuracy": float((preds == p.label_ids).mean()),
            "f1": float(2 * tp / max(1, (preds == 1).sum() + (p.label_ids == 1).sum()))}

args = TrainingArguments(tempfile.mkdtemp(), learning_rate=2e-2, num_train_epochs=4, per_device_train_batch_size=20,
                         per_device_eval_batch_size=100, weight_decay=0.01, eval_strategy="epoch", logging_steps=50,
                         save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True)
trainer = Trainer(model=model, args=args, train_dataset=dataset["train"], eval_dataset=dataset["test"],
                  processing_class=tokenizer, data_collator=DataCollatorWithPadding(tokenizer), compute_metrics=compute_metrics)
trainer.train()
result = trainer.evaluate()
print({k: round(v, 3) for k, v in result.items() if k in ("eval_loss", "eval_accuracy", "eval_f1")})
