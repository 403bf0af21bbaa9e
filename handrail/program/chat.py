"""Talk to it.

A model that only continues text is no partner yet: give it a beginning, and it
goes on as its data would. One that was taught to answer, answers.

It writes one token at a time. From the logits comes a chance for every token;
one is drawn; it is added to the text; again. *Temperature* below 1 makes the
likely ones likelier (0: always the likeliest), above 1 it grows bolder.

The trap: judging by one lucky sample. Ask several times, and evaluate.
"""

from contextlib import suppress

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TextStreamer

from checkpoint import run
from settings import OUT, made, read, start


def newest():
    """Return the folder of the model that learned last."""
    lessons = [OUT / name / "model" for name in ("grpo", "dpo", "finetune")]
    found = [folder for folder in lessons if (folder / "config.json").exists()]
    return max(found, key=lambda folder: (folder / "config.json").stat().st_mtime, default=OUT / "model")


def main():
    settings, folder = read("Talk with the model that learned last."), newest()
    device = start(settings).device
    tokenizer = AutoTokenizer.from_pretrained(made(folder, "python pretrain.py"))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    chats, turns = bool(tokenizer.chat_template), []
    print(f"This is {folder}. {'Ask something' if chats else 'Type the beginning of a text'}. Ctrl-C ends a reply, Ctrl-D the talk.")
    while True:
        try:
            text = input("\n> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        asked = [*turns, {"role": "user", "content": text}]
        text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) if chats else tokenizer.eos_token + text
        inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False).to(device)
        streamer = TextStreamer(tokenizer, skip_prompt=chats, skip_special_tokens=True)
        how = {"do_sample": True, "top_k": 0, "temperature": 0.8, "max_new_tokens": settings.context}
        with suppress(KeyboardInterrupt):
            written = model.generate(**inputs, **how, use_cache=True, streamer=streamer)[0, inputs["input_ids"].size(1) :]
            turns = [*asked, {"role": "assistant", "content": tokenizer.decode(written, skip_special_tokens=True)}]


if __name__ == "__main__":
    run(main, kept="")
