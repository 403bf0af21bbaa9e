"""The plan: size, vocabulary, context, batch and updates, chosen from the data and the machine.

Each value has its reason (plan.md), and what a person has set stays. For text of your own, three
rules of thumb from research, and one of patience:
- about 20 tokens for every parameter (Hoffmann et al. 2022, "Chinchilla");
- a text may be shown up to 4 times, nearly as good as new text (Muennighoff et al. 2023);
- an update costs 6 operations a parameter and token (Kaplan et al. 2020);
- the run should end while you still remember why you started it.
"""

import ast
import json
import math
from pathlib import Path

from handrail.project import words
from handrail.project.pretrained import base_parameters
from handrail.project.project import PROGRAM, stop

OPEN = "HuggingFaceTB/SmolLM2-135M-Instruct"  # if no model is named: small, open, can chat
REASONS = Path(__file__).with_suffix(".md")

# the built-in world: tried, not calculated
VILLAGE = {"size": "1m", "context": 128, "batch": 32, "updates": 1000, "vocabulary": 1024}
TRIED = "tested with the built-in stories"

PATIENCE = {True: 4 * 60, False: 60 * 60}  # seconds: with the CPU alone, with a GPU
WAITING = {True: "4 minutes on this CPU", False: "an hour on this GPU"}
USED = 0.4  # of the speed of one large product of matrices, a whole update reaches about this part
EPOCHS, PER_PARAMETER = 4, 20
CONTEXTS = {"1m": 256, "5m": 256, "25m": 512}  # the longest that is worth it; 1024 for larger ones


def machine(project):
    """Return what the machine step measured."""
    file = project.out / "machine.json"
    if not file.exists():
        raise stop("not measured", command=project.command("machine"))
    return json.loads(file.read_text())


def power_of_two(number, least, most):
    return int(min(most, max(least, 2 ** round(math.log2(max(1, number))))))


def minutes(seconds):
    return "under a minute" if seconds < 50 else f"about {math.ceil(seconds / 60)} min"


def times(number):
    return f"{number:.0f} passes" if number >= 1.5 else f"{number:.1f} passes"


# --- what was chosen, and by whom ---


def note_of(project, part):
    """Return the file that holds the last plan for a part of the settings ("": a training)."""
    return project.out / (f"plan-{part}.json" if part else "plan.json")


def last_plan(project, part):
    note = note_of(project, part)
    return json.loads(note.read_text()) if note.exists() else {}


def persons(project, part=""):
    """Return {name: value} of the settings (or of a part of them) that a person has set.

    These are all that differ from the last plan, and those that were typed.
    """
    last, dot = last_plan(project, part), f"{part}." if part else ""
    settings = project.settings.get(part, {}) if part else project.settings
    return {
        name: value
        for name, value in settings.items()
        if value != "auto" and (last.get(name) != value or project.asked(dot + name))
    }


def reasoned(part, chosen, **facts):
    """Return {name: (value, why)} of {name: value}, by the reasons in plan.md."""
    reasons = words.parts(REASONS)
    whys = {name: reasons.get(f"{part}.{name}") or reasons[name] for name in chosen}
    return {name: (chosen[name], " ".join(words.fill(why, facts))) for name, why in whys.items()}


def settle(project, chosen, part=""):
    """Write a plan {name: (value, why)} into settings.toml; return what was written.

    What a person has set there stays.
    """
    fixed, dot = persons(project, part), f"{part}." if part else ""
    for name in last_plan(project, part).keys() - chosen.keys() - fixed.keys():
        project.decide(dot + name, None)  # of an earlier plan
    chosen = {name: both for name, both in chosen.items() if name not in fixed}
    for name, (value, why) in chosen.items():
        project.decide(dot + name, value, why)
    note = note_of(project, part)
    note.parent.mkdir(exist_ok=True)
    note.write_text(json.dumps({name: value for name, (value, _) in chosen.items()}))
    return chosen


# --- learning from texts ---


