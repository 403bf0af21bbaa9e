"""Does it answer? The same questions, never trained on, before and after.

A loss says how surprised the model was by the right answer. What you want to
know is what it says by itself: so it answers, and its answers are compared with
the right ones. Beside it stands a *question-blind* guesser: what could be known
from the answers alone, without reading any question.

The trap: a good loss from a model that does not read the question. If another
question in its place costs nothing, then nothing was understood.
"""

import argparse
import json
from collections import Counter

import torch
from transformers.utils import logging

from chat import newest
from checkpoint import run
from finetune import answer_loss, load
from messages import encode, load_rows
from packing import bins, pack
from settings import OUT, read, start
from train import mean_loss


@torch.no_grad()
def replies(model, tokenizer, prompts, length=64, size=64, **how):
    """Return a reply to each prompt (a list of messages) as tokens, its end mark included; `how` goes to generate."""
    model.eval()
    found, end = [], model.generation_config.eos_token_id
    for i in range(0, len(prompts), size):
        texts = [tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in prompts[i : i + size]]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
        plain = {"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0}  # not what a pretrained model brings along
        how = {"do_sample": False, "use_cache": True, "max_new_tokens": length} | plain | how
        written = model.generate(**inputs.to(model.device), **how)[:, inputs["input_ids"].size(1) :].tolist()
        found += [tokens[: tokens.index(end) + 1] if end in tokens else tokens for tokens in written]
    model.train()
    return found


def right(reply, chat):
    """Return True if a reply is the answer that stands in the data, or one of those that chat["accept"] lists."""
    plain = lambda text: " ".join(text.lower().split()).strip(" .!")
    return plain(reply) in {plain(text) for text in [chat["messages"][-1]["content"], *chat.get("accept", [])]}


def blind_to_questions(chats):
    """Return the chats with every last answer behind the questions of another chat."""
    return [other["messages"][:-1] + chat["messages"][-1:] for chat, other in zip(chats, chats[1:] + chats[:1])]


def examine(accelerator, settings, folder, chats, most=200):
    """Return what the model in `folder` answers, how often it is right, and its losses with and without the questions."""
    model, tokenizer = load(argparse.Namespace(**vars(settings) | {"model": folder, "method": "full"}))
    model = accelerator.prepare(model)
    lists = {"loss": [chat["messages"] for chat in chats], "blind_loss": blind_to_questions(chats)}
    rows = {name: [row for messages in talks for row in encode(tokenizer, messages)] for name, talks in lists.items()}
    found = {name: mean_loss(accelerator, model, map(pack, bins(r, settings.context)), answer_loss) for name, r in rows.items()}
    model = accelerator.unwrap_model(model)
    said = replies(model, tokenizer, [chat["messages"][:-1] for chat in chats[:most]])
    texts = [tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in said]
    ended = sum(tokens[-1] == model.generation_config.eos_token_id for tokens in said) / len(said)
    return found | {"exact": sum(map(right, texts, chats)) / len(texts), "ended": ended, "replies": texts}


def main():
    settings = read("Answer the questions in out/chats/val.jsonl, before and after.", step="finetune")
    accelerator = start(settings)
    logging.set_verbosity_error()
    chats = load_rows(OUT / "chats" / "val.jsonl")
    result = {name: examine(accelerator, settings, folder, chats) for name, folder in (("before", settings.model), ("after", newest()))}
    frequent = Counter(chat["messages"][-1]["content"] for chat in chats).most_common(1)[0][0]
    result["folder"] = str(newest().relative_to(OUT.parent))  # the model that was asked
    result["blind"] = sum(right(frequent, chat) for chat in chats) / len(chats)  # without reading any question
    print("answers never seen      loss   question-blind   exactly right")
    for name in ("before", "after"):
        r = result[name]
        print(f"{name:18} {r['loss']:9.3f} {r['blind_loss']:16.3f} {r['exact']:15.1%}")
    print(f"always the most frequent answer {result['blind']:37.1%}")
    for chat, before, after in list(zip(chats, result["before"]["replies"], result["after"]["replies"]))[:5]:
        print(f"\n{chat['messages'][-2]['content']}\n  right:  {chat['messages'][-1]['content']}\n  before: {before}\n  after:  {after}")
    (OUT / "answers.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    run(main, kept="")
