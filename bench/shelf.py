"""What `handrail doctor` says of files alone: each mistake that shows in them, made on disk, beside the same files without it.

python bench/shelf.py       3 minutes
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "corpus" / "pairs"))
from common import make_tokenizer, qa, stories, tiny_model  # noqa: E402

PLAN = "updates=60 batch=8 lr=3e-4 context=512 method=lora"
TEXTS = stories(300, seed=8)


def rows(file, rows):
    file.parent.mkdir(exist_ok=True)
    file.write_text(
        "".join(json.dumps(row if isinstance(row, dict) else {"text": row}) + "\n" for row in rows)
    )


def files(folder, words=TEXTS, tokenizer=None, plan=PLAN, **config):
    """Write a model, its tokenizer and rows; return what to ask of the doctor."""
    tokenizer = tokenizer or make_tokenizer()
    tiny_model(tokenizer, **config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows(folder / "rows.jsonl", words)
    return ["--model", folder / "model", "--data", folder / "rows.jsonl", "--recipe", plan]


def eos_masked(folder, broken):
    asked = files(folder)
    if broken:
        (folder / "model" / "generation_config.json").write_text('{"eos_token_id": 0}')
    return asked


def eos_missing(folder, broken):
    tokenizer = make_tokenizer()
    if broken:
        tokenizer.chat_template = tokenizer.chat_template.replace(
            " + '<|im_end|>' }}{% endgeneration", " }}{% endgeneration"
        )
    return files(folder, tokenizer=tokenizer)


def answer_truncated(folder, broken):
    return files(folder, qa(200), plan=PLAN.replace("512", "80") if broken else PLAN)


def double_bos(folder, broken):
    return files(folder, tokenizer=make_tokenizer(bos=broken))


def vocabulary_mismatch(folder, broken):
    return files(folder, **({"vocab_size": 400} if broken else {}))


def train_val_overlap(folder, broken):
    rows(folder / "data" / "train.jsonl", TEXTS)
    rows(folder / "data" / "val.jsonl", TEXTS[:30] if broken else stories(30, seed=9))
    return [folder / "data"]


def too_many_epochs(folder, broken):
    return files(folder, plan=PLAN.replace("updates=60", "updates=5000") if broken else PLAN)


def rows_dropped(folder, broken):
    rows(
        folder / "data" / "rows.jsonl",
        [text * (i % 5 > 0 or not broken) for i, text in enumerate(TEXTS)],
    )
    return [folder / "data"]


def one_document_dominates(folder, broken):
    rows(folder / "data" / "rows.jsonl", TEXTS + TEXTS[:1] * 100 * broken)
    return [folder / "data"]


def rate_of_the_other_method(folder, broken):
    return files(folder, plan=PLAN.replace("3e-4", "2e-5") if broken else PLAN)


def batch_shrinks_with_gpus(folder, broken):
    return files(
        folder,
        plan=PLAN + (" gpus_before=8 processes=1" if broken else " gpus_before=8 processes=8"),
    )


def log(folder, losses, vals=()):
    (folder / "config.json").write_text("{}")
    history = [
        {"step": i, "loss": loss, "learning_rate": 1e-3, "epoch": i / 50}
        for i, loss in enumerate(losses, 1)
    ]
    (folder / "trainer_state.json").write_text(
        json.dumps(
            {
                "log_history": history
                + [{"step": 10 * i, "eval_loss": val} for i, val in enumerate(vals, 1)]
            }
        )
    )
    (folder / "tokenizer.json").write_text("{}")
    return [folder]


FALL = [2 + 3 * 0.93**i for i in range(1, 81)]


def non_finite(folder, broken):
    return log(folder, FALL[:60] + [float("nan")] * 20 if broken else FALL)


def val_rises(folder, broken):
    return log(
        folder, FALL, [4.0, 3.5, 3.2, 3.3, 3.5, 3.8] if broken else [4.0, 3.5, 3.2, 3.1, 3.05, 3.0]
    )


def resume_without_optimizer(folder, broken):
    return log(folder, FALL[:50] + [4.6, 4.5, 4.4, 4.3, 4.2, 4.1, 4.0, 3.9] if broken else FALL)


def saved_without_tokenizer(folder, broken):
    files(folder)
    if broken:
        for file in (folder / "model").glob("tokenizer*"):
            file.unlink()
    return [folder / "model"]


def reload_differs(folder, broken):
    from peft import LoraConfig, get_peft_model

    tokenizer = make_tokenizer()
    model = get_peft_model(tiny_model(tokenizer), LoraConfig(target_modules=["q_proj"]))
    (model.base_model.model if broken else model.merge_and_unload()).save_pretrained(
        folder / "model"
    )
    tokenizer.save_pretrained(folder / "model")
    return [folder / "model"]


def out_of_memory_late(folder, broken):
    rows(folder / "data" / "rows.jsonl", TEXTS + [" ".join(stories(60, seed=10))] * broken)
    return [folder / "data"]


def time_left_misjudged(folder, broken):
    told = [text + " " + " ".join(TEXTS[: i % 7]) for i, text in enumerate(TEXTS)]
    rows(folder / "data" / "rows.jsonl", sorted(told, key=len) if broken else told)
    return [folder / "data"]


CASES = [
    eos_masked,
    eos_missing,
    answer_truncated,
    double_bos,
    vocabulary_mismatch,
    train_val_overlap,
    too_many_epochs,
    rows_dropped,
    one_document_dominates,
    rate_of_the_other_method,
    batch_shrinks_with_gpus,
    non_finite,
    val_rises,
    resume_without_optimizer,
    saved_without_tokenizer,
    reload_differs,
    out_of_memory_late,
    time_left_misjudged,
]


def main():
    named = alarms = 0
    for case in CASES:
        name, said = case.__name__.replace("_", "-"), {}
        for broken in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                asked = case(Path(folder), broken)
                done = subprocess.run(
                    [Path(sys.executable).with_name("handrail"), "doctor", *asked],
                    capture_output=True,
                    text=True,
                )
                said[broken] = re.findall(r"^([✗!]) (\S+) \(", done.stdout, re.M)
                if done.returncode > 1:
                    print(done.stderr[-600:])
        named, alarms = (
            named + (name in {found for _, found in said[True]}),
            alarms + bool(said[False]),
        )
        print(
            f"{name}: "
            + (", ".join(map(" ".join, said[True])) or "-")
            + " · healthy: "
            + (", ".join(map(" ".join, said[False])) or "-"),
            flush=True,
        )
    print(
        f"{len(CASES)} mistakes that show in files: named {named}; healthy files with an alarm: {alarms}"
    )


if __name__ == "__main__":
    main()
