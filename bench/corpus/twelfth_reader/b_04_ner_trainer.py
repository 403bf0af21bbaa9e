"""Named entity recognition: fine-tune a token classifier on word-level tags."""
import random
import tempfile
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (BertConfig, BertForTokenClassification, DataCollatorForTokenClassification,
                          PreTrainedTokenizerFast, Trainer, TrainingArguments, set_seed)

set_seed(0)
TAGS = ["O", "PER", "LOC"]
syl = ["ka", "ro", "mi", "ten", "bar", "lo", "vis", "du", "nor", "el"]
persons = ["".join(random.choices(syl, k=2)) + "son" for _ in range(120)]
cities = ["".join(random.choices(syl, k=2)) + "burg" for _ in range(120)]
templates = ["P lives in L", "yesterday P met P near L", "the train from L to L was late", "P wrote a letter to P",
             "we think P will move to L soon", "in L the weather is nice", "a friend of P went back to L with P"]

def example():
    words, tags = [], []
    for w in random.choice(templates).split():
        words.append(random.choice(persons) if w == "P" else random.choice(cities) if w == "L" else w)
        tags.append(1 if w == "P" else 2 if w == "L" else 0)
    return {"words": words, "tags": tags}

train_rows = [example() for _ in range(900)]
test_rows = [example() for _ in range(200)]

t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
t.normalizer = normalizers.Lowercase()
t.pre_tokenizer = pre_tokenizers.Whitespace()
t.train_from_iterator([" ".join(r["words"]) for r in train_rows],
                      trainers.WordPieceTrainer(vocab_size=150, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"]))
t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
tok = PreTrainedTokenizerFast(tokenizer_object=t, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")

def encode(batch):
    enc = tok(batch["words"], is_split_into_words=True, truncation=True, max_length=64)
    labels = [list(t)[:len(i)] + [-100] * (len(i) - len(t)) for t, i in zip(batch["tags"], enc["input_ids"])]
    enc["labels"] = labels
    return enc

train_ds = Dataset.from_list(train_rows).map(encode, batched=True, remove_columns=["words", "tags"])
model = BertForTokenClassification(BertConfig(vocab_size=len(tok), hidden_size=64, num_hidden_layers=2,
                                              num_attention_heads=4, intermediate_size=128,
                                              max_position_embeddings=64, num_labels=len(TAGS)))
args = TrainingArguments(tempfile.mkdtemp(), num_train_epochs=5, per_device_train_batch_size=32, learning_rate=1e-3,
                         logging_steps=40, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True)
Trainer(model=model, args=args, train_dataset=train_ds, processing_class=tok,
        data_collator=DataCollatorForTokenClassification(tok)).train()

model.eval()
tp = fp = fn = 0
for row in test_rows:
    enc = tok(row["words"], is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        pred = model(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"]).logits.argmax(-1)[0].tolist()
    wid = enc.word_ids(0)
    for w, gold in enumerate(row["tags"]):
        p = pred[wid.index(w)]
        tp += p == gold != 0
        fp += p != 0 and p != gold
        fn += gold != 0 and p != gold
print(f"entity word F1: {2 * tp / max(1, 2 * tp + fp + fn):.3f}")