def sizes(project):
    """Return {name: (layers, width)} as model.py has it: the project's own, once it is there."""
    own = project.folder / "model.py"
    file = own if own.exists() else PROGRAM / "model.py"
    try:
        tree = ast.parse(file.read_text(), file.name)
    except SyntaxError as error:
        raise stop("program unreadable", folder=project.folder, error=error) from error
    values = (node.value for node in tree.body if ast.unparse(node).startswith("SIZES = "))
    return ast.literal_eval(next(values))


def check_size(project, size=None):
    """Raise Stop for a size (by default the settings') that model.py does not have."""
    size, known = size or project.settings.get("size", "auto"), sizes(project)
    if size not in ["auto", *known]:
        raise stop("no such size", size=size, sizes=" ".join(known))


def bytes_per_token(vocabulary):
    """Return how many bytes of ordinary text one token holds, about.

    Measured on English documentation (see LOG.md).
    """
    return 0.37 * math.log2(vocabulary) - 1.4


def parameters(shape, vocabulary):
    layers, width = shape
    return 12 * layers * width**2 + vocabulary * width


def tokens_needed(project):
    """Return how many tokens of text the model that is meant can use, shown up to 4 times."""
    settings, shapes = project.settings, sizes(project)
    if settings.get("world") or settings["data"] == "village":
        return VILLAGE["updates"] * VILLAGE["batch"] * VILLAGE["context"] // EPOCHS
    shape = shapes.get(settings.get("size")) or next(iter(shapes.values()))
    return PER_PARAMETER * parameters(shape, 2048) // EPOCHS


def choose_size(shapes, vocabulary, tokens, operations, memory):
    """Return the largest size that gets its tokens, in the time and the memory there are.

    If there is none, the smallest.
    """
    best = next(iter(shapes))
    for name, shape in shapes.items():
        n = parameters(shape, vocabulary)
        wanted = PER_PARAMETER * n
        if wanted <= EPOCHS * tokens and 6 * n * wanted <= operations and 16 * n <= memory / 2:
            best = name
    return best


