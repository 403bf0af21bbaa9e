"""checkpoints hold the model only, so the resume starts with an empty optimizer and the schedule anew."""
import os
import tempfile

import torch
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

from common import make_tokenizer, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()

tokenizer = make_tokenizer()
dataset = [tokenizer(text + tokenizer.eos_token) for text in stories(640)]


class StopAtMidnight(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 20:
            control.should_save = control.should_training_stop = True


def make_trainer(callbacks=()):
    torch.manual_seed(0)
    args = TrainingArguments(output_dir=OUT, per_device_train_batch_size=16, max_steps=40, learning_rate=8e-3, warmup_steps=6,
                             lr_scheduler_type="cosine", logging_steps=4, save_steps=20, save_only_model=BROKEN, report_to="none",
                             seed=0)
    return Trainer(model=tiny_model(tokenizer), args=args, train_dataset=dataset, processing_class=tokenizer,
                   data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False), callbacks=list(callbacks))


make_trainer([StopAtMidnight()]).train()
print("stopped at 20; going on the next day")
make_trainer().train(resume_from_checkpoint=f"{OUT}/checkpoint-20")
