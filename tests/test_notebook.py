import json
import re
from html import unescape

import pytest

from handrail.lessons.lessons import meanings
from handrail.project import notebook
from handrail.project.glossary import explain, words
from handrail.project.project import Project, Stop
from handrail.steps import LATER, WALK

CHECKS = [
    {
        "name": "loss on val",
        "expected": "< 1.613 (bigram)",
        "measured": "0.4551",
        "verdict": "pass",
        "meaning": "",
        "advice": "",
    },
    {
        "name": "near duplicates",
        "expected": "0 to 1 %",
        "measured": "2.37 %",
        "verdict": "warn",
        "meaning": "Copies.",
        "advice": "drop 118",
    },
]
PLOTS = {
    "The run": {"kind": "curve", "lines": {"bigram": 1.613, "floor": 0.4362}},
    "The sweep": {
        "kind": "line",
        "x": [1e-4, 1e-3, 1e-2],
        "y": [4.8, 2.9, float("nan")],
        "logx": True,
        "mark": 1e-3,
    },
    "Lengths": {
        "kind": "bars",
        "x": ["0", "40"],
        "y": [17, 4],
        "xlabel": "characters, from",
        "ylabel": "documents",
    },
}
RECORD = {
    "title": "The run",
    "why": "The *why*.\n\nThe trap: none.",
    "expect": ["Below 1.613."],
    "checks": CHECKS,
    "What this tells you": ["Good: 0.019 above."],
    "samples": ["Tom <b>ran</b> & fell."],
    "plots": PLOTS,
    "commit": "a1b2c3d",
    "seconds": 228.4,
}

# a step's settings are written one by one, so its lines are not always together
SETTINGS = """data = "a # b.txt"  # mine
finetune.updates = 40
lr = 0.003
finetune.packed = false  # theirs
"""


def drawn(folder, records, metrics=""):
    """Return the page drawn from step records, given as JSON text by name, and metrics."""
    (folder / "out" / "steps").mkdir(parents=True)
    (folder / "settings.toml").write_text(SETTINGS)
    (folder / "out" / "metrics.jsonl").write_text(metrics)
    for name, text in records.items():
        (folder / "out" / "steps" / f"{name}.json").write_text(text)
    notebook.write(Project(folder), WALK, LATER)
    return (folder / "out" / "notebook.html").read_text()


def test_the_page_is_self_contained_and_shows_every_number(tmp_path):
    """The notebook opens anywhere, years later: it loads nothing, runs nothing, and no measured
    number is left out.
    """
    metrics = "".join(
        json.dumps({"step": i, "loss": 6 / i, "val_loss": 7 / i}) + "\n" for i in range(1, 900)
    )
    page = drawn(tmp_path, {"pretrain": json.dumps(RECORD)}, metrics)
    assert not re.search(r"<script|<link|<img|@import|url\(|src=|href=\"(?!#)", page)
    shown = unescape(re.sub(r"<[^>]+>", "", page))
    for check in CHECKS:
        assert all(text in shown for text in check.values() if text not in ("pass", "warn"))
    for text in (
        "Tom <b>ran</b> & fell.",
        "bigram 1.613",
        "floor 0.4362",
        "picked: 0.001",
        "228.4 s",
        "a # b.txt",
        "mine",
        "finetune.updates",
        "finetune.packed",
        "theirs",
        "Good: 0.019 above.",
    ):
        assert text in shown
    assert page.count("<svg") == 3 and "could not be drawn" not in page and "nan" not in page


def test_a_missing_field_never_stops_the_walk(tmp_path):
    """The notebook is drawn after every step, so no gap in what is on disk may end a walk: the rest
    is still shown.
    """
    records = {
        name: json.dumps({key: value for key, value in RECORD.items() if key != name})
        for name in RECORD
    }
    steps = dict(zip(WALK, records.values(), strict=False))
    steps["evaluate"] = '{"checks": [{"name": "half a rec'
    steps["chat"] = json.dumps(
        {
            "checks": [{}],
            "plots": {
                "Broken": {"kind": "line", "x": [1]},
                "Empty": {"kind": "bars", "x": [], "y": []},
            },
        }
    )
    page = drawn(tmp_path, steps, '{"step": 1, "loss": 6.2}\n{"step": 2, "lo')
    assert (
        "out/steps/evaluate.json cannot be read" in page and page.count("could not be drawn") == 2
    )
    assert page.count("2.37 %") >= 7


def test_explain_finds_a_word_however_it_is_written():
    """A newcomer who meets a word can look it up as they saw it, several at once too; a misspelt
    one leads to the right one, and to nothing that only looks similar.
    """
    for written, names in {
        "learning-rates": "learning rate",
        "LOSSES": "loss",
        "BPE": "byte-pair encoding",
        "warm up": "warm-up",
        "optimiser": "optimizer",
        "Tokenisation": "tokenizer",
        "finetuning": "fine-tuning",
    }.items():
        assert explain(written).startswith(names)
    assert explain("gradients not zeroed", faults=meanings()).startswith("gradients-not-zeroed: ")
    both = explain("learning rate, nat")
    assert both.startswith("learning rate") and "\n\nnat: " in both
    with pytest.raises(Stop, match="Did you mean: optimizer"):
        explain("optimzer")
    with pytest.raises(Stop, match="loss: How(.|\n)*'zzz' is not in the list. All words"):
        explain("loss zzz")
    with pytest.raises(Stop, match="'rent' is a command: handrail rent --help"):
        explain("rent", {"rent"})
    assert "tokenizer" in explain("") and "bigram" in explain("")


def test_every_word_of_the_walk_is_explained():
    """The words that a first reader did not know have an entry of one to three short sentences."""
    met = """GPU, CPU, TFLOP/s, matrix product, parameter, memory bandwidth, number format, fp32,
        nvidia-smi, token, document, train, split, near duplicate, built-in world, size, context,
        batch, update, vocabulary, prompt, row, byte-pair encoding, byte, uint16, position, layer,
        attention, Qwen3, architecture, Transformers, ln, V, loss, weight, width, nat, tensor,
        gradient, vector, overfit, optimizer, loop, learning rate, AdamW, Muon, matrix,
        random state, fake tensor, exit code, doctor, floor, epoch, bigram, scientific notation,
        MFU, logit, temperature, end of text, uniform, unigram, model card, rank, FSDP, accelerator,
        val, baseline, learning-rate schedule, precision, bits per byte, checkpoint, RLHF,
        hallucination, quantization, top-p, mixture of experts, tokenisation, KV cache"""
    for word in met.split(","):
        assert explain(word)
    for names, meaning in words().items():
        assert len(meaning) < 350 and not re.search(r"\b(anew|beside|by chance)\b", meaning), names
