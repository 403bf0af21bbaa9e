"""Past one machine, on paper: what each GPU of an FSDP job needs, for models of 1, 8 and 70 billion weights.

    python bench/paper.py            some minutes; no GPU, no weights: Llama 3's shapes (Grattafiori et al. 2024, table 3)

One row of 8,192 tokens on every GPU, activations made again on the way back, AdamW in 32 bits. Weights, gradients and the
optimizer's two averages are divided by the number of GPUs; what passes (activations, logits) is each GPU's own, and is
what `handrail rehearse` counts for one of them. Two layers at a time are gathered in 16 bits (budget.shard).
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from transformers import LlamaConfig

from handrail import budget
from handrail.project import PROGRAM, Project

SHAPES = {  # hidden, layers, heads, key-value heads, width of the small network, tied
    "1B": (2048, 16, 32, 8, 8192, True),
    "8B": (4096, 32, 32, 8, 14336, False),
    "70B": (8192, 80, 64, 8, 28672, False),
}
ADAMW = (
    "\n\ndef make_optimizer(model, lr):\n    return torch.optim.AdamW(model.parameters(), lr=lr)\n"
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    args = parser.parse_args()
    print(
        "| model | weights | divided, GB in all | passing, GB on each | on each of 8 | of 64 | of 256 | least number of 80 GB | days for 20 tokens a weight on it, H100 |\n|---|---|---|---|---|---|---|---|---|"
    )
    for name in args.models:
        hidden, layers, heads, pairs, wide, tied = SHAPES[name]
        with tempfile.TemporaryDirectory() as folder:
            for file in PROGRAM.glob("*.py"):
                shutil.copy(file, folder)
            (Path(folder) / "settings.toml").write_text("[finetune]\n")
            with open(Path(folder) / "optimizer.py", "a") as file:
                file.write(ADAMW)
            LlamaConfig(
                hidden_size=hidden,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                num_key_value_heads=pairs,
                intermediate_size=wide,
                vocab_size=128256,
                tie_word_embeddings=tied,
                max_position_embeddings=args.context,
            ).save_pretrained(Path(folder) / "model")
            project = Project(folder, cpu=True)
            values = project.load().values
            vars(values).update(
                base=str(Path(folder) / "model"), batch=1, context=args.context, rows_at_once=0
            )
            update = budget.rehearse(project, "pretrain", values, checkpointing=True)
        divided = 16 * update.parameters
        each = {n: budget.shard(update, n) for n in (8, 64, 256)}
        least = next(
            (
                n
                for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
                if budget.fits(budget.shard(update, n), 80) == "yes"
            ),
            None,
        )
        flops = update.flops / update.tokens * 20 * update.parameters
        days = flops / (least * budget.gpus()["H100"]["tflops"] * 1e12 * 0.4) / 86400
        print(
            f"| {name} | {update.parameters:,} | {divided / 1e9:,.0f} | {update.passing / 1e9:.1f} | "
            + " | ".join(f"{b / 1e9:.1f}" for b in each.values())
            + f" | {least} | {days:,.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
