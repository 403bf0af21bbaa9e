"""Learning from a verdict: it answers, you say how good that was.

Where an answer can be checked, no example is needed. GRPO (Shao et al. 2024,
4.1) lets the model answer each question GROUP times. An answer that earned
more than its group's mean becomes likelier, one that earned less becomes less
likely. `reward` is yours: change it, and the model learns to want something else.

Left out, because each batch is used for one update only: the clipping of the
ratio, which is 1 then, and the pull back to a reference model. And every token
weighs the same, where the paper first takes each answer's mean.

The trap: no spread, no lesson. If a group is all right or all wrong there is
nothing to compare, whatever the loss says (near 0 is normal here). Watch the
reward, the share of groups with a spread, and the length.
"""

import math

import torch
from accelerate.utils import set_seed

from answers import replies, right
from checkpoint import run
from finetune import learn, load, token_losses
from messages import load_rows
from packing import bins, pack, turn
from settings import OUT, read, refuse, start

GROUP = 8  # answers to each question
LENGTH = 64  # tokens that an answer may have


def reward(reply, chat):
    """Return how good a reply is: any number, the higher the better."""
    return float(right(reply, chat))


def judge(texts, chats):
    """Return the reward of each text (Q, GROUP), GROUP texts to a chat; ends with code 2 if `reward` gives no number."""
    found = []
    for i, text in enumerate(texts):
        try:
            found.append(float(reward(text, chats[i // GROUP])))
            wrong = None if math.isfinite(found[-1]) else f"gave {found[-1]}"
        except Exception as error:
            wrong = f"raised {error!r}"
        if wrong:
            refuse(f"reward in grpo.py {wrong} for the reply {text!r}. It has to give a number for every reply, an empty one too.")
    return torch.tensor(found).view(-1, GROUP)


def grpo_loss(model, batch):
    """Return the sum over all written tokens of -advantage · P / P when written; the ratio is 1, its gradient is not 0."""
    each = -token_losses(model, batch)  # (K,): ln P
    return -(batch["advantage"] * (each - each.detach()).exp()).sum()


def advantages(rewards):
    """Return by how much each reward (Q, GROUP) stands above the mean of its group, in units of the group's spread."""
    return (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)


def written(tokenizer, prompt, reply):
    """Return a prompt and the reply to it as one row (ids, trained)."""
    text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids + reply, [False] * len(ids) + [True] * len(reply)


def to_batches(pairs, most):
    """Return (row, advantage) pairs as packed batches of about `most` tokens; a row's tokens carry its advantage."""
    batches = []
    for part in bins([(row[0], row, advantage) for row, advantage in pairs], most):
        batch = pack([row for _, row, _ in part])
        batches.append(batch | {"advantage": torch.tensor([a for *_, a in part])[batch["owner"]]})
    return batches


def main():
    settings = read("Learn from verdicts on its own answers, to the questions in out/chats.", step="grpo")
    accelerator = start(settings)
    model, tokenizer = load(settings)
    chats, exam = (load_rows(OUT / "chats" / f"{side}.jsonl") for side in ("train", "val"))

    def batches(step):
        set_seed(settings.seed + step * accelerator.num_processes + accelerator.process_index)
        numbers = range(step * settings.batch + accelerator.process_index, (step + 1) * settings.batch, accelerator.num_processes)
        mine = [turn(number, chats, settings.seed) for number in numbers]
        prompts = [chat["messages"][:-1] for chat in mine for _ in range(GROUP)]
        said = replies(model, tokenizer, prompts, LENGTH, len(prompts), do_sample=True, top_k=0)
        texts = tokenizer.batch_decode(said, skip_special_tokens=True)
        rewards = judge(texts, mine)
        if (step + 1) % 10 == 0:
            spread, length = (rewards.std(1) > 0).float().mean(), sum(map(len, said)) / len(said)
            accelerator.print(f"  update {step + 1:,}: reward {rewards.mean():.2f}, groups with a spread {spread:.0%}, tokens {length:.1f}")
        pairs = list(zip((written(tokenizer, *both) for both in zip(prompts, said)), advantages(rewards).flatten().tolist()))
        telling = [pair for pair in pairs if pair[1]] or pairs  # an advantage of 0 moves nothing: half the work saved
        return to_batches(telling, settings.context)

    def evaluate(step):
        said = tokenizer.batch_decode(replies(model, tokenizer, [chat["messages"][:-1] for chat in exam[:200]]), skip_special_tokens=True)
        wrong = 1 - sum(map(right, said, exam)) / len(said)
        accelerator.print(f"\n  after update {step:,}: {1 - wrong:.1%} of {len(said)} questions never seen are answered right\n")
        return wrong

    learn(accelerator, settings, model, tokenizer, OUT / "grpo", batches, grpo_loss, evaluate)


if __name__ == "__main__":
    run(main)
