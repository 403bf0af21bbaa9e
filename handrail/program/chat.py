"""Talk to your model.

A model that only continues text cannot hold a conversation: give it an opening,
and it carries on. One that was taught to answer answers.

It writes one token at a time. Each logit becomes a probability, one token is
picked at random accordingly and added to the text, and the process repeats.
With a *temperature* below 1, likely tokens become even likelier (at 0 it always
takes the top one); above 1, it takes more risks.

The trap: judging by one lucky sample. Ask several times, and evaluate.
"""

from contextlib import suppress

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TextStreamer

from checkpoint import run
from settings import ROOT, read, require, start


def newest(out):
    """Return the folder of the model that was trained last, as the runs' checkpoints tell."""
    runs = [out, *(out / script.stem for script in ROOT.glob("*.py"))]  # dpo.py leaves out/dpo
    runs = [run for run in runs if (run / "model" / "config.json").exists()]
    saved = {run: [path.stat().st_mtime for path in run.glob("checkpoints")] for run in runs}
    return max(runs, key=saved.get, default=out) / "model"


def main():
    settings = read("Talk to the model that was trained last.")
    device = start(settings).device
    folder = require(newest(settings.out), "python pretrain.py")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    answers, turns = folder != settings.out / "model", []
    print(f"This is {folder}. {'Ask something' if answers else 'Type the start of a text'}.")
    print("Ctrl-C ends a reply, Ctrl-D quits.")
    half = getattr(model.config, "max_position_embeddings", 512) // 2  # of what it can read
    options = {"do_sample": True, "temperature": 0.8, "top_k": 0, "use_cache": True}
    options["max_new_tokens"] = min(half, 256)
    while True:
        try:
            text = input("\n> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        asked = [*turns, {"role": "user", "content": text}]
        text = tokenizer.eos_token + text  # a document begins after END
        if answers:
            text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        ids = ids[:, -half:].to(device)  # of a long talk, the end
        streamer = TextStreamer(tokenizer, skip_prompt=answers, skip_special_tokens=True)
        with suppress(KeyboardInterrupt):
            written = model.generate(ids, **options, streamer=streamer)[0, ids.size(1) :]
            reply = tokenizer.decode(written, skip_special_tokens=True)
            turns = [*asked, {"role": "assistant", "content": reply}]


if __name__ == "__main__":
    run(main, kept="")
