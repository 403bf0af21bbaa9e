"""Past one machine, on paper: what each GPU of an FSDP job needs, for 1, 8 and 70 billion weights.

    python bench/paper.py            some minutes; no GPU, no weights

Llama 3's shapes (Grattafiori et al. 2024, table 3). One row of 8,192 tokens on every GPU,
activations made again on the way back, AdamW in 32 bits. Weights, gradients and the optimizer's two
averages are divided by the number of GPUs; what passes (activations, logits) is each GPU's own, and
is what `handrail estimate` counts for one of them. Two layers at a time are gathered in 16 bits
(shard, below).
"""

import shutil
import tempfile
from pathlib import Path

from tables import head, options, row
from transformers import LlamaConfig

from handrail.cost.estimate import count
from handrail.cost.gpus import fits, gpus
from handrail.project.project import PROGRAM, Project

SHAPES = {  # hidden, layers, heads, key-value heads, width of the small network, tied
    "1B": (2048, 16, 32, 8, 8192, True),
    "8B": (4096, 32, 32, 8, 14336, False),
    "70B": (8192, 80, 64, 8, 28672, False),
}
ADAMW = """

def make_optimizer(model, lr):
    return torch.optim.AdamW(model.parameters(), lr=lr)
"""


def shard(update, processes):
    """Return the bytes on each of `processes` GPUs under FSDP.

    That is its share of what is divided, all of what passes, and two layers at a time, gathered in
    16 bits while they are used: about a twentieth of the weights (ZeRO stage 3, Rajbhandari et al.
    2020, section 5).
    """
    averages = max(update.kinds["optimizer"], 4 * update.trained)
    divided = update.kinds["weights"] + 4 * update.trained + averages
    layers = update.parameters * 2 / 20
    return divided / processes + max(update.passing + layers, update.working / processes)


def counted(name, context, folder):
    """Return what one update of a model of this shape needs, on one GPU."""
    hidden, layers, heads, pairs, wide, tied = SHAPES[name]
    for file in PROGRAM.glob("*.py"):
        shutil.copy(file, folder)
    (folder / "settings.toml").write_text("[finetune]\n")
    with open(folder / "optimizer.py", "a") as file:
        file.write(ADAMW)
    LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=pairs,
        intermediate_size=wide,
        vocab_size=128256,
        tie_word_embeddings=tied,
        max_position_embeddings=context,
    ).save_pretrained(folder / "model")
    project = Project(folder, cpu=True)
    values = project.load().values
    vars(values).update(base=str(folder / "model"), batch=1, context=context, rows_at_once=0)
    return count(project, "pretrain", values, checkpointing=True)


def main():
    parser = options(__doc__, context=8192)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    args = parser.parse_args()
    needs = ("divided, GB in all", "passing, GB on each", "on each of 8", "of 64", "of 256")
    card = gpus()["H100"]
    days = "days for 20 tokens a weight on it, H100"
    head("model", "weights", *needs, "least number of 80 GB", days)
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            update = counted(name, args.context, Path(folder))
        each = {2**n: shard(update, 2**n) for n in range(10)}
        least = next((n for n in each if fits(each[n], card["memory"]) == "yes"), None)
        if least is None:
            days = "-"
        else:
            flops = update.flops / update.tokens * 20 * update.parameters
            tflops = least * card["tflops"] * 0.4
            days = f"{flops / (tflops * 1e12) / 86400:,.1f}"
        needs = f"{16 * update.parameters / 1e9:,.0f}", f"{update.passing / 1e9:.1f}"
        needs += tuple(f"{each[n] / 1e9:.1f}" for n in (8, 64, 256))
        row(name, f"{update.parameters:,}", *needs, least, days)


if __name__ == "__main__":
    main()
