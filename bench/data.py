"""Is text prepared in flat memory, and fast? Our tokenizer.py, beside `tokenizers` itself.

    python bench/data.py --mb 100
    python bench/data.py --mb 1000

Peak RssAnon is the memory that is really the process's own (the mapped files are not in it). Both
speeds come from encoding the same documents with the same tokenizer; `tokenizers` has them in
memory already and writes nothing.
"""

import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tables import head, options, row

from handrail.project.project import PROGRAM

CHILD = """
import json, time
from itertools import islice
from data import documents
from settings import OUT, read
from tokenizer import encode, sample, train_tokenizer
settings = read("", ["--cpu"])
tokenizer = train_tokenizer(sample(documents(settings)), settings.vocabulary)
print("start", flush=True)
began = time.perf_counter()
about = encode(documents(settings), tokenizer, OUT / "tokens")
total = sum(about[side]["tokens"] for side in ("train", "val"))
speeds = [total / (time.perf_counter() - began)]
print("end", flush=True)
bpe = tokenizer.backend_tokenizer
for encode_batch in (bpe.encode_batch, bpe.encode_batch_fast):
    tokens, seconds = 0, 0.0
    texts = (document["text"] for document in islice(documents(settings), 10_000))
    while group := list(islice(texts, 500)):
        began = time.perf_counter()
        coded = encode_batch(group, add_special_tokens=False)
        seconds += time.perf_counter() - began
        tokens += sum(len(code) for code in coded)
    speeds.append(tokens / seconds)
print(json.dumps([total, *speeds]))
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
    """Return the megabytes that are a process's own, 0 once it has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return 0


def measure(folder):
    """Run CHILD in the project; return (tokens, speeds, seconds, peak RssAnon) of encoding."""
    command = [sys.executable, "-c", CHILD]
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "start\n"
    ended, peak, began = threading.Event(), 0, time.perf_counter()
    threading.Thread(target=lambda: (child.stdout.readline(), ended.set())).start()
    while not ended.wait(0.1):
        peak = max(peak, rss_anon(child.pid))
    seconds = time.perf_counter() - began
    tokens, *speeds = json.loads(child.stdout.read())
    return tokens, speeds, seconds, peak


def main():
    parser = options(__doc__)
    parser.add_argument("--mb", type=int, nargs="+", default=[100])
    args = parser.parse_args()
    others = ("encode_batch", "ours beside it", "encode_batch_fast", "ours beside it")
    head("MB", "seconds", "tokens", "ours, tokens/s", *others, "peak RssAnon, MB")
    for megabytes in args.mb:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for name in ("settings.py", "data.py", "tokenizer.py"):
                shutil.copy(PROGRAM / name, folder)
            write_text(folder / "text.txt", megabytes)
            (folder / "settings.toml").write_text('data = "text.txt"\nvocabulary = 8192\n')
            tokens, (ours, batch, fast), seconds, peak = measure(folder)
        beside = [f"{batch:,.0f}", f"{ours / batch:.2f}", f"{fast:,.0f}", f"{ours / fast:.2f}"]
        row(megabytes, f"{seconds:.1f}", f"{tokens:,}", f"{ours:,.0f}", *beside, f"{peak:,.0f}")


if __name__ == "__main__":
    main()
