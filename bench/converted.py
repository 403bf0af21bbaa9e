"""Does llama.cpp itself write what the model writes?

    pip install llama-cpp-python          # compiles llama.cpp: minutes; nothing else needs it
    python bench/converted.py FOLDER ...  # of models, such as first-model/out/model

Each model is written as GGUF, as `handrail share` does, and opened by llama.cpp. Asked: texts
become the same tokens, and the likeliest 40 tokens after a prompt are the same; after a question,
also by the template in the file, which llama-cpp-python fills in. How many are the same with Q8_0
is only told. Exits 1 if something differs.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import llama_cpp
import torch
from tables import head, row
from transformers import AutoModelForCausalLM, AutoTokenizer

from handrail.steps import gguf_file

PROMPT, ODD = (
    "One day",
    "It's 12,345.67 km\t(or 3²)…  Grüße, 你好 🙂\n\n\n  x = a_b + c[1]; I'LL say \"no\"!\r\n",
)


def texts():
    """Return what is cut into tokens: odd signs, our pages and our code, line by line too."""
    house = Path(__file__).parent.parent
    pages = [file.read_text() for file in (*house.glob("docs/*.md"), *house.glob("handrail/*.py"))]
    return [ODD, *pages, *(line for page in pages for line in page.splitlines() if line)]


def greedy(llama, tokens, number):
    """Return the tokens that llama.cpp writes, up to one that ends a text."""
    found = []
    for token in llama.generate(tokens, temp=0, top_k=1):
        found.append(token)
        if len(found) == number or llama_cpp.llama_vocab_is_eog(llama._model.vocab, token):
            return found


def same(ours, theirs):
    return sum(a == b for a, b in zip(ours, theirs, strict=False))


def look(folder):
    """Print how llama.cpp and the model compare; return whether all that is asked is so."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chats, end = tokenizer.chat_template, gguf_file.end_of(model, tokenizer)
    with tempfile.TemporaryDirectory() as place:
        files = gguf_file.write(model, tokenizer, Path(place), "model")
        ours, _ = gguf_file.compared(model, tokenizer, Path(place), PROMPT)
        opened = [
            llama_cpp.Llama(str(file), n_ctx=model.config.max_position_embeddings, verbose=False)
            for file in files
        ]
    cut, wrong = texts(), 0
    for text in cut:
        theirs = opened[0].tokenize(text.encode(), add_bos=False, special=False)
        wrong += tokenizer(text, add_special_tokens=False)["input_ids"] != theirs
    text = PROMPT
    if chats:
        asked = [{"role": "user", "content": PROMPT}]
        text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    prompt = opened[0].tokenize(text.encode(), add_bos=True, special=True)  # if the file wants one
    found = [greedy(llama, prompt, gguf_file.SAME) for llama in opened]
    said = ""
    if chats:
        answer = opened[0].create_chat_completion(asked, temperature=0, max_tokens=gguf_file.SAME)
        said = answer["choices"][0]["message"]["content"]
        said = said.strip() == tokenizer.decode(ours, skip_special_tokens=True).strip()
    counts = [f"{same(ours, theirs)} of {len(ours)}" for theirs in found]
    row(folder, f"{len(cut) - wrong:,} of {len(cut):,}", *counts, said, tokenizer.decode([end]))
    return not wrong and ours == found[0] and said in ("", True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+")
    print(f"llama-cpp-python {llama_cpp.__version__}")
    head("model", "texts cut alike", "tokens alike, F32", "Q8_0", "chat the same", "end")
    good = [look(folder) for folder in parser.parse_args().folders]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
