"""How fast is fine-tuning, beside TRL's SFTTrainer?

    python bench/finetune.py                  SmolLM2-135M-Instruct, LoRA, CPU; about 15 minutes
    python bench/finetune.py --method full --model FOLDER

Real tokens (no padding) a second, on the same rows of questions and answers (the English part of chatterbot-corpus), the
same number of rows an update, the same LoRA and AdamW. Each turn is a process of its own: it loads, makes two updates that
do not count, then is timed; peak memory is that of the process. Who goes first changes from round to round.

- handrail:                  finetune.py as it is handed over (packed rows, answer logits only)
- TRL, defaults:             SFTTrainer with SFTConfig's defaults (padded rows, activation checkpointing)
- handrail, for memory:      the same with model.gradient_checkpointing_enable()
- TRL, packing, for memory:  packing=True, activation checkpointing on (what TRL's guide to less memory recommends)
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
from types import SimpleNamespace

import ground  # noqa: F401  puts the program on the path
import torch
from smollm2 import chats, smollm2

from handrail.chats import split

TURNS = ["handrail", "TRL, defaults", "handrail, for memory", "TRL, packing, for memory"]


def ours(args, rows_of, folder):
    """Return turn(updates) -> real tokens, of the handed-over program."""
    import finetune
    from messages import encode
    from packing import message_batches
    from settings import start

    settings = SimpleNamespace(
        model=str(args.model),
        method=args.method,
        batch=args.batch,
        context=args.context,
        seed=0,
        cpu=True,
    )
    accelerator = start(settings)
    torch.use_deterministic_algorithms(False)
    model, tokenizer = finetune.load(settings)
    if "memory" in args.turn:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    rows = [row for chat in rows_of for row in encode(tokenizer, chat["messages"])]
    batches, weights = (
        message_batches(rows, settings),
        [p for p in model.parameters() if p.requires_grad],
    )
    model, optimizer = accelerator.prepare(
        model, torch.optim.AdamW(weights, 2e-4, weight_decay=0.0)
    )
    done = 0

    def turn(updates):
        nonlocal done
        finetune.train(
            accelerator,
            model,
            batches,
            finetune.answer_loss,
            optimizer,
            lambda step: 2e-4,
            done + updates,
            first=done,
        )
        done += updates
        return sum(
            batch["inputs"].numel()
            for step in range(done - updates, done)
            for batch in batches(step)
        )

    return turn


def trl(args, rows_of, folder):
    """Return turn(updates) -> real tokens, of TRL's SFTTrainer."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    packing = (
        {"packing": True, "max_length": args.context}
        if "packing" in args.turn
        else {"per_device_train_batch_size": args.batch}
    )
    packing |= {"per_device_train_batch_size": 1} if "packing" in args.turn else {}
    how = SFTConfig(
        folder,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        max_steps=args.updates + 2,
        learning_rate=2e-4,
        model_init_kwargs={"dtype": "float32"},
        **packing,
    )
    lora = (
        LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        if args.method == "lora"
        else None
    )
    rows = Dataset.from_list(
        [{"prompt": chat["messages"][:-1], "completion": chat["messages"][-1:]} for chat in rows_of]
    )
    trainer = SFTTrainer(str(args.model), how, train_dataset=rows, peft_config=lora)
    seen, clock = [], []
    inner = trainer.training_step

    def step(model, inputs, *more, **kwargs):
        mask = inputs.get("attention_mask")
        seen.append(
            int(mask.sum())
            if mask is not None and mask.ndim == 2
            else int((inputs["input_ids"] != trainer.processing_class.pad_token_id).sum())
        )
        return inner(model, inputs, *more, **kwargs)

    class Clock(TrainerCallback):
        def on_step_end(self, arguments, state, control, **_):
            clock.append(time.perf_counter())

    trainer.training_step = step
    trainer.add_callback(Clock())
    trainer.train()
    return sum(seen[2:]), clock[-1] - clock[1]


def take_turn(args):
    """Print tokens/s and peak memory in GB of one contestant, as JSON."""
    rows_of = split(chats())[0]
    with tempfile.TemporaryDirectory() as folder:
        if args.turn.startswith("TRL"):
            tokens, seconds = trl(args, rows_of, folder)
        else:
            turn = ours(args, rows_of, folder)
            turn(2)
            clock = time.perf_counter()
            tokens = turn(args.updates)
            seconds = time.perf_counter() - clock
    print(
        json.dumps(
            [tokens / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9]
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--model", type=Path, default=Path(tempfile.gettempdir()) / "smollm2-135m-instruct"
    )
    parser.add_argument("--method", choices=["full", "lora"], default="lora")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    for name, value in dict(rounds=3, updates=8, batch=8, context=512).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    if args.turn:
        return take_turn(args)
    smollm2(args.model)
    found = {turn: [] for turn in TURNS}
    for number in range(args.rounds):
        for turn in TURNS[number % 4 :] + TURNS[: number % 4]:
            same = [
                f"--{name}={getattr(args, name)}"
                for name in ("model", "method", "updates", "batch", "context")
            ]
            done = subprocess.run(
                [sys.executable, __file__, "--turn", turn, *same], capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(f"{turn} failed:\n{done.stderr[-2000:]}")
            found[turn].append(json.loads(done.stdout.splitlines()[-1]))
            print(
                f"  {turn}: {found[turn][-1][0]:.0f} tokens/s, {found[turn][-1][1]:.2f} GB",
                flush=True,
            )
    print(
        f"\n{args.method}, {torch.get_num_threads()} threads, {args.batch} rows an update, {args.rounds} rounds of {args.updates} updates\n\n"
        "| who | real tokens/s (median) | peak memory, GB | handrail's speed beside it (least to most) |\n|---|---|---|---|"
    )
    for turn in TURNS:
        own = found[TURNS[2] if "memory" in turn else TURNS[0]]
        ratios = [mine / theirs for (mine, _), (theirs, _) in zip(own, found[turn])]
        speed, memory = (statistics.median(values) for values in zip(*found[turn]))
        print(
            f"| {turn} | {speed:,.0f} | {memory:.2f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )


if __name__ == "__main__":
    main()
