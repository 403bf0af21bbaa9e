"""What the benchmarks stand on: the handed-over program on the path, the village as tokens, and nanoGPT to run beside.

Importing this file makes `import train`, `import model` ... mean handrail/program. nanoGPT is read from a clone that
you name (git clone https://github.com/karpathy/nanoGPT); its code is imported where it lies and never copied.
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

from handrail.project import PROGRAM
from handrail.village import stories

sys.path[:0] = [str(PROGRAM), str(Path(__file__).parents[1] / "tests")]
NANOGPT = Path(__file__).parents[2] / "scratch" / "nanoGPT"


def new_model(layers, width, vocabulary, context, seed=0):
    """Return the program's model in any shape, not only those in its list of sizes."""
    import model

    class Vocabulary:
        bos_token_id = eos_token_id = 0
        pad_token_id = 1
        __len__ = lambda self: vocabulary

    model.SIZES["bench"] = (layers, width)
    torch.manual_seed(seed)
    return model.build(SimpleNamespace(base="", size="bench", context=context), Vocabulary())


def village_tokens(folder, number, vocabulary=1024):
    """Write `number` stories as folder/train.bin and val.bin; return the tokenizer and the nats of each val story."""
    from data import is_val
    from tokenizer import encode, sample, train_tokenizer

    told = list(islice(stories(0), number))
    tokenizer = train_tokenizer(sample(told), vocabulary)
    encode(told, tokenizer, folder)
    return tokenizer, [story["nats"] for story in told if is_val(story["text"])]


def project(folder, number, **settings):
    """Make `folder` a village project as the walk leaves it before pretrain: program, settings.toml, stories, tokens."""
    shutil.copytree(PROGRAM, folder, ignore=shutil.ignore_patterns("__pycache__"))
    lines = [json.dumps(story) for story in islice(stories(0), number)]
    (folder / "village.jsonl").write_text("\n".join(lines) + "\n")
    settings = {
        "data": "village.jsonl",
        "vocabulary": 512,
        "size": "1m",
        "prompt": "One ",
    } | settings
    (folder / "settings.toml").write_text(
        "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    )
    subprocess.run(
        [sys.executable, "tokenizer.py", "--cpu"], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )


class NanoGPT:
    """nanoGPT, updated as its train.py does: autocast, clip at 1, its own AdamW (or another), the loss read each time."""

    def __init__(self, path, layers, width, vocabulary, context, device, compiled, optimizer=None):
        if not (Path(path) / "model.py").exists():
            sys.exit(
                f"There is no nanoGPT in {path}. git clone https://github.com/karpathy/nanoGPT, then --nanogpt FOLDER"
            )
        spec = importlib.util.spec_from_file_location("nanogpt", Path(path) / "model.py")
        sys.modules["nanogpt"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        torch.manual_seed(0)
        shape = dict(
            n_layer=layers,
            n_head=max(4, width // 64),
            n_embd=width,
            vocab_size=vocabulary,
            block_size=context,
        )
        self.plain = module.GPT(module.GPTConfig(**shape, dropout=0.0, bias=False)).to(device)
        self.parameters = self.plain.get_num_params()
        own = optimizer is None  # train.py's defaults: weight decay 0.1, betas 0.9 and 0.95
        self.optimizer = (
            self.plain.configure_optimizers(0.1, 1e-3, (0.9, 0.95), device)
            if own
            else optimizer(self.plain)
        )
        self.model = torch.compile(self.plain) if compiled else self.plain
        self.precision = (
            torch.autocast(device, torch.bfloat16) if device == "cuda" else nullcontext()
        )

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
    tree.body = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "get_batch"
    ]
    names = dict(
        np=np, torch=torch, os=os, data_dir=str(folder), batch_size=batch, block_size=context
    )
    names |= dict(device=device, device_type=device)
    exec(compile(tree, "train.py", "exec"), names)
    return lambda: names["get_batch"]("train")
