"""Talk to it. A model that only continues text is no partner yet: give it a
beginning, and it goes on as its data would.

It writes one token at a time. From the logits comes a chance for every token;
one is drawn; it is added to the text; again. *Temperature* below 1 makes the
likely ones likelier (0: always the likeliest), above 1 it grows bolder.

The trap: judging by one lucky sample. Ask several times, and evaluate.
"""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TextStreamer

from settings import OUT, read, start


def main():
    settings = read("Continue what you type, with the model in out/model.")
    device = start(settings).device
    tokenizer = AutoTokenizer.from_pretrained(OUT / "model")
    model = AutoModelForCausalLM.from_pretrained(OUT / "model", dtype=torch.float32).to(device)
    streamer = TextStreamer(tokenizer, skip_special_tokens=True)
    print("Type the beginning of a text. Ctrl-D ends.")
    while True:
        try:
            text = input("\n> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        inputs = tokenizer(tokenizer.bos_token + text, return_tensors="pt", add_special_tokens=False).to(device)
        model.generate(
            **inputs, max_new_tokens=settings.context, do_sample=True, top_k=0, temperature=0.8, streamer=streamer
        )


if __name__ == "__main__":
    main()
