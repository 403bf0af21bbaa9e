"""Does llama.cpp itself write what the model writes?

    pip install xllamacpp                 # llama.cpp, compiled; nothing else needs it
    python bench/converted.py FOLDER ...  # of models, such as first-model/out/model

Each model is written as GGUF, as `handrail share` does, and opened by llama.cpp's server. Asked:
texts become the same tokens, and the likeliest 40 tokens after a prompt are the same; after a
question, also by way of the chat template in the file. With Q8_0 it only tells how many.
Exits 1 if something differs.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from urllib.request import Request, urlopen

import xllamacpp
from tables import head, row
from transformers import AutoModelForCausalLM, AutoTokenizer

from handrail.steps import gguf_file

QUESTION = "One day"
ODD = "It's 12,345.67 km\t(or 3²)…  Grüße, 你好 🙂\n\n\n  x = a_b + c[1]; I'LL say \"no\"!\r\n"


def texts():
    """Return what is cut into tokens: odd signs, our pages and our code, whole and line by line."""
    house = Path(__file__).parent.parent
    pages = [file.read_text() for file in (*house.glob("docs/*.md"), *house.glob("handrail/*.py"))]
    lines = {line for page in pages for line in page.splitlines() if line}
    return [ODD, *pages, *sorted(lines)[::10]]


def served(file, context):
    """Return ask(path, **body) of a server that has opened the file, and the server."""
    how = xllamacpp.CommonParams()
    how.model.path, how.n_ctx, how.n_parallel, how.cpuparams.n_threads = str(file), context, 1, 2
    how.cache_type_k = how.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32  # else 16 bits
    how.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(how)

    def ask(path, **body):
        asked = Request(f"{server.listening_address}/{path}", json.dumps(body).encode())
        return json.loads(urlopen(asked).read())

    return ask, server


def look(folder):
    """Print how llama.cpp and the model compare; return whether all that is asked is so."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    end, talk = gguf_file.end_of(model, tokenizer), [{"role": "user", "content": QUESTION}]
    greedy = {"temperature": 0, "top_k": 1, "n_predict": gguf_file.SAME, "return_tokens": True}
    found, wrong, said = [], 0, "no chat"
    with tempfile.TemporaryDirectory() as place:
        files = gguf_file.write(model, tokenizer, Path(place), "model")
        ours, _ = gguf_file.compared(model, tokenizer, Path(place), QUESTION)
        text = QUESTION
        if tokenizer.chat_template:
            how = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
            text = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
            asked = tokenizer.apply_chat_template(talk, **how)
            reply = model.generate(**asked, do_sample=False, max_new_tokens=gguf_file.SAME)
            reply = tokenizer.decode(reply[0, asked["input_ids"].size(1) :], True)
        for file in files:
            ask, _server = served(file, model.config.max_position_embeddings)
            body = greedy | {"prompt": text, "logit_bias": [[end, False]]}
            found.append(ask("completion", **body)["tokens"])
            if file == files[0]:
                for cut in (cuts := texts()):
                    theirs = ask("tokenize", content=cut, parse_special=True)["tokens"]
                    wrong += tokenizer(cut, add_special_tokens=False)["input_ids"] != theirs
            if file == files[0] and tokenizer.chat_template:
                answer = ask("v1/chat/completions", messages=talk, **greedy)
                answer = answer["choices"][0]["message"]["content"]
                said = "the same" if answer.strip() == reply.strip() else f"{answer!r}, {reply!r}"
    same = [sum(a == b for a, b in zip(ours, theirs, strict=False)) for theirs in found]
    kind = gguf_file.pre_type(tokenizer)
    row(folder, kind, f"{len(cuts) - wrong:,} of {len(cuts):,}", *same, said)
    return not wrong and ours == found[0] and said in ("no chat", "the same")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+")
    head("model", "cut as", "texts cut alike", "of 40 tokens: F32", "Q8_0", "the chat")
    good = [look(folder) for folder in parser.parse_args().folders]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
