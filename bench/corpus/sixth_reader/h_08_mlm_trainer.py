"""Masked language modelling with a small BERT and the Trainer. Only about 20% of the labels count."""
import random
import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling, PreTrainedTokenizerFast, Trainer,
                          TrainingArguments, set_seed)

set_seed(19)
pairs = {"bees": "honey", "cows": "milk", "sheep": "wool", "hens": "eggs", "trees": "shade"}
sizes = ["small", "large", "old"]


def line():
    a = random.choice(list(pairs))
    return f"{random.choice(sizes)} {a} in the {random.choice(['north', 'south'])} give {pairs[a]} to the farmer every day"


texts = [line() for _ in range(1500)]
special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
words = sorted({w for t in texts for w in t.split()})
raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(special + words)}, unk_token="[UNK]"))
raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
tok = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                              sep_token="[SEP]", mask_token="[MASK]")
ds = Dataset.from_dict({"text": texts}).map(lambda b: tok(b["text"], return_special_tokens_mask=True), batched=True,
                                            remove_columns=["text"]).train_test_split(150, seed=1)
model = BertForMaskedLM(BertConfig(vocab_size=len(tok), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                                   intermediate_size=128, max_position_embeddings=32, hidden_dropout_prob=0.05,
                                   attention_probs_dropout_prob=0.05))
with tempfile.TemporaryDirectory() as out:
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=out, per_device_train_batch_size=32, num_train_epochs=6, learning_rate=3e-3, warmup_steps=20,
            lr_scheduler_type="cosine_with_restarts", lr_scheduler_kwargs={"num_cycles": 2}, weight_decay=0.01,
            label_smoothing_factor=0.05, logging_steps=40, eval_strategy="epoch", save_strategy="epoch",
            load_best_model_at_end=True, metric_for_best_model="eval_loss", report_to="none", use_cpu=True,
            disable_tqdm=True, save_total_limit=2),
        train_dataset=ds["train"], eval_dataset=ds["test"],
        data_collator=DataCollatorForLanguageModeling(tok, mlm=True, mlm_probability=0.2), processing_class=tok)
    trainer.train()
    print("best checkpoint:", (trainer.state.best_model_checkpoint or "").rsplit("/", 1)[-1])

model = trainer.model.eval()
right = 0
for a, b in pairs.items():
    enc = tok(f"old {a} in the north give [MASK] to the farmer every day", return_tensors="pt")
    with torch.no_grad():
        logits = model(**{k: enc[k] for k in ("input_ids", "attention_mask")}).logits[0]
    at = (enc["input_ids"][0] == tok.mask_token_id).nonzero().item()
    guess = tok.convert_ids_to_tokens(logits[at].argmax().item())
    right += guess == b
    print(f"{a}: {guess}")
print(f"{right}/{len(pairs)} right from both sides of the mask")
