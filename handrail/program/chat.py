"""Talk to it.

A model that only continues text is no partner yet: give it a beginning, and it
goes on as its data would. One that was taught to answer, answers.

It writes one token at a time. From the logits comes a chance for every token;
one is drawn; it is added to the text; again. *Temperature* below 1 makes the
likely ones likelier (0: always the likeliest), above 1 it grows bolder.

The trap: judging by one lucky sample. Ask several times, and evaluate.
"""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TextStreamer

from settings import OUT, read, start


def newest():
    """Return the folder of the model that learned last."""
    lessons = [OUT / name / "model" for name in ("grpo", "dpo", "finetune")]
    found = [folder for folder in lessons if (folder / "config.json").exists()]
    return max(found, key=lambda folder: (folder / "config.json").stat().st_mtime, default=OUT / "model")


def main():
    settings, folder = read("Talk with the model that learned last."), newest()
    device = start(settings).device
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    streamer, turns = TextStreamer(tokenizer, skip_prompt=bool(tokenizer.chat_template), skip_special_tokens=True), []
    print(f"This is {folder}. " + ("Ask something." if tokenizer.chat_template else "Type the beginning of a text.") + " Ctrl-D ends.")
    while True:
        try:
            text = input("\n> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if tokenizer.chat_template:
            turns.append({"role": "user", "content": text})
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        else:
            text = tokenizer.eos_token + text
        inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False).to(device)
        how = {"do_sample": True, "top_k": 0, "temperature": 0.8, "max_new_tokens": settings.context}
        written = model.generate(**inputs, **how, use_cache=True, streamer=streamer)[0, inputs["input_ids"].size(1) :]
        turns += [{"role": "assistant", "content": tokenizer.decode(written, skip_special_tokens=True)}] if turns else []


if __name__ == "__main__":
    main()
