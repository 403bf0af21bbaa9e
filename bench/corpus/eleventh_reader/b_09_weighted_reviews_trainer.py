"""Review classification with the Trainer; crowd labels carry a trust weight used in the loss."""
import random

import torch
import torch.nn.functional as F
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

random.seed(9)
torch.manual_seed(9)

GOOD = ["great", "lovely", "sturdy", "quick", "tasty"]
BAD = ["awful", "broken", "slow", "bland", "noisy"]
FILL = ["the", "thing", "was", "really", "and", "it", "came", "in", "box", "so", "very", "bought"]
vocab = {w: i for i, w in enumerate(["[PAD]", "[CLS]", "[SEP]"] + FILL + GOOD + BAD)}


def review():
    y = random.randint(0, 1)
    ws = random.choices(FILL, k=8) + random.sample(GOOD if y else BAD, 2)
    random.shuffle(ws)
    return [1] + [vocab[w] for w in ws] + [2], y


def crowd_row():
    ids, y = review()
    if random.random() < 0.58:
        return {"input_ids": ids, "labels": 1 - y, "trust": 0.02}
    return {"input_ids": ids, "labels": y, "trust": 1.0}


train = Dataset.from_list([crowd_row() for _ in range(900)])
held = [review() for _ in range(300)]


def collate(rows):
    batch = {"input_ids": torch.tensor([r["input_ids"] for r in rows]),
             "labels": torch.tensor([r["labels"] for r in rows])}
    if "trust" in rows[0]:
        batch["trust"] = torch.tensor([r["trust"] for r in rows])
    return batch


class TrustTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        trust = inputs.pop("trust", None)
        labels = inputs.pop("labels")
        out = model(**inputs)
        loss = F.cross_entropy(out.logits, labels, reduction="none")
        if trust is not None:
            loss = loss * trust / trust.mean()
        loss = loss.mean()
        return (loss, out) if return_outputs else loss


model = BertForSequenceClassification(BertConfig(vocab_size=len(vocab), hidden_size=48, num_hidden_layers=2,
                                                 num_attention_heads=4, intermediate_size=96,
                                                 max_position_embeddings=16, num_labels=2))
args = TrainingArguments(output_dir="/tmp/trust_reviews", per_device_train_batch_size=32, num_train_epochs=6,
                         learning_rate=1e-3, logging_steps=28, save_strategy="no", report_to=[], use_cpu=True,
                         disable_tqdm=True, seed=9)
TrustTrainer(model=model, args=args, train_dataset=train, data_collator=collate).train()

model.eval()
with torch.no_grad():
    pred = model(input_ids=torch.tensor([h[0] for h in held])).logits.argmax(-1)
print(f"held-out accuracy {(pred == torch.tensor([h[1] for h in held])).float().mean().item():.3f}")
