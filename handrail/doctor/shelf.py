"""`handrail doctor`: what can be seen in files alone, before a run or after it.

    handrail doctor DIR                               a project, a saved model, what a trainer left, a folder of data
    handrail doctor --model M --data D [--tokenizer T] [--recipe "updates=500 batch=16 lr=1e-3 context=512 method=lora"]

Nothing is trained, and no weight is loaded.
"""

import argparse
import json
import math
import re
import tomllib
from collections import Counter
from pathlib import Path

from handrail.data import text_files
from handrail.project.project import Stop

from .findings import Finding, report
from .probes.order import EPOCHS

VAL = re.compile(r"^(val|valid|validation|test|dev|eval)\b", re.I)
NESTED = {"columns that change from row to row", "columns with other columns in them"}  # usual
LOOK = 20_000  # rows of a file that are read
ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "</s>", "<|endoftext|>", "<|end|>")


# --- data ---


def texts_of(file, problems, notes=None):
    """Return the texts of a file's rows: what is in all its columns of text, messages included.

    What a reader had to do before there were rows is added to `notes`.
    """
    found = []
    if file.suffix not in text_files.TABLES:  # a text is one document
        return [file.read_text(encoding="utf-8", errors="replace")[:1_000_000]]
    try:
        for _, row in text_files.rows(file, problems, set() if notes is None else notes):
            words = (
                [
                    message.get("content") if isinstance(message, dict) else message
                    for message in row.get("messages", [])
                ]
                if isinstance(row.get("messages"), list)
                else row.values()
            )
            found.append("\n".join(word for word in words if isinstance(word, str)).strip())
            if len(found) == LOOK:
                break
    except text_files.Harmless:
        return []
    except text_files.Unreadable as error:
        problems.append(str(error))
    return found


def pieces(text, size=12):
    """Return some runs of `size` words of a text; which ones depends on the words alone."""
    words = re.findall(r"\w+", text.lower())
    runs = (tuple(words[i : i + size]) for i in range(max(0, len(words) - size + 1)))
    return {hash(run) for run in runs if sum(map(len, run)) % 3 == 0}


def look_at_data(path):
    """Yield what the files of a data set show by themselves."""
    path = Path(path)
    files = (
        [path]
        if path.is_file()
        else [
            file
            for file in sorted(path.rglob("*"))
            if file.suffix in text_files.CLEAN and file.is_file()
        ]
    )
    files = [file for file in files if not file.name.startswith(("metrics", "checks"))]
    known, problems, empty, total = {}, [], 0, 0
    for file in files:
        notes = set()
        rows = texts_of(file, problems, notes)
        if unclean := sorted(notes - NESTED):
            yield Finding(
                "data-not-clean",
                "warning",
                "A loader such as load_dataset does not read this file rightly as it is.",
                f"{file.name}: {'; '.join(unclean)}",
                advice="train on a clean copy: `handrail new` writes one into its folder data/",
            )
        known[file] = [row for row in rows if row]
        empty += len(rows) - len(known[file])
        total += len(rows)
        yield from look_at_rows(file, known[file])
    if problems or empty > 0.01 * total:
        yield Finding(
            "rows-dropped",
            "certain" if problems else "warning",
            "Some rows cannot be used; a loader that skips them does so without a word.",
            f"{len(problems)} places that cannot be read, {empty} rows without text, of {total:,} rows. {' '.join(map(str, problems[:2]))[:300]}",
            [("a broken export", 0.8), ("lines cut by hand", 0.2)],
            "repair these rows, or leave them out and say how many",
            0,
        )
    train = [row for file, rows in known.items() if not VAL.search(file.name) for row in rows]
    val = [row for file, rows in known.items() if VAL.search(file.name) for row in rows]
    if train and val and any("train" in file.stem.lower() for file in known):
        whole = {" ".join(row.lower().split()) for row in train}
        parts = {piece for row in train for piece in pieces(row)}
        near = [
            row
            for row in val
            if " ".join(row.lower().split()) in whole
            or (own := pieces(row))
            and len(own & parts) > 0.8 * len(own)
        ]
        if len(near) >= 2 and len(near) > 0.005 * len(val):
            yield Finding(
                "train-val-overlap",
                "certain",
                "Texts of val stand in train too: the loss on val says nothing about new texts.",
                f"{len(near)} of {len(val):,}, exactly or nearly; for example {near[0][:80]!r}",
                [("copies were not removed before splitting", 0.9)],
                "remove copies first, then split by document",
                0,
            )


