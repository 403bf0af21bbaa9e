"""Does it answer? Three kinds of questions, before and after training.

A loss says how surprised the model was by the right answer. What you want to
know is what it says by itself. So it is asked:

- rows that it was trained on: does it answer as your file does?
- the same in other words: did it learn more than one sentence by heart?
- rows that it never saw: what it cannot know it makes up, but the form and the
  tone should be those of your answers.

The trap: a good loss from a model that does not read the question. If another
question in its place costs nothing, then nothing was understood.
"""

import argparse
import json
import os
from collections import Counter

from transformers.utils import logging

from chat import newest
from checkpoint import run
from finetune import answer_loss, load
from messages import encode, load_rows
from packing import packed
from replies import has_facts, replies, reply_length, right
from settings import OUT, ROOT, read, start
from train import mean_loss

MOST = 100  # questions of each kind
JUDGES, TIMES = {"exact": right, "facts": has_facts}, ("before", "after")


def losses(accelerator, settings, model, tokenizer, chats):
    """Return the loss on the answers, and the loss with another question before each of them."""
    asked = [chat["messages"] for chat in chats]
    others = [b[:-1] + a[-1:] for a, b in zip(asked, asked[1:] + asked[:1], strict=True)]
    result = {}
    for name, talks in (("loss", asked), ("blind_loss", others)):
        rows = [row for messages in talks for row in encode(tokenizer, messages)]
        result[name] = mean_loss(accelerator, model, packed(rows, settings), answer_loss)
    return result


def examine(accelerator, settings, folder, chats, kinds):
    """Return the losses of the model in `folder` on chats, and its replies to each kind, scored."""
    values = vars(settings) | {"model": folder, "method": "full"}
    model, tokenizer = load(argparse.Namespace(**values))
    model = accelerator.prepare(model)
    result = losses(accelerator, settings, model, tokenizer, chats)
    model = accelerator.unwrap_model(model)
    length = reply_length(tokenizer, [chat for some in kinds.values() for chat in some])
    end, ended = model.generation_config.eos_token_id, []
    for kind, some in kinds.items():
        written = replies(model, tokenizer, [chat["messages"][:-1] for chat in some], length)
        texts = [text.strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
        ended += [tokens[-1] == end for tokens in written]
        scores = {name: list(map(judge, texts, some)) for name, judge in JUDGES.items()}
        shares = {name: sum(found) / len(some) for name, found in scores.items()}
        result[kind] = {"replies": texts} | shares
    return result | {"ended": sum(ended) / len(ended)}


def questions():
    """Return (chats held out, {kind of question: chats, at most MOST})."""
    trained, held = (load_rows(OUT / "chats" / f"{side}.jsonl") for side in ("train", "val"))
    kinds = {"trained on": trained[:: 1 + len(trained) // MOST]}
    kinds["in other words"] = [chat for chat in held if "same_as" in chat][:MOST]
    kinds["never shown"] = [chat for chat in held if "same_as" not in chat][:MOST]
    return held, {kind: chats for kind, chats in kinds.items() if chats}


def show(result, kinds):
    """Print the scores, and two questions of each kind with all answers."""
    print(f"{'':24}exactly right     has the facts\n{'':24}before   after   before   after")
    for kind, chats in kinds.items():
        scores = [result[time][kind][judge] for judge in JUDGES for time in TIMES]
        print(f"{len(chats):4} {kind:16}" + "".join(f"{score:9.1%}" for score in scores))
    for kind, chats in kinds.items():
        for i, chat in enumerate(chats[:2]):
            print(f"\n{chat['messages'][-2]['content']}  ({kind})")
            print(f"  right:  {chat['messages'][-1]['content']}")
            for time in TIMES:
                print(f"  {time + ':':8}{result[time][kind]['replies'][i]}")


def main():
    settings = read("Ask what it was trained on, and what it never saw.", step="finetune")
    accelerator = start(settings)
    logging.set_verbosity_error()
    folder, (held, kinds) = newest(settings.out), questions()
    result = {"folder": os.path.relpath(folder, ROOT)}
    for time, model in zip(TIMES, (settings.model, folder), strict=True):
        result[time] = examine(accelerator, settings, model, held, kinds)
    frequent = Counter(chat["messages"][-1]["content"] for chat in held).most_common(1)[0][0]
    result["blind"] = sum(right(frequent, chat) for chat in held) / len(held)
    show(result, kinds)
    (settings.out / "answers.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    run(main, kept="")
