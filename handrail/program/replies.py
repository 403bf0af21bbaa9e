"""What the model says by itself, and whether that is right.

Greedy: at each token the likeliest one, so that the same model gives the same
reply each time. What counts as right is yours to say. `right` asks for the very
answer of the data, which suits short ones. Of a long answer, `has_facts` asks
for less: its numbers and no others, its names, and most of its longer words.

The trap: having the facts is not being right. "Dogs do not travel free" has every
word of "Dogs travel free". Count, and then read.
"""

import math
import re

import torch


@torch.no_grad()
def replies(model, tokenizer, prompts, length=64, size=64, **options):
    """Return the model's replies to prompts (lists of messages) as tokens, up to the end token."""
    # greedy, and without what a pretrained model may bring along
    options = {"do_sample": False, "temperature": 1.0, "top_p": 1.0} | options
    options |= {"repetition_penalty": 1.0, "use_cache": True}
    room = getattr(model.config, "max_position_embeddings", None) or math.inf
    model.eval()
    found, end = [], model.generation_config.eos_token_id
    for i in range(0, len(prompts), size):
        inputs = tokenizer.apply_chat_template(
            prompts[i : i + size],
            add_generation_prompt=True,
            return_tensors="pt",
            padding=True,
            tokenizer_kwargs={"padding_side": "left"},  # the reply comes right after the question
        ).to(model.device)
        asked = inputs["input_ids"].size(1)
        options["max_new_tokens"] = max(1, min(length, room - asked))
        written = model.generate(**inputs, **options)[:, asked:].tolist()
        found += [ids[: ids.index(end) + 1] if end in ids else ids for ids in written]
    return found


def reply_length(tokenizer, chats):
    """Return how many tokens a reply may have: a third more than the longest answer of the data."""
    answers = [chat["messages"][-1]["content"] for chat in chats]
    return max(64, max(map(len, tokenizer(answers)["input_ids"])) * 4 // 3)


def accepted(chat):
    """Return the texts that are right: the answer of the data, and those in chat["accept"]."""
    return [chat["messages"][-1]["content"], *chat.get("accept", [])]


def plain(text):
    """Return a text without capitals, extra spaces, and a period or exclamation mark at its end."""
    return " ".join(text.lower().split()).strip(" .!")


def right(reply, chat):
    """Return True if a reply is one of the accepted answers."""
    return plain(reply) in map(plain, accepted(chat))


def facts(text):
    """Return (numbers, names, longer words) of a text.

    A name is a word with a capital that does not begin a sentence.
    """
    numbers = set(re.findall(r"\d+(?:[.,:]\d+)*", text))
    names = {word.lower() for word in re.findall(r"(?<=[^.!?] )\w+", text) if word[0].isupper()}
    words = set(re.findall(r"[^\W\d]+", text.lower()))
    return numbers, names & words, {word for word in words if len(word) > 3}


def has_facts(reply, chat):
    """Return True if a reply has the facts of an accepted answer, and no other number.

    That is all of its numbers and names, and two thirds of its words of four letters or more.
    """
    numbers, _, words = facts(reply)
    for answer in accepted(chat):
        wanted, names, longer = facts(answer)
        spoken = all(name in reply.lower() for name in names)
        if wanted | longer and wanted == numbers and spoken:
            if len(longer & words) >= len(longer) * 2 / 3:
                return True
    return right(reply, chat)
