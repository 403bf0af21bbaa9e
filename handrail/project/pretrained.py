"""Models that others trained: opened without running anybody's program, or a sentence why not."""

import json
import shlex
from pathlib import Path

from handrail.project.project import stop

MERGE = """import sys
from peft import AutoPeftModelForCausalLM as Model
from transformers import AutoTokenizer as Tokens
adapter, base, merged = sys.argv[1:]
Model.from_pretrained(adapter).merge_and_unload().save_pretrained(merged)
Tokens.from_pretrained(base).save_pretrained(merged)"""


def check_trainable(base):
    """Raise Stop for what is on this disk and no model to train: a LoRA adapter, a GGUF file."""
    folder = Path(base).expanduser()
    whole, adapter = (folder / "config.json").exists(), folder / "adapter_config.json"
    if adapter.exists() and not whole:
        below = json.loads(adapter.read_text()).get("base_model_name_or_path")
        merge = "; ".join(MERGE.splitlines())
        words = ["python", "-c", merge, str(folder), str(below), f"{folder}-merged"]
        command = shlex.join(words)
        raise stop("an adapter", base=base, below=below, folder=folder, command=command)
    files = sorted(folder.iterdir()) if folder.is_dir() and not whole else [folder]
    for file in files:
        if file.suffix.lower() == ".gguf" and file.exists():
            raise stop("a GGUF file", base=base, file=file.name)


def opened(kind, base, **how):
    """Return what an Auto class of Transformers makes of a pretrained model.

    Nobody's program is run. Raises Stop if it cannot be opened.
    """
    from huggingface_hub.errors import StrictDataclassError

    check_trainable(base)
    try:
        return kind.from_pretrained(base, trust_remote_code=False, **how)
    except (OSError, ValueError, StrictDataclassError) as error:
        why, said = "model not found", str(error).partition("\n")[0]
        if "trust_remote_code" in str(error):
            why = "a program of its own"
        elif Path(base).is_dir():
            why, said = "model unreadable", " ".join(str(error).split())[:300]
        elif str(base).startswith(("/", ".", "~")):
            why = "no such folder"
        raise stop(why, base=base, said=said) from error


def check_weights(base):
    """Raise Stop for weights that are pickled, and for a file of weights that is not whole."""
    from safetensors import SafetensorError, safe_open
    from transformers.utils import has_file

    def holds(name):
        return has_file(base, name) or has_file(base, f"{name}.index.json")

    if holds("pytorch_model.bin") and not holds("model.safetensors"):
        raise stop("pickled weights", base=base)
    for file in sorted(Path(base).glob("*.safetensors")):
        try:
            safe_open(file, "pt")
        except SafetensorError as error:
            raise stop("half a file", file=file, error=error) from error


def base_parameters(base):
    """Return how many parameters a pretrained model has, from its configuration alone."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = opened(AutoConfig, base)
    check_weights(base)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config).num_parameters()


def learned_positions(model):
    """Return how many tokens a model can read at once if its positions are in a table.

    That is so in GPT-2 and OPT. None: they are calculated, and have no end.
    """
    tensors = [name for name, _ in [*model.named_parameters(), *model.named_buffers()]]
    if any("wpe" in name or "position" in name for name in tensors):
        return model.config.get_text_config().max_position_embeddings
    return None
