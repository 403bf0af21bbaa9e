"""Saved models, and what a run left behind: looked at without training or loading anything."""

import json
import math
from pathlib import Path

from .findings import Refused, finding

ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "</s>", "<|endoftext|>", "<|end|>")
TOKENIZERS = ("vocab.json", "spiece.model", "vocab.txt")
PLACES = ("config.json", "*/config.json", "out/model/config.json", "out/*/model/config.json")
EPOCHS = 20  # as many passes over the same data are hardly ever intended


def look(path):
    """Return the findings in a folder with saved models or the log of a run.

    Raise Refused if there is no such folder.
    """
    folder = Path(path)
    if not folder.exists():
        raise Refused(
            f"There is no file or folder {path}. The doctor looks at what is on this machine: "
            "download a model first (hf download OWNER/NAME --local-dir DIR)."
        )
    found = [found for model in models_in(folder) for found in look_at_model(model)]
    found += look_at_run(folder)
    return list({one.name: one for one in found[::-1]}.values())[::-1]


def models_in(folder):
    """Return the folders of models in a folder, checkpoints apart."""
    found = {file.parent for place in PLACES for file in folder.glob(place)}
    return sorted(model for model in found if not model.name.startswith("checkpoint-"))


# --- a saved model and its tokenizer ---


def look_at_model(folder):
    """Yield what a model's folder shows: is it whole, and do its parts belong together?"""
    config = json.loads((folder / "config.json").read_text())
    yield from without_tokenizer(folder)
    tokenizer = open_tokenizer(folder) if has_tokenizer(folder) else None
    if tokenizer:
        yield from look_at_vocabulary(folder, config, tokenizer)
        if tokenizer.chat_template:
            yield from look_at_template(folder, tokenizer)
    if not (folder / "adapter_config.json").exists():
        yield from look_at_weights(folder)


def has_tokenizer(folder):
    names = [file.name for file in Path(folder).iterdir()]
    return any(name.startswith("tokenizer") or name in TOKENIZERS for name in names)


def without_tokenizer(folder, update=0):
    """Yield a finding for a model's folder that has no tokenizer."""
    if not has_tokenizer(folder):
        names = sorted(file.name for file in Path(folder).iterdir())
        yield finding("saved-without-tokenizer", f"{folder}: {', '.join(names[:6])}", update)


def open_tokenizer(folder):
    """Return the tokenizer of a folder, or None if it cannot be opened."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError):
        return None


def look_at_vocabulary(folder, config, tokenizer):
    rows = (config.get("text_config") or config).get("vocab_size", 0)
    sizes = {"words": len(tokenizer), "rows": rows}
    evidence = f"{folder / 'config.json'}: vocab_size {rows:,}"
    if len(tokenizer) > rows > 0:
        yield finding("vocabulary-mismatch", evidence, **sizes)
    elif rows > 1.2 * len(tokenizer) + 128:
        yield finding("vocabulary-mismatch/unused", evidence, **sizes)


def look_at_template(folder, tokenizer):
    """Does what the template writes start once, and end where generation stops?"""
    talk = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]
    text = tokenizer.apply_chat_template(talk, tokenize=False)
    ids, bos = tokenizer(text)["input_ids"], tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos] * 2:
        yield finding("double-bos/template", f"a chat starts with {tokenizer.decode(ids[:4])!r}")
    end = text.rpartition("B")[2]
    last = next((mark for mark in ENDS if mark in end), None)
    if last is None:
        yield finding("eos-missing/template", f"after the answer it writes {end!r}")
        return
    file = folder / "generation_config.json"
    stops = json.loads(file.read_text()).get("eos_token_id") if file.exists() else None
    stops = stops if isinstance(stops, list) or stops is None else [stops]
    if stops and tokenizer.convert_tokens_to_ids(last) not in stops:
        evidence = (
            f"the template ends an answer with {last}, generation_config.json stops at "
            f"{tokenizer.convert_ids_to_tokens(stops)}"
        )
        yield finding("eos-masked/generation", evidence)


def look_at_weights(folder):
    """Names that Transformers does not expect: left in a wrapper, or not merged."""
    names, files = [], sorted(folder.glob("*.safetensors"))
    if files:
        from safetensors import safe_open

        for file in files:
            with safe_open(file, "pt") as stream:
                names += stream.keys()
    lora = [name for name in names if "lora_" in name or ".base_layer." in name]
    wrappers = ("_orig_mod.", "module.", "base_model.model.")
    odd = lora or [name for name in names if name.startswith(wrappers)]
    if odd:
        way = "lora-names" if lora else "names"
        yield finding(f"reload-differs/{way}", f"{folder}: {', '.join(odd[:3])}")


# --- what a run left behind ---


def look_at_run(folder):
    """Yield what the log of a run shows."""
    train, val, epochs = read_log(folder)
    for step, loss in train:
        if loss is None or not math.isfinite(loss):
            yield finding("non-finite/log", f"update {step:,}: {loss}", step)
            return
    yield from look_at_val(train, val)
    yield from look_for_jump(train)
    if epochs > EPOCHS:
        last = train[-1][0] if train else 0
        evidence = f"trainer_state.json: epoch {epochs:.1f}"
        yield finding("too-many-epochs/log", evidence, last, passes=epochs)
    for checkpoint in sorted(folder.glob("checkpoint-*"))[-1:]:
        state = (checkpoint / "trainer_state.json").exists()
        if state and not (checkpoint / "optimizer.pt").exists():
            yield finding("resume-without-optimizer/not-saved", f"{checkpoint}: no optimizer.pt")


def look_at_val(train, val):
    """Val has been rising while train fell."""
    if len(val) < 3:
        return
    (best, lowest), (last, value) = min(val, key=lambda line: line[1]), val[-1]

    def mean(step):
        near = [loss for s, loss in train if step - max(10, step // 10) < s <= step]
        return sum(near) / max(1, len(near))

    if value > 1.03 * lowest and val[-2][1] > lowest and mean(last) < mean(best):
        evidence = f"val {lowest:.3f} at update {best:,}, {value:.3f} at {last:,}"
        yield finding("val-rises", evidence, last, best=best)


def look_for_jump(train):
    """The loss jumps up and stays there, as after a restart."""
    losses = [loss for _, loss in train]
    for i in range(20, len(losses) - 5):
        before, after, step = losses[i - 10 : i], losses[i : i + 5], train[i][0]
        if min(after) > max(before) * 1.25 + 0.1 and step > 10:
            evidence = (
                f"about {sum(before) / 10:.3f} before update {step:,}, {sum(after) / 5:.3f} after"
            )
            yield finding("resume-without-optimizer/log", evidence, step)
            return


def read_log(folder):
    """Return ([(update, loss)] of train, the same of val, epochs) as a run's log has them."""
    logs = [folder / "metrics.jsonl", folder / "out" / "metrics.jsonl"]
    for file in [*logs, *sorted(folder.glob("out/*/metrics.jsonl"))]:
        if file.exists():
            lines = list(map(json.loads, file.read_text().splitlines()))
            val = [(line["step"], line["val_loss"]) for line in lines if "val_loss" in line]
            return [(line["step"], line["loss"]) for line in lines], val, 0
    found = [*folder.glob("trainer_state.json"), *folder.glob("checkpoint-*/trainer_state.json")]
    if not found:
        return [], [], 0
    latest = max(found, key=lambda file: file.stat().st_mtime)
    lines = json.loads(latest.read_text()).get("log_history", [])
    train = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    val = [(line["step"], line["eval_loss"]) for line in lines if "eval_loss" in line]
    return train, val, max((line.get("epoch") or 0 for line in lines), default=0)
