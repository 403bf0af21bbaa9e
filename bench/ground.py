"""What the benchmarks stand on: the handed-over program, the village as tokens, and nanoGPT.

Importing this file makes `import train`, `import model` ... mean handrail/program. nanoGPT is read
from a clone that you name (git clone https://github.com/karpathy/nanoGPT); its code is imported
where it lies and never copied.
"""

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from handrail.data.village import stories
from handrail.project.project import PROGRAM

sys.path[:0] = [str(PROGRAM), str(Path(__file__).parents[1] / "tests")]
NANOGPT = Path(__file__).parents[2] / "scratch" / "nanoGPT"


def chosen(**changes):
    """Return settings as the program's `read` gives them: its defaults, but for what is named."""
    from settings import SETTINGS

    values = {name: default for name, (default, _) in SETTINGS.items()}
    return SimpleNamespace(**values | {"cpu": True, "step": ""} | changes)


def new_model(layers, width, vocabulary, context, seed=0):
    """Return the program's model in any shape, not only those in its list of sizes."""
    import model

    class Vocabulary:
        bos_token_id = eos_token_id = 0
        pad_token_id = 1

        def __len__(self):
            return vocabulary

    model.SIZES["bench"] = (layers, width)
    torch.manual_seed(seed)
    return model.build(chosen(size="bench", context=context), Vocabulary())


def fused_adamw(model, lr):
    return torch.optim.AdamW(model.parameters(), lr=lr, fused=True)


def plain(model, lr):
    return torch.optim.SGD(model.parameters(), lr=lr)


def metrics(folder):
    """Return the lines that a run left, one per update."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def village_tokens(folder, number, vocabulary=1024):
    """Write stories as folder/train.bin and val.bin; return (tokenizer, nats of each val story)."""
    from data import is_val
    from tokenizer import encode, sample, train_tokenizer

    told = list(islice(stories(0), number))
    tokenizer = train_tokenizer(sample(told), vocabulary)
    encode(told, tokenizer, folder)
    return tokenizer, [story["nats"] for story in told if is_val(story["text"])]


def project(folder, number, **settings):
    """Make `folder` a village project as the walk leaves it before pretrain."""
    shutil.copytree(PROGRAM, folder, ignore=shutil.ignore_patterns("__pycache__"))
    lines = [json.dumps(story) + "\n" for story in islice(stories(0), number)]
    (folder / "village.jsonl").write_text("".join(lines))
    settings = {"data": "village.jsonl", "vocabulary": 512, "prompt": "One "} | settings
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
    (folder / "settings.toml").write_text("".join(lines))
    command = [sys.executable, "tokenizer.py", "--cpu"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


class NanoGPT:
    """nanoGPT, updated as its train.py does: autocast, clip at 1, the loss read each time.

    With its own AdamW, at train.py's defaults, or another optimizer(model, lr).
    """

    def __init__(self, path, layers, width, vocabulary, context, device, compiled, optimizer=None):
        file = Path(path) / "model.py"
        if not file.exists():
            sys.exit(f"No nanoGPT in {path}. git clone https://github.com/karpathy/nanoGPT {path}")
        spec = importlib.util.spec_from_file_location("nanogpt", file)
        sys.modules["nanogpt"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        torch.manual_seed(0)
        shape = {"n_layer": layers, "n_head": max(4, width // 64), "n_embd": width}
        shape |= {"vocab_size": vocabulary, "block_size": context, "dropout": 0.0, "bias": False}
        self.plain = module.GPT(module.GPTConfig(**shape)).to(device)
        self.parameters = self.plain.get_num_params()
        if optimizer:
            self.optimizer = optimizer(self.plain, 1e-3)
        else:
            self.optimizer = self.plain.configure_optimizers(0.1, 1e-3, (0.9, 0.95), device)
        self.model = torch.compile(self.plain) if compiled else self.plain
        cuda = device == "cuda"
        self.precision = torch.autocast(device, torch.bfloat16) if cuda else nullcontext()

    def update(self, x, y, lr, after_forward=lambda: None):
        """Change the weights once; return the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with self.precision:
            _, loss = self.model(x, y)
        after_forward()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.plain.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


def nanogpt_get_batch(path, folder, batch, context, device):
    """Return nanoGPT's own get_batch, taken out of its train.py, reading folder/train.bin."""
    tree = ast.parse((Path(path) / "train.py").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    tree.body = [node for node in functions if node.name == "get_batch"]
    names = {"np": np, "torch": torch, "os": os, "data_dir": str(folder), "batch_size": batch}
    names |= {"block_size": context, "device": device, "device_type": device}
    exec(compile(tree, "train.py", "exec"), names)
    return lambda: names["get_batch"]("train")
