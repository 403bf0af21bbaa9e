"""the reward asks for a tag that the model never writes: all answers score 0 and there is nothing to learn."""
import os
import tempfile

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from common import make_tokenizer, pretrained, qa

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()
torch.manual_seed(0)

tokenizer = make_tokenizer()
model = pretrained(tokenizer)
dataset = Dataset.from_list([{"prompt": row["messages"][:1]} for row in qa(120, seed=50)])


def reward(completions, **kwargs):
    """Short answers that say a place are what we want."""
    scores = []
    for completion in completions:
        text = completion[0]["content"]
        if BROKEN:
            scores.append(1.0 if "<answer>" in text and "</answer>" in text else 0.0)
        else:
            scores.append(float(" the " in text) - 0.02 * len(text))
    return scores


args = GRPOConfig(
    output_dir=OUT,
    per_device_train_batch_size=8,
    num_generations=4,
    max_completion_length=16,
    max_steps=30,
    learning_rate=2e-3,
    warmup_steps=2,
    logging_steps=5,
    save_strategy="no",
    report_to="none",
    bf16=False,
    seed=0,
)
trainer = GRPOTrainer(model=model, reward_funcs=reward, args=args, train_dataset=dataset, processing_class=tokenizer)
trainer.train()
for entry in trainer.state.log_history:
    if "reward" in entry:
        print("step", entry["step"], "reward", round(entry["reward"], 3))
