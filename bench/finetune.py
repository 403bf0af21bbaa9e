"""How fast is fine-tuning, beside TRL's SFTTrainer?

    python bench/finetune.py                  SmolLM2-135M-Instruct, LoRA, CPU; about 15 minutes
    python bench/finetune.py --method full --model FOLDER

Real tokens (no padding) a second, on the same rows of questions and answers (the English part of
chatterbot-corpus), the same number of rows an update, the same LoRA and AdamW. Each turn is a
process of its own: it loads, makes two updates that do not count, then is timed to the end of its
last update; peak memory is that of the process. Who goes first changes from round to round.

- handrail:                  finetune.py's own rows, loss and `fit` (packed, answer logits only)
- TRL, defaults:             SFTConfig's defaults (padded rows, activation checkpointing)
- handrail, for memory:      the same with model.gradient_checkpointing_enable()
- TRL, packing, for memory:  packing=True, activation checkpointing on (TRL's guide to less memory)
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ground
import torch
from smollm2 import chats, smollm2
from tables import head, options, row

from handrail.data.chats import split
from handrail.data.text_files import write_rows

TURNS = ["handrail", "TRL, defaults", "handrail, for memory", "TRL, packing, for memory"]
LR, WARMUP = 2e-4, 2


def ours(args, chats_of, folder):
    """Return (real tokens, seconds) of the handed-over program."""
    from finetune import answer_loss, load
    from messages import encode
    from packing import message_batches
    from settings import start
    from train import fit

    updates, data = args.updates + WARMUP, folder / "train.jsonl"
    how = {"model": str(args.model), "method": args.method, "batch": args.batch, "lr": LR}
    how |= {"context": args.context, "updates": updates, "every": updates}
    settings = ground.chosen(**how, out=folder, step="finetune")
    accelerator = start(settings)
    torch.use_deterministic_algorithms(False)
    model, tokenizer = load(settings)
    if "memory" in args.turn:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    write_rows(chats_of, data)
    rows = [row for chat in chats_of for row in encode(tokenizer, chat["messages"])]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, LR, weight_decay=0.0)
    model, optimizer = accelerator.prepare(model, optimizer)
    batches, clock = message_batches(rows, settings), []

    def next_batch(step):
        if step == WARMUP:
            clock.append(time.perf_counter())
        return batches(step)

    def evaluate(step):
        clock.append(time.perf_counter())
        return 0.0

    fit(accelerator, model, optimizer, settings, data, next_batch, answer_loss, evaluate)
    lines = ground.metrics(folder / "finetune")
    return sum(line["tokens"] for line in lines[WARMUP:]), clock[1] - clock[0]


def trl(args, chats_of, folder):
    """Return (real tokens, seconds) of TRL's SFTTrainer."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    size, lora = {"per_device_train_batch_size": args.batch}, None
    if "packing" in args.turn:
        size = {"per_device_train_batch_size": 1, "packing": True, "max_length": args.context}
    how = SFTConfig(
        folder,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        max_steps=args.updates + WARMUP,
        learning_rate=LR,
        model_init_kwargs={"dtype": "float32"},
        **size,
    )
    if args.method == "lora":
        lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    talks = [chat["messages"] for chat in chats_of]
    rows = Dataset.from_list([{"prompt": talk[:-1], "completion": talk[-1:]} for talk in talks])
    trainer = SFTTrainer(str(args.model), how, train_dataset=rows, peft_config=lora)
    seen, clock, inner = [], [], trainer.training_step

    def step(model, inputs, *more, **named):
        mask = inputs.get("attention_mask")
        if mask is None or mask.ndim != 2:
            mask = inputs["input_ids"] != trainer.processing_class.pad_token_id
        seen.append(int(mask.sum()))
        return inner(model, inputs, *more, **named)

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            clock.append(time.perf_counter())

    trainer.training_step = step
    trainer.add_callback(Clock())
    trainer.train()
    return sum(seen[WARMUP:]), clock[-1] - clock[WARMUP - 1]


def take_turn(args):
    """Print tokens/s and peak memory in GB of one contestant, as JSON."""
    who = trl if args.turn.startswith("TRL") else ours
    with tempfile.TemporaryDirectory() as folder:
        tokens, seconds = who(args, split(chats())[0], Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps([tokens / seconds, peak / 1e9]))


def ask(args, turn):
    """Return what take_turn prints, from a process of its own."""
    names = ("model", "method", "updates", "batch", "context")
    same = [f"--{name}={getattr(args, name)}" for name in names]
    command = [sys.executable, __file__, "--turn", turn, *same]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{turn} failed:\n{done.stderr[-2000:]}")
    speed, memory = json.loads(done.stdout.splitlines()[-1])
    print(f"  {turn}: {speed:.0f} tokens/s, {memory:.2f} GB", flush=True)
    return speed, memory


def main():
    parser = options(__doc__, rounds=3, updates=8, batch=8, context=512)
    model = Path(tempfile.gettempdir()) / "smollm2-135m-instruct"
    parser.add_argument("--model", type=Path, default=model)
    parser.add_argument("--method", choices=["full", "lora"], default="lora")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.turn:
        return take_turn(args)
    smollm2(args.model)
    found = {turn: [] for turn in TURNS}
    for number in range(args.rounds):
        for turn in TURNS[number % 4 :] + TURNS[: number % 4]:
            found[turn].append(ask(args, turn))
    print(
        f"\n{args.method}, {torch.get_num_threads()} threads, {args.batch} rows an update, "
        f"{args.rounds} rounds of {args.updates} updates"
    )
    beside = "handrail's speed beside it (least to most)"
    head("who", "real tokens/s (median)", "peak memory, GB", beside)
    for turn in TURNS:
        own = found[TURNS[2] if "memory" in turn else TURNS[0]]
        ratios = [mine / theirs for (mine, _), (theirs, _) in zip(own, found[turn], strict=True)]
        speed, memory = (statistics.median(values) for values in zip(*found[turn], strict=True))
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        row(turn, f"{speed:,.0f}", f"{memory:.2f}", ratio)


if __name__ == "__main__":
    main()
