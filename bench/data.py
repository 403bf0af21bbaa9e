"""Is text prepared in flat memory, and fast? The learner's own tokenizer.py and data.py, beside `tokenizers` itself.

    python bench/data.py --mb 100
    python bench/data.py --mb 1000

Peak RssAnon is the memory that is really the process's own (the mapped files are not in it). Both speeds come from
encoding the same documents with the same tokenizer; `tokenizers` has them in memory already and writes nothing.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HOUSE = Path(__file__).parent.parent

CHILD = """
import itertools, json, sys, time
from data import documents
from settings import OUT, read
from tokenizer import encode, groups, sample, train_tokenizer
settings = read("", ["--cpu"])
tokenizer = train_tokenizer(sample(documents(settings)), settings.vocabulary)
print("start", flush=True)
began = time.perf_counter()
about = encode(documents(settings), tokenizer, OUT / "tokens")
ours = sum(about[side]["tokens"] for side in ("train", "val")) / (time.perf_counter() - began)
print("end", flush=True)
bpe, theirs = tokenizer.backend_tokenizer, []
for encode_batch in (bpe.encode_batch, bpe.encode_batch_fast):
    tokens, seconds = 0, 0.0
    for group in groups(itertools.islice(documents(settings), 10_000)):
        texts = [document["text"] for document in group]
        began = time.perf_counter()
        coded = encode_batch(texts, add_special_tokens=False)
        seconds += time.perf_counter() - began
        tokens += sum(len(code) for code in coded)
    theirs.append(tokens / seconds)
print(json.dumps([about["train"]["tokens"] + about["val"]["tokens"], ours, *theirs]))
"""


def paragraphs():
    """Return real English and technical text that is on this machine."""
    found = []
    for root in ("/usr/share/doc", sys.prefix):
        for file in sorted(Path(root).rglob("*")):
            if file.suffix in {".md", ".rst", ".txt"} and file.is_file():
                found += file.read_text(errors="ignore").replace("\0", "").split("\n\n")
    return found


def write_text(file, megabytes):
    """Write paragraphs in random order, again and again, until the file is large enough."""
    texts, rng, size = paragraphs(), random.Random(0), 0
    with open(file, "w", encoding="utf-8") as out:
        while size < megabytes * 1e6:
            rng.shuffle(texts)
            for text in texts:
                size += out.write(text + "\n\n")
                if size >= megabytes * 1e6:
                    break


def rss_anon(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return 0


def measure(folder):
    """Run CHILD in the project; return [tokens, ours, theirs, seconds, peak RssAnon in MB while encoding]."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "start\n"
    ended, peak, began = threading.Event(), 0, time.perf_counter()
    threading.Thread(target=lambda: (child.stdout.readline(), ended.set())).start()
    while not ended.wait(0.1):
        peak = max(peak, rss_anon(child.pid))
    seconds = time.perf_counter() - began
    return [*json.loads(child.stdout.read()), seconds, peak]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--mb", type=int, nargs="+", default=[100])
    for megabytes in p.parse_args().mb:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            for name in ("settings.py", "data.py", "tokenizer.py"):
                (folder / name).write_bytes((HOUSE / "handrail" / "program" / name).read_bytes())
            write_text(folder / "text.txt", megabytes)
            (folder / "settings.toml").write_text('data = "text.txt"\nvocabulary = 8192\n')
            tokens, ours, batch, fast, seconds, peak = measure(folder)
            print(
                f"{megabytes:6} MB {seconds:7.1f} s {tokens:12,} tokens   ours {ours:10,.0f}/s   encode_batch {batch:10,.0f}/s ({ours / batch:.2f})   "
                f"encode_batch_fast {fast:10,.0f}/s ({ours / fast:.2f})   peak RssAnon {peak:,.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
