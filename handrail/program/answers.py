"""Does it answer? The same questions, never trained on, before and after.

A loss says how surprised the model was by the right answer. What you want to
know is what it says by itself: so it answers, and its answers are compared with
the right ones. A *question-blind* guesser, which knows the answers but reads no
question, shows what that alone is worth.

The trap: a good loss from a model that does not read the question. If another
question in its place costs nothing, then nothing was understood.
"""

import argparse
import json
import os
from collections import Counter

import torch
from transformers.utils import logging

from chat import newest
from checkpoint import run
from finetune import answer_loss, load
from messages import encode, load_rows
from packing import bins, pack, part_size
from settings import OUT, ROOT, read, start
from train import mean_loss


@torch.no_grad()
def replies(model, tokenizer, prompts, length=64, size=64, **options):
    """Return the model's replies to prompts (lists of messages) as tokens, up to the end token."""
    # greedy, and without what a pretrained model may bring along
    options = {"do_sample": False, "temperature": 1.0, "top_p": 1.0} | options
    options |= {"repetition_penalty": 1.0, "use_cache": True, "max_new_tokens": length}
    model.eval()
    found, end = [], model.generation_config.eos_token_id
    for i in range(0, len(prompts), size):
        inputs = tokenizer.apply_chat_template(
            prompts[i : i + size],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
            padding=True,
            tokenizer_kwargs={"padding_side": "left"},  # the reply comes right after the question
        ).to(model.device)
        written = model.generate(**inputs, **options)[:, inputs["input_ids"].size(1) :].tolist()
        found += [ids[: ids.index(end) + 1] if end in ids else ids for ids in written]
    model.train()
    return found


def plain(text):
    """Return a text without capitals, extra spaces, and a period or exclamation mark at its end."""
    return " ".join(text.lower().split()).strip(" .!")


def right(reply, chat):
    """Return True if a reply is the answer of the data, or one of those that chat["accept"] has."""
    accepted = [chat["messages"][-1]["content"], *chat.get("accept", [])]
    return plain(reply) in map(plain, accepted)


def examine(accelerator, settings, folder, chats, most=200):
    """Return what the model in `folder` replies, how often it is right, and its losses."""
    values = vars(settings) | {"model": folder, "method": "full"}
    model, tokenizer = load(argparse.Namespace(**values))
    model = accelerator.prepare(model)
    asked = [chat["messages"] for chat in chats]
    others = [b[:-1] + a[-1:] for a, b in zip(asked, asked[1:] + asked[:1], strict=True)]
    result = {}
    for name, talks in (("loss", asked), ("blind_loss", others)):  # blind: another question
        rows = [row for messages in talks for row in encode(tokenizer, messages)]
        batches = map(pack, bins(rows, part_size(settings)))
        result[name] = mean_loss(accelerator, model, batches, answer_loss)
    model = accelerator.unwrap_model(model)
    written = replies(model, tokenizer, [messages[:-1] for messages in asked[:most]])
    texts = [text.strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
    end = model.generation_config.eos_token_id
    result["ended"] = sum(tokens[-1] == end for tokens in written) / len(written)
    result["exact"] = sum(map(right, texts, chats)) / len(texts)
    return result | {"replies": texts}


def main():
    settings = read("Answer the questions in out/chats/val.jsonl.", step="finetune")
    accelerator = start(settings)
    logging.set_verbosity_error()
    chats, folder = load_rows(OUT / "chats" / "val.jsonl"), newest(settings.out)
    result = {"folder": os.path.relpath(folder, ROOT)}
    for name, model in (("before", settings.model), ("after", folder)):
        result[name] = examine(accelerator, settings, model, chats)
    answers = [chat["messages"][-1]["content"] for chat in chats]
    frequent = Counter(answers).most_common(1)[0][0]
    result["blind"] = sum(right(frequent, chat) for chat in chats) / len(chats)

    print("answers never seen      loss   question-blind   exactly right")
    for name in ("before", "after"):
        r = result[name]
        print(f"{name:18}{r['loss']:10.3f}{r['blind_loss']:17.3f}{r['exact']:16.1%}")
    print(f"{'the most frequent answer, always':45}{result['blind']:16.1%}")
    for i, chat in enumerate(chats[:5]):
        print(f"\n{chat['messages'][-2]['content']}\n  right:  {answers[i]}")
        for name in ("before", "after"):
            print(f"  {name + ':':8}{result[name]['replies'][i]}")
    (settings.out / "answers.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    run(main, kept="")
