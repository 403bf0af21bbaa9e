"""What `handrail doctor` says of files alone.

    python bench/files.py       3 minutes

Each mistake that shows in files is made on disk, beside the same files without it.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "corpus" / "pairs"))
from common import make_tokenizer, stories, tiny_model  # noqa: E402

TEXTS = stories(300, seed=8)


def write(file, rows):
    """Write texts, or whole rows, as JSON lines."""
    file.parent.mkdir(exist_ok=True)
    rows = [row if isinstance(row, dict) else {"text": row} for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def files(folder, words=TEXTS, tokenizer=None, **config):
    """Write a model, its tokenizer and rows."""
    tokenizer = tokenizer or make_tokenizer()
    tiny_model(tokenizer, **config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write(folder / "data" / "rows.jsonl", words)


def eos_masked(folder, broken):
    files(folder)
    if broken:
        (folder / "model" / "generation_config.json").write_text('{"eos_token_id": 0}')


def eos_missing(folder, broken):
    tokenizer = make_tokenizer()
    if broken:
        end = " }}{% endgeneration"
        with_end = " + '<|im_end|>'" + end
        tokenizer.chat_template = tokenizer.chat_template.replace(with_end, end)
    files(folder, tokenizer=tokenizer)


def double_bos(folder, broken):
    files(folder, tokenizer=make_tokenizer(bos=broken))


def vocabulary_mismatch(folder, broken):
    files(folder, **({"vocab_size": 400} if broken else {}))


def train_val_overlap(folder, broken):
    write(folder / "data" / "train.jsonl", TEXTS)
    write(folder / "data" / "val.jsonl", TEXTS[:30] if broken else stories(30, seed=9))


def rows_dropped(folder, broken):
    texts = [text * (i % 5 > 0 or not broken) for i, text in enumerate(TEXTS)]
    write(folder / "data" / "rows.jsonl", texts)


def one_document_dominates(folder, broken):
    write(folder / "data" / "rows.jsonl", TEXTS + TEXTS[:1] * 100 * broken)


def log(folder, losses, vals=()):
    (folder / "config.json").write_text("{}")
    same = {"learning_rate": 1e-3}
    history = [same | {"step": i, "loss": x, "epoch": i / 50} for i, x in enumerate(losses, 1)]
    history += [{"step": 10 * i, "eval_loss": val} for i, val in enumerate(vals, 1)]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    (folder / "tokenizer.json").write_text("{}")


FALL = [2 + 3 * 0.93**i for i in range(1, 81)]


def non_finite(folder, broken):
    log(folder, FALL[:60] + [float("nan")] * 20 if broken else FALL)


def val_rises(folder, broken):
    ends = [3.3, 3.5, 3.8] if broken else [3.1, 3.05, 3.0]
    log(folder, FALL, [4.0, 3.5, 3.2, *ends])


def resume_without_optimizer(folder, broken):
    log(folder, FALL[:50] + [4.6, 4.5, 4.4, 4.3, 4.2, 4.1, 4.0, 3.9] if broken else FALL)


def saved_without_tokenizer(folder, broken):
    files(folder)
    if broken:
        for file in (folder / "model").glob("tokenizer*"):
            file.unlink()


def reload_differs(folder, broken):
    from peft import LoraConfig, get_peft_model

    tokenizer = make_tokenizer()
    model = get_peft_model(tiny_model(tokenizer), LoraConfig(target_modules=["q_proj"]))
    saved = model.base_model.model if broken else model.merge_and_unload()
    saved.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")


def out_of_memory_late(folder, broken):
    write(folder / "data" / "rows.jsonl", TEXTS + [" ".join(stories(60, seed=10))] * broken)


def time_left_misjudged(folder, broken):
    told = [text + " " + " ".join(TEXTS[: i % 7]) for i, text in enumerate(TEXTS)]
    write(folder / "data" / "rows.jsonl", sorted(told, key=len) if broken else told)


CASES = [
    eos_masked,
    eos_missing,
    double_bos,
    vocabulary_mismatch,
    train_val_overlap,
    rows_dropped,
    one_document_dominates,
    non_finite,
    val_rises,
    resume_without_optimizer,
    saved_without_tokenizer,
    reload_differs,
    out_of_memory_late,
    time_left_misjudged,
]


def asked(case, broken):
    """Return what the doctor says of one case, as [(mark, name), ...]."""
    with tempfile.TemporaryDirectory() as folder:
        case(Path(folder), broken)
        command = [Path(sys.executable).with_name("handrail"), "doctor", folder]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode > 1:
        print(done.stderr[-600:])
    return re.findall(r"^([✗!]) (\S+) \(", done.stdout, re.M)


def main():
    named = alarms = 0
    for case in CASES:
        name, broken, healthy = (
            case.__name__.replace("_", "-"),
            asked(case, True),
            asked(case, False),
        )
        named += name in {found for _, found in broken}
        alarms += bool(healthy)
        broken, healthy = (", ".join(map(" ".join, said)) or "-" for said in (broken, healthy))
        print(f"{name}: {broken} · healthy: {healthy}", flush=True)
    files = f"named {named}; healthy files with an alarm: {alarms}"
    print(f"{len(CASES)} mistakes that show in files: {files}")


if __name__ == "__main__":
    main()
