"""Learning from a verdict: the model answers, and you say how good that was.

Where a program can check an answer, no example is needed. GRPO (Shao et al. 2024,
4.1) lets the model answer each question GROUP times. An answer that earned more
than the average of its group becomes more likely, one that earned less becomes
less likely. `reward` is yours: change it, and the model learns to want something
else.

Left out, because each batch is used for one update only: the clipping of the
ratio, which is 1 then, and the pull back to a reference model. And every token
has the same weight, where the paper first averages over each answer.

The trap: no spread, no lesson. If the answers of a group are all right or all
wrong, there is nothing to compare, whatever the loss says (near 0 is normal
here). Watch the reward, the share of groups with a spread, and the length.
"""

import math
from numbers import Real

import torch
from accelerate.utils import set_seed

from checkpoint import run
from finetune import learn, load, token_losses
from messages import load_rows
from packing import packed, turns
from replies import replies, reply_length, right
from settings import OUT, read, refuse, start

GROUP = 8  # answers to each question


def reward(reply, chat):
    """Return how good a reply is: any number, the higher the better."""
    return float(right(reply, chat))


def judge(texts, chats):
    """Return the reward (Q, GROUP) of each text, GROUP texts per chat."""
    rewards = []
    for i, text in enumerate(texts):
        rewards.append(reward(text, chats[i // GROUP]))
        if not isinstance(rewards[-1], Real) or not math.isfinite(rewards[-1]):
            refuse(f"reward in grpo.py gave {rewards[-1]!r} for {text!r}. It must give a number.")
    return torch.tensor(rewards, dtype=torch.float32).view(-1, GROUP)


def advantages(rewards):
    """Return how far each reward (Q, GROUP) is above its group's mean, in units of the spread."""
    return (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)


def grpo_loss(model, batch):
    """Return the sum over written tokens of -advantage · P / P: 1, but it has a gradient."""
    log_p = -token_losses(model, batch)  # (K,)
    advantage = batch["values"][batch["owner"]]  # (K,): each token has that of its row
    return -(advantage * (log_p - log_p.detach()).exp()).sum()


def written(tokenizer, prompt, reply, advantage):
    """Return a prompt and the reply to it as one row (ids, loss_mask, advantage)."""
    text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids + reply, [False] * len(ids) + [True] * len(reply), advantage


def main():
    settings = read("Learn from verdicts on the model's own answers to out/chats.", step="grpo")
    accelerator = start(settings)
    model, tokenizer = load(settings, accelerator.mixed_precision)
    rank, processes = accelerator.process_index, accelerator.num_processes
    chats, exam = (load_rows(OUT / "chats" / f"{side}.jsonl") for side in ("train", "val"))

    length = reply_length(tokenizer, chats)  # room for every answer of the data

    def batches(step):
        set_seed(settings.seed + step * processes + rank)
        mine = turns(step, chats, settings, rank, processes)
        prompts = [chat["messages"][:-1] for chat in mine for _ in range(GROUP)]
        ids = replies(model, tokenizer, prompts, length, len(prompts), do_sample=True, top_k=0)
        rewards = judge(tokenizer.batch_decode(ids, skip_special_tokens=True), mine)
        if (step + 1) % 10 == 0:
            spread, size = (rewards.std(1) > 0).float().mean(), sum(map(len, ids)) / len(ids)
            accelerator.print(
                f"  update {step + 1:,}: reward {rewards.mean():.2f}, "
                f"groups with a spread {spread:.0%}, tokens per answer {size:.1f}"
            )
        values = advantages(rewards).flatten().tolist()
        rows = [written(tokenizer, *answer) for answer in zip(prompts, ids, values, strict=True)]
        # an advantage of 0 moves nothing: leave those rows out, unless there is nothing else
        rows = [row for row in rows if row[2]] or rows
        return packed(rows, settings)

    def evaluate(step):
        prompts = [chat["messages"][:-1] for chat in exam[:200]]
        ids = replies(model, tokenizer, prompts, length)
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        wrong = 1 - sum(map(right, texts, exam)) / len(texts)
        accelerator.print(f"\n  after update {step:,}: {1 - wrong:.1%} of new questions right\n")
        return wrong

    data = OUT / "chats" / "train.jsonl"
    learn(accelerator, settings, model, tokenizer, data, batches, grpo_loss, evaluate)


if __name__ == "__main__":
    run(main)