def choose(project, fixed, bytes_, documents):
    """Return {name: (value, why)} for texts of one's own; `fixed` is what a person has set."""
    here, cpu, chosen = machine(project), project.cpu, {}
    tokens, memory = bytes_ / 4, here["memory_gb"] * 1e9
    speed = here["tflops"] * 1e12 * USED  # operations a second
    operations = speed * PATIENCE[cpu]
    if fixed.get("base"):
        n, most, epochs, least = base_parameters(fixed["base"]), 256 if cpu else 1024, 3, 2048
    else:
        vocabulary = fixed.get("vocabulary") or power_of_two(math.sqrt(tokens), 512, 32768)
        tokens = bytes_ / bytes_per_token(vocabulary)
        shapes, size = sizes(project), fixed.get("size", "auto")
        if size == "auto":
            size = choose_size(shapes, vocabulary, tokens, operations, memory)
        chosen = {"vocabulary": vocabulary, "size": size}
        n, most = parameters(shapes[size], vocabulary), CONTEXTS.get(size, 1024)
        epochs, least = EPOCHS, 4096
    check_memory(n, 16, here, "too large to train")
    length = tokens / documents
    context = fixed.get("context") or power_of_two(1.5 * length, 128, most)
    seen = min(epochs * tokens, max(operations / (6 * n), 50 * least))
    batch = fixed.get("batch") or max(1, power_of_two(seen / 2000, least, 2**19) // context)
    updates = fixed.get("updates") or max(50, math.ceil(seen / (batch * context)))
    used = updates * batch * context
    return reasoned(
        "texts",
        chosen | {"context": context, "batch": batch, "updates": updates},
        bytes=bytes_,
        per_parameter=PER_PARAMETER,
        patience=WAITING[cpu],
        length=length,
        most=most,
        tokens=batch * context,
        epochs=used / tokens,
        token=bytes_ / tokens,
        minutes=max(1, 6 * n * used / speed / 60),
    )


def check_memory(parameters, each, here, why):
    """Raise Stop where a model that takes so many bytes `each` parameter does not fit."""
    needed, memory = each * parameters / 1e9, here["memory_gb"]
    if needed > memory:
        billions = parameters / 1e9
        raise stop(why, billions=billions, needed=needed, memory=memory, name=here["name"])


def plan(project, bytes_, documents, prompt):
    """Write the plan into settings.toml; return what was chosen: {name: (value, why)}."""
    fixed = persons(project)
    if fixed.get("world"):
        chosen = {name: (value, TRIED) for name, value in VILLAGE.items()}
    else:
        chosen = choose(project, fixed, bytes_, documents)
    return settle(project, chosen | {"prompt": (prompt, "the first words of a val document")})


# --- learning from questions and answers ---

OWN = {"lr": 7e-3, "batch": 16}  # for a small model of one's own: tried, not calculated
WAIT = {True: 30 * 60, False: 60 * 60}  # seconds of fine-tuning at most: on the CPU, on a GPU
SHOWN = 60_000, 12  # rows that are shown once; how often the fewest are shown
BY_HEART = 6  # passes from which on the answers are meant to be known
PAIRS_SHOWN = 1_200, 6  # the same of pairs
REPLY = 80  # tokens that the later steps let the model write after a question


def choose_method(project):
    """Return (method, why): what a person set, else full fine-tuning or LoRA, by the memory."""
    base, reasons = project.settings.get("base"), words.parts(REASONS)
    parameters = base_parameters(base or str(project.out / "model"))
    fixed = persons(project, "finetune")
    if "method" in fixed:
        return fixed["method"], ""
    needs = {"full": 16 * parameters / 1e9, "lora": 4.5 * parameters / 1e9}  # GB
    if not base:
        return "full", words.fill(reasons["method of your own model"], needs)[0]
    check_memory(parameters, 4.5, machine(project), "too large for LoRA")
    return "lora", words.fill(reasons["method of an open model"], needs)[0]


def choose_context(project, lengths, limit):
    """Return the context: what a person set, else a power of two that the examples fit into.

    `lengths` are the tokens of the examples. `limit` is how many the model can read, if that is
    limited; the machine sets a limit too.
    """
    fixed = persons(project, "finetune").get("context")
    room = limit - REPLY if limit else math.inf
    if room < 1:
        raise stop("reads too little", limit=limit, reply=REPLY)
    if fixed and fixed > room:
        raise stop("context too long", context=fixed, limit=limit, reply=REPLY)
    most = min(1024 if project.cpu else 4096, room)
    longest = max((length for length in lengths if length <= most), default=1)
    least = 512 if project.settings.get("base") else 256
    return fixed or min(max(2 ** math.ceil(math.log2(longest)), least), most)


def passes(rows, once, most):
    """Return how often rows are shown: `once` rows or more once, fewer more often, as 1/sqrt."""
    return max(1.0, min(most, math.sqrt(once / rows)))


def lr_of(method, width):
    """Return the learning rate for a model of this width that others trained.

    "LoRA Without Regret" (Schulman et al. 2025): wide models want smaller steps, LoRA ten times
    those of full fine-tuning, which stays below 1e-4. Rounded to two digits.
    """
    lr = 5e-4 * (2000 / width) ** 0.78
    if method == "full":
        lr = min(lr / 10, 9e-5)
    return float(f"{lr:.1e}")


def width_of(model):
    return model.config.get_text_config().hidden_size


def speed_of(project, method, model):
    """Return how many tokens a second are trained: LoRA has no gradients of frozen weights."""
    # looking up a token's embedding takes no time
    parameters = model.num_parameters() - model.get_input_embeddings().weight.numel()
    operations = machine(project)["tflops"] * 1e12 * USED
    return operations / ((4 if method == "lora" else 6) * parameters)


def repeated(project, part, lengths, shown, speed, batch=0):
    """Return (batch, updates, facts) for so many passes through rows, as far as time allows.

    `lengths` are the tokens of each row, `speed` tokens a second; the facts are for the reasons.
    """
    rows, tokens, fixed = len(lengths), sum(lengths), persons(project, part)
    most = WAIT[project.cpu] * speed / tokens
    cut = "updates" not in fixed and (most < shown and shown > 1 or most < 1)
    shown = min(shown, most)
    batch = fixed.get("batch") or batch or power_of_two(shown * rows / 400, 8, 64)
    updates = fixed.get("updates") or max(1, math.ceil(shown * rows / batch))
    shown = updates * batch / rows
    facts = {"passes": times(shown), "rows": rows, "time": minutes(shown * tokens / speed)}
    facts["longer"] = "; more would be better, but take longer" if cut else ""
    return batch, updates, facts


def plan_finetuning(project, lengths, method, model, context, packed):
    """Write the settings of the fine-tuning; return {name: (value, why)} of those that were chosen.

    `lengths` are the tokens of each row, method is (name, why).
    """
    base, width = project.settings.get("base"), width_of(model)
    kind = persons(project, "finetune").get("method", method[0])
    village = not base and not project.settings.get("answers")  # tried out, on any machine
    shown = 1 if village else passes(len(lengths), *SHOWN)
    speed, batch = speed_of(project, kind, model), 0 if base else OWN["batch"]
    batch, updates, facts = repeated(project, "finetune", lengths, shown, speed, batch)
    if village:
        updates = math.ceil(len(lengths) / batch)
    chosen = {"model": base or "out/model", "context": context, "batch": batch, "updates": updates}
    chosen["lr"] = lr_of(kind, width) if base else OWN["lr"]
    if not packed:
        chosen["packed"] = False
    facts |= {"kind": "rows", "longest": max(lengths), "width": width}
    facts |= {"own": None, "method": kind} if base else {"own": ""}
    plan = reasoned("finetune", chosen, **facts) | {"method": method}
    return settle(project, plan, "finetune")


def continued(project, part, model, chosen, lr, **facts):
    """Write the settings of what follows the fine-tuning, most of them taken over from it.

    `chosen` is {name: value} of method, batch and updates, `lr` that of a small model of one's own.
    Return {name: (value, why)}.
    """
    finetune, base = project.settings["finetune"], project.settings.get("base")
    context = persons(project, part).get("context", finetune["context"])
    chosen |= {"model": "out/finetune/model", "context": context if base else max(512, context)}
    chosen["lr"] = lr_of(chosen["method"], width_of(model)) / 5 if base else lr
    if not finetune.get("packed", True):
        chosen["packed"] = False
    facts |= {"own": None, "open": ""} if base else {"own": "", "open": None}
    return settle(project, reasoned(part, chosen, **facts), part)


def method_of(project, part):
    """Return the method of a step after the fine-tuning: the same, if a person did not set one."""
    return persons(project, part).get("method", project.settings["finetune"]["method"])


def plan_pairs(project, part, lengths, model, lr, tried=None):
    """Write the settings of a step that learns from pairs.

    `lengths` are the tokens that each pair takes, `lr` is that of a small model of one's own.
    """
    method, rows = method_of(project, part), len(lengths)
    batch, shown = 8 if rows < 500 else 32, passes(rows, *PAIRS_SHOWN)
    if tried:
        batch, shown = tried["batch"], tried["updates"] * tried["batch"] / rows
    speed = speed_of(project, method, model)
    batch, updates, facts = repeated(project, part, lengths, shown, speed, batch)
    updates = tried["updates"] if tried else updates
    chosen = {"method": method, "batch": batch, "updates": updates}
    return continued(project, part, model, chosen, lr, kind="pairs", **facts)


def plan_verdicts(project, prompt, reply, group, model, lr, tried=None):
    """Write the settings of GRPO: questions of `prompt` tokens, `group` replies of `reply`."""
    method, fixed = method_of(project, "grpo"), persons(project, "grpo")
    batch = fixed.get("batch") or (tried["batch"] if tried else 8)
    here, n, answers = machine(project), model.num_parameters(), batch * group
    # each token of a reply reads all weights once, however many replies are written together
    one = reply * 4 * n / (here["bandwidth"] * 1e9)
    one += 2 * n * answers * reply / (here["tflops"] * 1e12 * USED)
    one += answers * (prompt + reply) / speed_of(project, method, model)
    updates = tried["updates"] if tried else max(10, min(120, int(WAIT[project.cpu] / one)))
    updates = fixed.get("updates") or updates
    chosen = {"method": method, "batch": batch, "updates": updates}
    time = minutes(updates * one)
    return continued(project, "grpo", model, chosen, lr, group=group, answers=answers, time=time)
