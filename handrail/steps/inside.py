"""Inside: open the trained model, and read all of it."""

import torch
from transformers import AutoModelForCausalLM

from handrail.project import Stop
from handrail.screen import Outcome, check

TITLE = "Inside the model"
FILES = ["inside.py"]
SECONDS = (5, 5)
WHY = """model.py only names an architecture, and a library does the work. What happens in there?
This step adds all of it to your project, in plain PyTorch, and runs it with your weights. If its
logits are the ones that the library computes, nothing is hidden: these lines are the model."""
MORE = """Each layer has several heads, and each head looks for something else. Nobody told them for
what; training found it. Some look at the token just before, some for a name that was mentioned
earlier, some at the first token, which often means that they found nothing. `LAYER, HEAD` at the
top of inside.py chooses the head that is shown: change it and run `python inside.py` again. Then
delete `+ mask` in `attention`: every row now looks at later tokens too, the logits change, and no
error appears. This step would find it; a program without such a check would not."""

CONTEXT = 256  # tokens of val on which the two are compared, at most


def guess(project):
    return f"Which token comes after {project.settings['prompt']!r}, and how probable is it?"


def expect(project):
    return [
        "Logits within 0.00001 of those of Transformers, at every position and for every token: "
        "it is the same arithmetic, so only rounding may differ.",
        "Another last token changes no logit before it: nobody looks ahead.",
        "In the table each row adds up to 100, as long as all of its columns fit on the screen.",
    ]


def run(project, screen):
    folder = project.out / "model"
    if not (folder / "model.safetensors").exists():
        raise Stop(
            f"{folder} holds no model. inside.py opens the model that this project pretrained; "
            "a project that began with questions and answers pretrains none."
        )
    program = project.load("inside", "batches")
    prompt, context = program.values.prompt, min(CONTEXT, program.values.context)
    screen.say("inside.py shows", list(program.inside.show(folder, prompt)))
    tokens = program.batches.load_tokens(project.out / "tokens", "val")
    ids = torch.from_numpy(tokens[:context].astype("int64"))[None]  # (1, T)
    checks, apart = compare(program.inside.logits, folder, ids)
    return Outcome(
        checks,
        f"The largest difference in {context} positions is {apart:.1g}. What you can read in "
        "inside.py is the model, all of it; what it knows is in the weights.",
    )


def compare(logits, folder, ids):
    """Return the checks of logits(folder, ids), and how far they are from those of Transformers."""
    ours = logits(folder, ids)  # (1, T, V)
    apart = (ours - library_logits(folder, ids)).abs().max().item()
    other = ids.clone()
    other[:, -1] = (other[:, -1] + 1) % ours.size(-1)
    moved = (logits(folder, other) - ours)[:, :-1].abs().max().item()
    checks = [
        check(
            "difference from the logits of Transformers",
            "< 0.00001",
            f"{apart:.1g}",
            apart < 1e-5,
            "inside.py computes something else than the model that was trained.",
            "git diff inside.py",
        ),
        check(
            "change of earlier logits by a later token",
            "< 0.00001",
            f"{moved:.1g}",
            moved < 1e-5,
            "A position sees what comes after it.",
            "the mask in attention, inside.py",
        ),
    ]
    return checks, apart


def library_logits(folder, ids):
    """Return the logits (B, T, V) of Transformers, on the CPU in 32-bit numbers.

    Its plain ("eager") attention does the same operations in the same order. The default, a fused
    kernel, rounds differently: logits of 15 then differ by up to 0.000012.
    """
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        return model.eval()(ids).logits