def look_at_rows(file, rows):
    """Yield what the rows of one file show: copies, order, length."""
    if len(rows) < 20:
        return
    row, often = Counter(rows).most_common(1)[0]
    held = Counter(piece for row in rows for piece in pieces(row))
    most = max(held.values(), default=0)
    if (
        often > 0.1 * len(rows)
        or most > 0.3 * len(rows)
        and file.suffix not in (".csv",)
        and often > 2
    ):
        yield Finding(
            "one-document-dominates",
            "warning",
            "One text makes up much of the data.",
            f"{file}: {often} of {len(rows):,} rows are {row[:80]!r}",
            [("it was collected many times", 0.9)],
            "remove exact copies",
            0,
        )
    lengths = [len(row) for row in rows]
    tenth = max(1, len(rows) // 10)
    means = [sum(lengths[i : i + tenth]) / tenth for i in range(0, 10 * tenth, tenth)]
    if all(a <= b for a, b in zip(means, means[1:])) and means[-1] > 1.5 * means[0]:
        yield Finding(
            "time-left-misjudged",
            "warning",
            "The rows are sorted by length: the first updates are quick, the last ones long.",
            f"{file}: from {means[0]:.0f} to {means[-1]:.0f} characters a row",
            [("the file is sorted", 0.95)],
            "shuffle it, and rehearse with the longest row",
            0,
        )
    longest = max(lengths)
    if longest > 8 * sorted(lengths)[len(lengths) // 2] and longest > 4000:
        yield Finding(
            "out-of-memory-late",
            "warning",
            "A few rows are far longer than the others: memory can run out when they come.",
            f"{file}: half have {sorted(lengths)[len(lengths) // 2]} characters or less, the longest {longest:,} (row {lengths.index(longest) + 1})",
            [("an odd row", 0.8)],
            "cut or leave out such rows; rehearse with the longest",
            0,
        )


# --- a saved model and its tokenizer ---


def open_tokenizer(folder):
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError):
        return None


def look_at_model(folder, tokenizer=None):
    """Yield what a saved model's folder shows: is it whole, do model, tokenizer and template belong together?"""
    folder = Path(folder)
    names = [file.name for file in folder.iterdir()]
    config = json.loads((folder / "config.json").read_text()) if "config.json" in names else {}
    has = any(
        name.startswith("tokenizer") or name in ("vocab.json", "spiece.model") for name in names
    )
    if config and not has and tokenizer is None:
        yield Finding(
            "saved-without-tokenizer",
            "certain",
            "The folder of the model holds no tokenizer: nobody can use it without guessing.",
            f"{folder}: {', '.join(sorted(names)[:6])}",
            [("only model.save_pretrained was called", 0.95)],
            "tokenizer.save_pretrained into the same folder",
            0,
        )
    tokenizer = tokenizer or (open_tokenizer(folder) if has else None)
    words, rows = (
        len(tokenizer) if tokenizer else 0,
        (config.get("text_config") or config).get("vocab_size", 0),
    )
    if words > rows > 0:
        yield Finding(
            "vocabulary-mismatch",
            "certain",
            f"The tokenizer has {words:,} tokens, the model only {rows:,} rows.",
            f"{folder / 'config.json'}: vocab_size {rows:,}",
            [
                ("tokens were added and the embedding was not resized", 0.6),
                ("they belong to different models", 0.4),
            ],
            "model.resize_token_embeddings(len(tokenizer))",
            0,
        )
    elif tokenizer and rows > 1.2 * words + 128:
        yield Finding(
            "vocabulary-mismatch",
            "warning",
            f"The model has {rows:,} words, the tokenizer only {words:,}.",
            "",
            [("the default vocabulary size was kept", 0.8)],
            "vocab_size=len(tokenizer)",
            0,
        )
    if tokenizer and tokenizer.chat_template:
        yield from look_at_template(folder, tokenizer)
    weights = [name for name in names if name.endswith(".safetensors")]
    base = [name for name in names if name in ("adapter_config.json",)]
    if config and weights and not base:
        yield from look_at_weights(folder, weights)


def look_at_template(folder, tokenizer):
    """Does the text that the template writes begin once, and end with the mark at which generation stops?"""
    talk = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]
    text = tokenizer.apply_chat_template(talk, tokenize=False)
    ids = tokenizer(text)["input_ids"]
    if tokenizer.bos_token_id is not None and ids[:2] == [tokenizer.bos_token_id] * 2:
        yield Finding(
            "double-bos",
            "warning",
            "The template writes the beginning-of-text token, and the tokenizer adds it again.",
            f"{tokenizer.decode(ids[:4])!r}",
            [("both are right, alone", 0.9)],
            "tokenizer(text, add_special_tokens=False) after apply_chat_template",
            0,
        )
    last = next((mark for mark in ENDS if mark in text.rpartition("B")[2]), None)
    file = folder / "generation_config.json"
    stops = json.loads(file.read_text()).get("eos_token_id") if file.exists() else None
    stops = stops if isinstance(stops, list) else [stops]
    if last and stops != [None] and tokenizer.convert_tokens_to_ids(last) not in stops:
        yield Finding(
            "eos-masked",
            "warning",
            "Generation does not stop at the mark that ends an answer.",
            f"the template ends an answer with {last}, generation_config.json stops at {tokenizer.convert_ids_to_tokens([s for s in stops if s is not None])}",
            [("generation_config was not changed with the template", 0.9)],
            "model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(...)",
            0,
        )
    if last is None:
        yield Finding(
            "eos-missing",
            "warning",
            "The chat template ends an answer without an end token.",
            f"after the answer it writes {text.rpartition('B')[2]!r}",
            [("a template written by hand", 0.8)],
            "end each answer with tokenizer.eos_token",
            0,
        )


