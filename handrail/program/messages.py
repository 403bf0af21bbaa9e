"""From conversations to tokens: what the model only reads, and what it learns to say.

A base model continues a text. To *answer*, it has to know a form: who is
speaking, and where a turn ends. That form is the *chat template*. A model that
can already chat brings one along; a base model gets a plain one here. The loss
counts only on the tokens that the model would have to write itself: each answer,
and the token that ends it. The question is read, not learned.

    <|im_start|>user       What is 2 + 2?<|im_end|>     read
    <|im_start|>assistant                               read
    Four.<|im_end|>                                     learned

The trap: the end token. If it is not learned, the model never learns to stop,
and the loss looks just as good.
"""

import json
import logging
import warnings
from functools import lru_cache

MARKS = ["<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# remarks of the libraries about new tokens and about each other that nobody has to act on
remark = logging.getLogger("transformers.modeling_utils")
remark.addFilter(lambda record: "mean_resizing" not in record.getMessage())
warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)


def load_rows(file):
    """Return the rows of a file of JSON lines: {"messages": [{"role", "content"}, ...], ...}.

    A message with "train": false is read, not learned.
    """
    with open(file, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def add_template(tokenizer, model):
    """Give a base model the ChatML template: two new tokens, and a row of weights for each."""
    if tokenizer.chat_template is None:
        tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
        tokenizer.chat_template = CHATML
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token  # fills up short prompts
    model.generation_config.eos_token_id = end_of_turn(tokenizer)[1]
    model.generation_config.pad_token_id = tokenizer.pad_token_id


@lru_cache(1)
def end_of_turn(tokenizer):
    """Return (text, token): how the template shows an answer "@@", and the token that ends it."""
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "@@"}]
    prompt = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    both = tokenizer.apply_chat_template(turns, tokenize=False)
    if not both.startswith(prompt):
        raise ValueError("this chat template asks for an answer in another form than it shows one")
    reply = both.removeprefix(prompt)
    after = tokenizer(reply.partition("@@")[2].strip(), add_special_tokens=False)["input_ids"]
    if not after:
        raise ValueError("this chat template has nothing after an answer to learn stopping from")
    return reply, after[0]


def encode(tokenizer, messages):
    """Return rows (ids, loss_mask) of a conversation: its tokens, and which ones are learned.

    A row is what the model will see when it answers. Most templates keep earlier turns as they
    were, and one row holds the whole conversation. Where a template shows them differently later
    (some drop earlier thoughts), each answer gets a row of its own.
    """
    reply, end = end_of_turn(tokenizer)
    texts, text, spans = [], "", []
    for i, message in enumerate(messages):
        if message["role"] != "assistant" or not message.get("train", True):  # only read
            continue
        prompt = tokenizer.apply_chat_template(
            messages[:i], tokenize=False, add_generation_prompt=True
        )
        if spans and not prompt.startswith(text):
            texts.append((text, spans))
            spans = []
        thinks = message["content"].startswith("<think>")
        shown = reply.replace("<think>\n\n</think>\n\n", "") if thinks else reply
        text = prompt + shown.replace("@@", message["content"])
        spans = [*spans, (len(prompt), text.rindex(tokenizer.decode([end])))]
    texts.append((text, spans))
    return [mask(tokenizer, text, spans, end) for text, spans in texts if spans]


def mask(tokenizer, text, spans, end):
    """Return (ids, loss_mask) of a text: learned is what begins in a span, and the end after it."""
    stop = spans[-1][1] + len(tokenizer.decode([end]))
    encoded = tokenizer(text[:stop], add_special_tokens=False, return_offsets_mapping=True)
    starts = [start for start, _ in encoded["offset_mapping"]]
    loss_mask = [any(first <= start <= last for first, last in spans) for start in starts]
    return encoded["input_ids"], loss_mask
