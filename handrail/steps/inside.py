"""Inside: open the trained model, and read all of it."""

from handrail.project.project import Stop
from handrail.project.screen import Outcome
from handrail.steps.words import Words

FILES = ["inside.py"]

CONTEXT = 256  # tokens of val on which the two are compared, at most


def expect(project):
    return {"prompt": project.settings.get("prompt")}


def run(project, screen):
    import torch

    folder = project.out / "model"
    if not (folder / "model.safetensors").exists():
        raise Stop(
            f"{folder} holds no model. inside.py opens the model that this project pretrained; "
            "a project that began with questions and answers pretrains none."
        )
    program = project.load("inside", "batches")
    prompt, context = program.values.prompt, min(CONTEXT, program.values.context)
    lines = program.inside.show(folder, prompt)
    screen.block("inside.py shows", "\n".join(f"  {line}" for line in lines), plain=True)
    tokens = program.batches.load_tokens(project.out / "tokens", "val")
    ids = torch.from_numpy(tokens[:context].astype("int64"))[None]  # (1, T)
    words = Words(project, "inside")
    checks, apart = compare(words, program.inside.logits, folder, ids)
    return Outcome(checks, {"positions": context, "apart": apart})


def compare(words, logits, folder, ids):
    """Return the checks of logits(folder, ids), and how far they are from those of Transformers."""
    ours = logits(folder, ids)  # (1, T, V)
    apart = (ours - library_logits(folder, ids)).abs().max().item()
    other = ids.clone()
    other[:, -1] = (other[:, -1] + 1) % ours.size(-1)
    moved = (logits(folder, other) - ours)[:, :-1].abs().max().item()
    same, blind = (
        "difference from the logits of Transformers",
        "effect of a later token on earlier logits",
    )
    checks = [
        words.check(same, f"{apart:.1g}", apart < 1e-5),
        words.check(blind, f"{moved:.1g}", moved < 1e-5),
    ]
    return checks, apart


def library_logits(folder, ids):
    """Return the logits (B, T, V) of Transformers, on the CPU in 32-bit numbers.

    Its plain ("eager") attention does the same operations in the same order. The default, a fused
    kernel, rounds differently: logits of 15 then differ by up to 0.000012.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        return model.eval()(ids).logits