def look_at_weights(folder, files):
    """Names that Transformers would not expect: left in a wrapper, or not merged."""
    from safetensors import safe_open

    names = []
    for name in files:
        with safe_open(folder / name, "pt") as stream:
            names += stream.keys()
    odd = [
        name
        for name in names
        if "lora_" in name
        or ".base_layer." in name
        or name.startswith(("_orig_mod.", "module.", "base_model.model."))
    ]
    if odd:
        yield Finding(
            "reload-differs",
            "certain",
            "The saved weights have names that the model does not know: loaded, it begins with random ones in their place.",
            f"{folder}: {', '.join(odd[:3])}",
            [
                (
                    "LoRA was not merged before saving",
                    0.8 if any("lora_" in n or "base_layer" in n for n in odd) else 0.1,
                ),
                (
                    "the model was saved inside DDP's or compile's wrapper",
                    0.2 if "lora_" in " ".join(odd) else 0.9,
                ),
            ],
            "model = model.merge_and_unload(), or accelerator.unwrap_model(model), then save_pretrained",
            0,
        )


# --- what a run left behind ---


def read_log(folder):
    """Return (lines of train, lines of val) as [(update, loss, rate)], of metrics.jsonl or trainer_state.json, and the epochs."""
    train, val, epochs = [], [], 0
    for file in [
        folder / "metrics.jsonl",
        folder / "out" / "metrics.jsonl",
        *sorted(folder.glob("out/*/metrics.jsonl")),
    ]:
        if file.exists():
            for line in map(json.loads, file.read_text().splitlines()):
                train.append((line["step"], line["loss"], line.get("lr", 0)))
                if "val_loss" in line:
                    val.append((line["step"], line["val_loss"]))
            return train, val, epochs
    states = sorted(
        [*folder.glob("trainer_state.json"), *folder.glob("checkpoint-*/trainer_state.json")],
        key=lambda file: file.stat().st_mtime,
    )
    for line in json.loads(states[-1].read_text()).get("log_history", []) if states else []:
        epochs = max(epochs, line.get("epoch", 0) or 0)
        if "loss" in line:
            train.append((line["step"], line["loss"], line.get("learning_rate", 0)))
        if "eval_loss" in line:
            val.append((line["step"], line["eval_loss"]))
    return train, val, epochs


