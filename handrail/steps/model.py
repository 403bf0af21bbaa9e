"""Model: know its size, and that it starts ignorant."""

import math

import torch
from transformers.utils.logging import disable_progress_bar

from handrail.screen import Outcome, check

disable_progress_bar()  # models of some kilobytes need none

TITLE = "The model"
FILES = ["model.py", "batches.py"]
USES = ["size", "base", "context", "vocabulary"]
SECONDS = (5, 5)
MORE = """Where the parameters are: each layer has four matrices of width x width for attention and three larger ones for
the small network, 12 x width² together; the vocabulary has one row of numbers for each token. A model twice as wide is four
times as large. `Causal` means that a position may look back but never ahead: otherwise it would copy the answer instead of
predicting it, and the loss would look wonderful. That is why we change the future here, and look whether the past moves."""


def guess(project):
    V = len(load_tokenizer(project))
    return (
        None
        if project.settings.get("base")
        else f"A model that knows nothing about {V} tokens: what is its loss? (a hint: ln {V})"
    )


def parameters(config):
    """Return the number of parameters of a Qwen3 model, by arithmetic."""
    d, f, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    head = config.head_dim
    attention = (
        d * head * (2 * heads + 2 * config.num_key_value_heads) + 2 * head
    )  # four matrices, two norms
    layer = attention + 3 * d * f + 2 * d  # and two norms
    return (
        config.vocab_size * d * (1 if config.tie_word_embeddings else 2)
        + config.num_hidden_layers * layer
        + d
    )


def initial_loss(V, width):
    """Return the loss of a model that knows nothing: ln V, plus what the spread of its first logits adds.

    With weights drawn at 0.02 and tied embeddings, a logit has variance about width · 0.02²; the mean of exp adds half.
    """
    return math.log(V) + width * 0.02**2 / 2


def expect(project):
    program = project.load("model")
    if program.values.base:
        return [
            "A pretrained model does not start ignorant: its loss should be far below ln V.",
            "Every tensor gets a gradient.",
        ]
    layers, width = program.model.SIZES[program.values.size]
    V = len(load_tokenizer(project))
    return [
        f"{layers} layers of width {width} and {V:,} tokens: about {(12 * layers * width**2 + V * width) / 1e6:.1f} million parameters.",
        f"Loss before any training: {initial_loss(V, width):.2f} nats (ln {V:,} = {math.log(V):.2f}).",
        "Every tensor gets a gradient. Changing the future changes nothing before it.",
    ]


def run(project, screen):
    program = project.load("model", "batches", "settings")
    values = program.values
    program.settings.start(values)
    tokenizer = load_tokenizer(project)
    model = program.model.build(values, tokenizer).to(
        torch.accelerator.current_accelerator() if not project.cpu else "cpu"
    )
    tokens = program.batches.load_tokens(project.out / "tokens", "train")
    batch = program.batches.train_batches(tokens, values)(0)[0]
    inputs, targets = batch["inputs"][:8].to(model.device), batch["targets"][:8].to(model.device)
    logits = model(inputs, use_cache=False).logits  # (B, T, V)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    loss = loss.item()
    silent = [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    moved = leak(model, inputs)
    count, V = model.num_parameters(), len(tokenizer)
    if values.base:
        start = check(
            "loss before training",
            f"< ln V = {math.log(V):.2f}",
            f"{loss:.2f}",
            loss < math.log(V) - 1,
            "It knows no more than a new model: model and tokenizer do not belong together, or the language is new to it.",
            otherwise="warn",
        )
        size = check("parameters", "as its name says", f"{count:,}", True)
    else:
        expected = initial_loss(V, model.config.hidden_size)
        start = check(
            "loss before training",
            f"{expected:.2f} ± 0.15",
            f"{loss:.2f}",
            abs(loss - expected) < 0.15,
            "Above: the first weights are too large. Below: the model can see the answer.",
            "Compare model.py with `git diff`.",
        )
        size = check(
            "parameters",
            f"{parameters(model.config):,}",
            f"{count:,}",
            count == parameters(model.config),
            "The model is not the one that settings.toml describes.",
            otherwise="warn",
        )
    checks = [
        size,
        start,
        check(
            "tensors without a gradient",
            0,
            len(silent),
            not silent,
            f"These would never learn: {silent[:3]}",
            "Look for requires_grad or detach.",
        ),
        check(
            "change of the past by the future",
            "< 0.0001",
            f"{moved:.1e}",
            moved < 1e-4,
            "Positions see what comes after them; the loss will be too good to be true.",
            "The attention must be causal.",
        ),
        check(
            "tokens the model has a row for",
            f"≥ {V:,}",
            f"{model.get_input_embeddings().num_embeddings:,}",
            model.get_input_embeddings().num_embeddings >= V,
            "Some tokens have no row: training would crash or read garbage.",
        ),
    ]
    share = model.get_input_embeddings().weight.numel() / count
    return Outcome(
        checks,
        f"{count:,} numbers to learn, {share:.0%} of them for the vocabulary. A loss of {loss:.2f} is a "
        f"choice among about {math.exp(loss):,.0f} tokens: from here it can only learn.",
    )


def load_tokenizer(project):
    """Return the project's tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(project.out / "tokenizer")


@torch.no_grad()
def leak(model, inputs):
    """Return how far the logits of the first half move when the second half of the inputs (B, T) is changed."""
    half = inputs.size(1) // 2
    other = inputs.clone()
    other[:, half:] = other[:, half:].flip(1).roll(1, 0)
    past = [model(x, use_cache=False).logits[:, :half] for x in (inputs, other)]
    return (past[0] - past[1]).abs().max().item()
