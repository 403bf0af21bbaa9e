"""From conversations to tokens: what the model only reads, and what it learns to say.

A base model goes on with a text. To *answer*, it has to know a form: who is
speaking, and where a turn ends. That form is the *chat template*, and it comes
with a model that can already chat; a base model is given a plain one. Trained
are only the tokens that the model would have to write itself: each answer and
the mark that ends it. The question is context: read, not learned.

The trap: the end mark. If it is not trained, the model never learns to stop,
and the loss looks just as good.
"""

import json
import logging
import warnings
from functools import lru_cache

MARKS = ["<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# what the libraries remark about new marks and about each other, and nobody has to act on
logging.getLogger("transformers.modeling_utils").addFilter(lambda said: "mean_resizing" not in said.getMessage())
warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)


def load_rows(file):
    """Return the rows of a file of JSON lines, as `handrail` writes them: {"messages": [...], ...}."""
    with open(file, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def add_template(tokenizer, model):
    """Give a base model the plain ChatML form: two marks, each a token of its own, and a row of weights for each."""
    if tokenizer.chat_template is None:
        tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
        tokenizer.chat_template = CHATML
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token  # only fills up prompts of unequal length
    model.generation_config.eos_token_id = end_of_turn(tokenizer)[1]
    model.generation_config.pad_token_id = tokenizer.pad_token_id


@lru_cache(1)
def end_of_turn(tokenizer):
    """Return (reply, end): how an answer "@@" stands in the template after the prompt, and the token that ends it."""
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "@@"}]
    prompt = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    both = tokenizer.apply_chat_template(turns, tokenize=False)
    if not both.startswith(prompt):
        raise ValueError("this chat template asks for an answer in another form than it shows one in")
    reply = both.removeprefix(prompt)
    after = tokenizer(reply.partition("@@")[2].strip(), add_special_tokens=False)["input_ids"]
    if not after:
        raise ValueError("this chat template puts nothing after an answer, so the model could never learn to stop")
    return reply, after[0]


def encode(tokenizer, messages):
    """Return rows (ids, trained), two lists each: the tokens of a conversation, and which of them the model says itself.

    A row is what the model will have before it when it answers. Most templates show earlier turns as they were, and
    one row holds the whole conversation; where one shows them differently later, each answer gets its own row.
    """
    reply, end = end_of_turn(tokenizer)
    texts, text, spans = [], "", []
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = tokenizer.apply_chat_template(messages[:i], tokenize=False, add_generation_prompt=True)
        if spans and not before.startswith(text):
            texts, spans = texts + [(text, spans)], []
        text = before + reply.replace("@@", message["content"])
        spans = spans + [(len(before), len(before) + text[len(before) :].rindex(tokenizer.decode([end])))]
    return [mark(tokenizer, text, spans, end) for text, spans in texts + [(text, spans)] if spans]


def mark(tokenizer, text, spans, end):
    """Return (ids, trained) of a text: a token is trained if it begins inside a span, or is the end mark right behind it."""
    stop = spans[-1][1] + len(tokenizer.decode([end]))
    coded = tokenizer(text[:stop], add_special_tokens=False, return_offsets_mapping=True)
    trained = [any(a <= start <= b for a, b in spans) for start, _ in coded["offset_mapping"]]
    return coded["input_ids"], trained