def look_at_run(folder):
    """Yield what the log of a run shows."""
    train, val, epochs = read_log(folder)
    bad = next(
        ((step, loss) for step, loss, _ in train if loss is None or not math.isfinite(loss)), None
    )
    if bad:
        yield Finding(
            "non-finite",
            "certain",
            "The loss is no number from some update on.",
            f"update {bad[0]:,}: {bad[1]}",
            [("the learning rate is too high", 0.6), ("a division by zero in loss or data", 0.4)],
            "go back to the last checkpoint before it",
            bad[0],
        )
    if len(val) >= 3:
        best = min(val, key=lambda line: line[1])
        last, mean = (
            val[-1],
            lambda step: (
                sum(near) / max(1, len(near))
                if (
                    near := [loss for s, loss, _ in train if step - max(10, step // 10) < s <= step]
                )
                else 0
            ),
        )
        if last[1] > 1.03 * best[1] and val[-2][1] > best[1] and mean(last[0]) < mean(best[0]):
            yield Finding(
                "val-rises",
                "warning",
                "The loss on val has been rising while the loss on train fell.",
                f"val {best[1]:.3f} at update {best[0]:,}, {last[1]:.3f} at {last[0]:,}",
                [("too many passes over too little text", 0.8)],
                f"keep the model of update {best[0]:,}",
                last[0],
            )
    losses = [loss for _, loss, _ in train]
    for i in range(20, len(losses) - 5):
        before, after = losses[i - 10 : i], losses[i : i + 5]
        if min(after) > max(before) * 1.25 + 0.1 and train[i][0] > 10:
            yield Finding(
                "resume-without-optimizer",
                "warning",
                "The loss jumps up in mid-run and starts from there.",
                f"about {sum(before) / 10:.3f} before update {train[i][0]:,}, {sum(after) / 5:.3f} after",
                [
                    ("a restart without the optimizer's state, or from an older model", 0.6),
                    ("a rate too high", 0.4),
                ],
                "save and load model and optimizer together",
                train[i][0],
            )
            break
    if epochs > EPOCHS:
        yield Finding(
            "too-many-epochs",
            "warning",
            f"The data was gone through {epochs:.0f} times.",
            f"trainer_state.json: epoch {epochs:.1f}",
            [("the number of updates was chosen without regard to the size of the data", 0.9)],
            "a few epochs are usual",
            train[-1][0] if train else 0,
        )
    for folder in sorted(folder.glob("checkpoint-*"))[-1:]:
        if not (folder / "optimizer.pt").exists() and (folder / "trainer_state.json").exists():
            yield Finding(
                "resume-without-optimizer",
                "warning",
                "The checkpoint holds no state of the optimizer: a run resumed from it jumps.",
                f"{folder}: no optimizer.pt",
                [("save_only_model=True", 0.9)],
                "save the optimizer too, if the run may have to go on",
                0,
            )


# --- a plan: model, data and recipe together ---


def look_at_plan(rows, tokenizer, config, recipe):
    """Yield what arithmetic says of a run that has not begun; recipe: updates, batch, lr, context, method."""
    updates, batch, lr, context = (
        float(recipe.get(name, 0)) for name in ("updates", "batch", "lr", "context")
    )
    processes = float(recipe.get("processes", 1))
    if updates and batch and rows:
        epochs = updates * batch / len(rows)
        if epochs > EPOCHS:
            yield Finding(
                "too-many-epochs",
                "warning",
                f"The plan goes through the data {epochs:.0f} times.",
                f"{updates:,.0f} updates × {batch:.0f} rows / {len(rows):,} rows",
                [("the number of updates was chosen without regard to the data", 0.9)],
                f"{3 * len(rows) / batch:,.0f} updates are 3 epochs",
                0,
            )
    if "gpus_before" in recipe and float(recipe["gpus_before"]) != processes:
        yield Finding(
            "batch-shrinks-with-gpus",
            "warning",
            "With another number of GPUs an update sees another number of rows.",
            f"{recipe['gpus_before']} GPUs before, {processes:.0f} now, {batch:.0f} rows each",
            [("the batch is counted for each GPU", 0.9)],
            "accumulate, so that GPUs × batch × accumulation stays",
            0,
        )
    method = recipe.get("method", "")
    if (
        lr
        and method == "lora"
        and lr < 5e-5
        or lr
        and method == "full"
        and lr >= 1e-4
        and config.get("hidden_size", 0) >= 512
    ):
        usual = (
            "1e-4 to 5e-4 for LoRA"
            if method == "lora"
            else "1e-5 to 5e-5 for all weights of a pretrained model"
        )
        yield Finding(
            "rate-of-the-other-method",
            "warning",
            f"A rate of {lr:g} is that of the other method.",
            f"method {method}",
            [("LoRA needs about ten times the rate of full fine-tuning", 0.9)],
            usual,
            0,
        )
    if context and tokenizer and rows:
        lengths = [len(tokenizer(row)["input_ids"]) for row in rows[:500]]
        cut = sum(length > context for length in lengths)
        if cut > 0.05 * len(lengths):
            yield Finding(
                "answer-truncated",
                "warning",
                "Rows are longer than the context: what is cut off is their end, the answer.",
                f"{cut} of {len(lengths)} rows have more than {context:.0f} tokens, the longest {max(lengths):,}",
                [("the context is too small for this data", 0.9)],
                f"context {sorted(lengths)[int(0.99 * len(lengths))]:,} holds 99 % of them",
                0,
            )
    if tokenizer and rows:
        unknown = [
            i
            for row in rows[:200]
            for i in tokenizer(row)["input_ids"]
            if config.get("vocab_size") and i >= config["vocab_size"]
        ]
        if unknown:
            yield Finding(
                "vocabulary-mismatch",
                "certain",
                "Rows hold token ids that the model has no row for.",
                f"{sorted(set(unknown))[:5]}; the model has {config['vocab_size']:,}",
                [("another model's tokenizer", 0.7)],
                "use the tokenizer that came with the model",
                0,
            )


def look_at_tokens(folder, tokenizer):
    """Yield what a project's prepared tokens show: documents of val that stand in train, ids beyond the vocabulary."""
    import numpy as np

    kind = (
        json.loads((folder / "about.json").read_text()).get("dtype", "uint16")
        if (folder / "about.json").exists()
        else "uint16"
    )
    documents = {}
    for side in ("train", "val"):
        tokens = np.fromfile(folder / f"{side}.bin", dtype=kind, count=5_000_000)
        if len(tokens) and tokens.max() >= len(tokenizer):
            yield Finding(
                "vocabulary-mismatch",
                "certain",
                "The prepared tokens hold ids that the tokenizer does not have.",
                f"{folder / side}.bin: {tokens.max():,}; the tokenizer has {len(tokenizer):,}",
                [("they were made with another tokenizer", 0.9)],
                "python tokenizer.py",
                0,
            )
        documents[side] = [
            part.tobytes()
            for part in np.split(tokens, np.flatnonzero(tokens == tokenizer.eos_token_id) + 1)
            if len(part) > 8
        ]
    known = set(documents["train"])
    both = sum(document in known for document in documents["val"])
    if both >= 2 and both > 0.005 * len(documents["val"]):
        yield Finding(
            "train-val-overlap",
            "certain",
            "Texts of val stand in train too: the loss on val says nothing about new texts.",
            f"{both} of {len(documents['val']):,} documents of val, token for token",
            [("copies, or a split that does not go by the document", 0.9)],
            "remove copies, split by document",
            0,
        )


def look_at_prepared(folder, settings, tokenizer, most=500):
    """Yield rows of the source that are in neither half of the prepared tokens, though rows before and after them are."""
    import numpy as np

    source, column = folder / settings.get("data", ""), settings.get("column", "text")
    if not source.is_file() or source.suffix not in text_files.TABLES:
        return
    kind, known = (
        json.loads((folder / "out" / "tokens" / "about.json").read_text()).get("dtype", "uint16"),
        {},
    )
    for side in ("train", "val"):
        tokens = np.fromfile(folder / "out" / "tokens" / f"{side}.bin", dtype=kind, count=2_000_000)
        parts = np.split(tokens, np.flatnonzero(tokens == tokenizer.eos_token_id))[1 : most + 1]
        known |= dict.fromkeys(
            (
                text.strip()
                for text in tokenizer.batch_decode([part[1:].tolist() for part in parts])
            ),
            side,
        )
    places, texts, ends = {"train": 0, "val": 0}, [], Counter(known.values())
    for _, row in text_files.rows(source, [], set()):
        if isinstance(row.get(column), str) and row[column].strip():
            texts.append(row[column].strip())
            places[known.get(texts[-1], "train")] = (
                len(texts) if texts[-1] in known else places["train"]
            )
        if len(texts) == 40 * most:
            break
    seen = texts[: min(place for side, place in places.items() if ends[side])] if known else []
    missing = [text for text in seen if text not in known]
    if len(missing) >= 3 and len(missing) > 0.02 * len(seen):
        lengths = [
            sum(map(len, group)) / max(1, len(group))
            for group in (missing, [text for text in seen if text in known])
        ]
        yield Finding(
            "rows-dropped",
            "certain",
            "Rows of the data never became tokens, and nothing said so.",
            f"{len(missing):,} of the first {len(seen):,} rows of {source.name} are in neither half; they have {lengths[0]:,.0f} letters on average, the others {lengths[1]:,.0f}; for example {missing[0][:60]!r}",
            [
                ("a filter that is too strict", 0.8),
                ("the data was changed after it was prepared", 0.2),
            ],
            "count what a filter leaves out, and print it; python tokenizer.py after a change of the data",
            0,
        )


def look(folder):
    """Return what is found in a folder, whatever it is."""
    folder, found = Path(folder), []
    if folder.is_file():
        return list(look_at_data(folder))
    models = {
        file.parent
        for file in [
            *folder.glob("config.json"),
            *folder.glob("*/config.json"),
            *folder.glob("out/*/model/config.json"),
            *folder.glob("out/model/config.json"),
        ]
    }
    for model in sorted(models):
        if not model.name.startswith("checkpoint-"):
            found += look_at_model(model)
    found += look_at_run(folder)
    if (folder / "out" / "tokens" / "val.bin").exists() and (
        tokenizer := open_tokenizer(folder / "out" / "tokenizer")
    ):
        found += look_at_tokens(folder / "out" / "tokens", tokenizer)
    data = [place for place in (folder / "data", folder / "out" / "chats") if place.is_dir()]
    if (folder / "settings.toml").exists():
        settings = tomllib.loads((folder / "settings.toml").read_text(encoding="utf-8"))
        if (folder / "out" / "tokens" / "val.bin").exists() and tokenizer:
            found += look_at_prepared(folder, settings, tokenizer)
        source = settings.get("data")
        data += [folder / source] if source and (folder / source).exists() else []
    if not models and not data and not (folder / "settings.toml").exists():
        data = [folder]
    for place in data:
        found += look_at_data(place)
    return list({finding.name: finding for finding in found[::-1]}.values())[::-1]


def parser():
    p = argparse.ArgumentParser(
        "handrail doctor",
        description="Look at files, before a run or after it.",
        usage="handrail doctor DIR  |  handrail doctor --model M --data D [--tokenizer T] [--recipe R]",
    )
    p.add_argument("folder", nargs="?", help="a project, a saved model, a trainer's folder, data")
    p.add_argument("--model", help="folder of a saved model")
    p.add_argument("--tokenizer", help="folder of the tokenizer, if it is not the model's")
    p.add_argument("--data", help="file or folder")
    p.add_argument(
        "--recipe",
        default="",
        help='what is planned: "updates=500 batch=16 lr=1e-3 context=512 method=lora"',
    )
    return p


def main(words):
    """Look at what was named, print what was found; return 1 if something certain was."""
    options, found = parser().parse_args(words), []
    for name in ("folder", "model", "tokenizer", "data"):
        value = getattr(options, name)
        if value and not Path(value).exists():
            raise Stop(
                f"There is no file or folder {value}. The doctor looks at what is on this machine: download a model first (hf download OWNER/NAME --local-dir DIR)."
            )
    if not (options.folder or options.model or options.data):
        raise Stop(
            "What shall the doctor look at? handrail doctor first-model, or: handrail doctor --model M --data D"
        )
    recipe = dict(part.split("=", 1) for part in re.split(r"[ ,]+", options.recipe) if "=" in part)
    tokenizer = (
        open_tokenizer(options.tokenizer or options.model)
        if options.tokenizer or options.model
        else None
    )
    if options.folder:
        found += look(options.folder)
    if options.model:
        found += look_at_model(options.model, tokenizer if options.tokenizer else None)
    if options.data:
        found += look_at_data(options.data)
        files = (
            [Path(options.data)]
            if Path(options.data).is_file()
            else [file for file in Path(options.data).rglob("*") if file.suffix in text_files.CLEAN]
        )
        rows = [
            row for file in files if not VAL.search(file.name) for row in texts_of(file, []) if row
        ]
        file = Path(options.model or ".") / "config.json"
        found += look_at_plan(
            rows,
            tokenizer,
            json.loads(file.read_text()) if options.model and file.exists() else {},
            recipe,
        )
    print(report(found))
    return int(any(finding.level == "certain" for finding in found))
