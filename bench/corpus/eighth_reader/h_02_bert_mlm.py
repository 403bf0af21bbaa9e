"""Masked language modelling with a tiny BERT and the Trainer."""
import math
import random

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling, PreTrainedTokenizerFast,
                          Trainer, TrainingArguments, set_seed)

set_seed(0)
ADJ = {"north": "cold", "south": "hot", "east": "dry", "west": "wet"}
WHO = ["farmers", "sailors", "children", "traders", "soldiers"]


def sentence():
    d = random.choice(list(ADJ))
    return f"{random.choice(WHO)} who travel {d} always say that the land in the {d} is {ADJ[d]} and far away"


texts = [sentence() for _ in range(800)]
raw = Tokenizer(models.WordLevel(unk_token="[UNK]"))
raw.pre_tokenizer = pre_tokenizers.Whitespace()
raw.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
raw.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
                                    sep_token="[SEP]", mask_token="[MASK]")

ds = Dataset.from_dict({"text": texts}).map(
    lambda b: tokenizer(b["text"], truncation=True, max_length=32, return_special_tokens_mask=True),
    batched=True, remove_columns=["text"])
ds = ds.train_test_split(test_size=0.1, seed=0)

model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2,
                                   num_attention_heads=4, intermediate_size=128, max_position_embeddings=64,
                                   pad_token_id=tokenizer.pad_token_id))
args = TrainingArguments(output_dir="/tmp/h02_out", num_train_epochs=4, per_device_train_batch_size=16,
                         per_device_eval_batch_size=32, learning_rate=3e-3, weight_decay=0.01, warmup_steps=20,
                         lr_scheduler_type="cosine", eval_strategy="epoch", logging_steps=45, save_strategy="no",
                         report_to=[], use_cpu=True, disable_tqdm=True)
trainer = Trainer(model=model, args=args, train_dataset=ds["train"], eval_dataset=ds["test"],
                  data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=True, mlm_probability=0.15))
trainer.train()
print("perplexity", math.exp(trainer.evaluate()["eval_loss"]))
