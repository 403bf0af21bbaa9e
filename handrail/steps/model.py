"""Model: know its size, and that it starts ignorant."""

import math

from handrail.project.screen import Outcome
from handrail.steps.words import Words, shown_if

FILES = ["model.py", "batches.py"]
USES = ["size", "base", "context", "vocabulary"]


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
    """Return the loss of an untrained model: ln V, plus what the spread of its logits adds.

    With weights drawn at 0.02 and tied embeddings, a logit has variance about width · 0.02²; the
    mean of exp adds half of it.
    """
    return math.log(V) + width * 0.02**2 / 2


def expect(project):
    program = project.load("model")
    base, V = program.values.base, len(load_tokenizer(project))
    found = {"V": V, "uniform": math.log(V), "base": base or None, "batch": program.values.batch}
    found["context"] = program.values.context
    if base:
        return found | dict.fromkeys(("layers", "width", "millions", "initial"))
    layers, width = program.model.SIZES[program.values.size]
    found |= {"layers": layers, "width": width, "initial": initial_loss(V, width)}
    return found | {"millions": (12 * layers * width**2 + V * width) / 1e6}


def run(project, screen):
    import torch

    program = project.load("model", "batches")
    values = program.values
    device = program.settings.start(values).device
    tokenizer = load_tokenizer(project)
    model = program.model.build(values, tokenizer).to(device)
    tokens = program.batches.load_tokens(project.out / "tokens", "train")
    batch = program.batches.train_batches(tokens, values)(0)[0]
    inputs, targets = batch["inputs"][:8].to(device), batch["targets"][:8].to(device)
    logits = model(inputs, use_cache=False).logits  # (B, T, V)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    show_row(screen, tokenizer, inputs[0], targets[0], logits[0])
    checks, found = judge(Words(project, "model"), model, tokenizer, loss.item(), inputs)
    torch.manual_seed(values.seed)
    samples = [written_by(model, tokenizer, values.prompt)]
    if not values.base:
        said = " ".join(samples[0].split())[:300]
        screen.say("The untrained model writes", said, plain=True)
    return Outcome(checks, found, samples)


def written_by(model, tokenizer, prompt, length=40):
    """Return what a model writes after a prompt, each token picked at random."""
    text = tokenizer.eos_token + prompt
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    options = {"do_sample": True, "top_k": 0, "use_cache": True, "max_new_tokens": length}
    written = model.eval().generate(ids.to(model.device), **options)[0]
    return tokenizer.decode(written, skip_special_tokens=True)


def show_row(screen, tokenizer, inputs, targets, logits, number=6):
    """Print the first tokens of a row: what is read, the answer, and its probability as it is."""
    chances = logits.detach().softmax(-1)
    lines = []
    for read, answer, chance in list(zip(inputs, targets, chances, strict=True))[:number]:
        p = chance[answer].item()
        read, answer = tokenizer.decode(read), tokenizer.decode(answer)
        lines.append(f"{read!r} → {answer!r}   P = {p:.2%}   -ln P = {-math.log(p):.2f}")
    lines.append(
        f"A guess would give each {1 / logits.size(-1):.2%}; some are above it by luck. The loss "
        "is the average of -ln P over all predictions of the batch."
    )
    screen.say(
        "One row: each token → the right next token, and the probability that it gets now", lines
    )


def judge(words, model, tokenizer, loss, inputs):
    """Return the checks of an untrained (or pretrained) model, and the values of the words."""
    V, count, base = len(tokenizer), model.num_parameters(), words.project.settings.get("base")
    embedding = model.get_input_embeddings()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    moved = leak(model, inputs)
    found = {
        "V": V,
        "uniform": math.log(V),
        "count": count,
        "loss": loss,
        "choices": math.exp(loss),
        "silent": silent[:3],
    }
    found |= {"share": embedding.weight.numel() / count, "answer": f"{loss:.2f}"}
    found |= shown_if(new=not base, old=base, untrained=not base)
    if base:
        same, found["arithmetic"] = True, "as its name says"
        good, found["start"] = loss < math.log(V) - 1, f"< ln V = {math.log(V):.2f}"
    else:
        right, initial = parameters(model.config), initial_loss(V, model.config.hidden_size)
        same, found["arithmetic"] = count == right, f"{right:,}"
        good, found["start"] = abs(loss - initial) < 0.15, f"{initial:.2f} ± 0.15"
    start = words.check(
        "loss before training", f"{loss:.2f}", good, "warn" if base else "fail", **found
    )
    rows = embedding.num_embeddings
    checks = [
        words.check("parameters", f"{count:,}", same, "warn", **found),
        start,
        words.check("parts without a gradient", len(silent), not silent, **found),
        words.check("effect of later tokens on earlier logits", f"{moved:.1g}", moved < 1e-4),
        words.check("tokens that the model has a vector for", f"{rows:,}", rows >= V, **found),
    ]
    return checks, found


def load_tokenizer(project):
    """Return the project's tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(project.out / "tokenizer")


def leak(model, inputs):
    """Return how far the logits of the first half move if the second half of (B, T) changes."""
    import torch

    half = inputs.size(1) // 2
    other = inputs.clone()
    other[:, half:] = other[:, half:].flip(1).roll(1, 0)
    with torch.no_grad():
        past = [model(x, use_cache=False).logits[:, :half] for x in (inputs, other)]
    return (past[0] - past[1]).abs().max().item()
