"""The plan: size, vocabulary, context, batch and updates, chosen once from the data and the machine, each with its reason.

For text of your own, three rules of thumb from research, and one of patience:
- about 20 tokens for every parameter (Hoffmann et al. 2022, "Chinchilla");
- a text may be shown up to 4 times, nearly as good as new text (Muennighoff et al. 2023);
- an update costs 6 operations a parameter and token (Kaplan et al. 2020);
- the run should end while you still remember why you started it.
"""

import ast
import json
import math
import re
import shlex
from pathlib import Path

from handrail.project.project import PROGRAM, Stop

OPEN = "HuggingFaceTB/SmolLM2-135M-Instruct"  # if no model is named: small, open, can chat

# the built-in world: tried, not calculated
VILLAGE = {"size": "1m", "context": 128, "batch": 32, "updates": 1000, "vocabulary": 1024}

PATIENCE = {True: 4 * 60, False: 60 * 60}  # seconds: with the CPU alone, with a GPU
USED = 0.4  # of the speed measured for one large product of matrices, a whole update reaches about this part
EPOCHS, PER_PARAMETER = 4, 20
CONTEXTS = {
    "1m": 256,
    "5m": 256,
    "25m": 512,
}  # the longest that is worth it; 1024 for the larger ones


def sizes(project):
    """Return {name: (layers, width)} as model.py has it: the project's own, once it is there."""
    file = project.folder / "model.py"
    tree = ast.parse((file if file.exists() else PROGRAM / "model.py").read_text())
    found = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "SIZES"
    ]
    return ast.literal_eval(found[0])


def check_size(project):
    """Raise Stop for a size that model.py does not have."""
    size = project.settings.get("size", "auto")
    if size != "auto" and size not in sizes(project):
        raise Stop(
            f"There is no size {size!r}. The sizes: {' '.join(sizes(project))}, or auto (chosen from data and machine)."
        )


def machine(project):
    """Return what the machine step measured."""
    file = project.out / "machine.json"
    if not file.exists():
        raise Stop(f"This machine was not measured yet. First: {project.command('machine')}")
    return json.loads(file.read_text())


def power_of_two(number, least, most):
    return int(min(most, max(least, 2 ** round(math.log2(max(1, number))))))


def bytes_per_token(vocabulary):
    """Return how many bytes of ordinary text one token holds, about; measured on English documentation (see LOG.md)."""
    return 0.37 * math.log2(vocabulary) - 1.4


def parameters(shape, vocabulary):
    layers, width = shape
    return 12 * layers * width**2 + vocabulary * width


def check_trainable(base):
    """Raise Stop for what is on this disk and no model to train: a LoRA adapter, a GGUF file."""
    folder = Path(base).expanduser()
    adapter, files = folder / "adapter_config.json", [folder]
    if adapter.exists() and not (folder / "config.json").exists():
        below = json.loads(adapter.read_text()).get("base_model_name_or_path")
        merge = (
            "import sys; from peft import AutoPeftModelForCausalLM as Model; "
            "from transformers import AutoTokenizer as Tokens; "
            "Model.from_pretrained(sys.argv[1]).merge_and_unload().save_pretrained(sys.argv[3]); "
            "Tokens.from_pretrained(sys.argv[2]).save_pretrained(sys.argv[3])"
        )
        command = ["python", "-c", merge, str(folder), str(below), f"{folder}-merged"]
        raise Stop(
            f"{base} holds a LoRA adapter: small corrections to {below}, and no model by itself. "
            f"Merge it into its base once, and then start from that: --from {folder}-merged\n"
            f"  {shlex.join(command)}"
        )
    if folder.is_dir() and not (folder / "config.json").exists():
        files = sorted(folder.iterdir())
    if gguf := [file for file in files if file.suffix.lower() == ".gguf" and file.exists()]:
        raise Stop(
            f"{base}: a GGUF file ({gguf[0].name}) is made for running a model (llama.cpp, "
            "Ollama), not for training it. handrail needs the same model as a Transformers folder: config.json, "
            "tokenizer.json and .safetensors files. Its page on https://huggingface.co usually "
            "names it, and the hub name is enough: --from OWNER/NAME"
        )


def opened(kind, base, **how):
    """Return what an Auto class of Transformers makes of a pretrained model, without running anybody's program; raise Stop if it cannot."""
    from huggingface_hub.errors import StrictDataclassError

    check_trainable(base)
    try:
        return kind.from_pretrained(base, trust_remote_code=False, **how)
    except (OSError, ValueError, StrictDataclassError) as error:
        if "trust_remote_code" in str(error):
            raise Stop(
                f"The model {base} comes with a Python program of its own, and opening it would run that program here, with all your rights. "
                "handrail runs nobody else's program. Choose a model that Transformers itself knows (--from)."
            ) from error
        if str(base).startswith(("/", ".", "~")) and not Path(base).exists():
            raise Stop(
                f"There is no folder {base}. Look with `ls`, then name it again: --from THE/RIGHT/PATH"
            ) from error
        if Path(base).is_dir():
            raise Stop(
                f"The model in {base} could not be opened: {' '.join(str(error).split())[:300]}\nIs its config.json whole, and its model_type one that this Transformers knows?"
            ) from error
        raise Stop(
            f"The model {base} could not be opened: {str(error).splitlines()[0]}\nIs the name right "
            f"(https://huggingface.co/{base})? If it asks who you are: hf auth login\nIf HF_HUB_OFFLINE is set: unset HF_HUB_OFFLINE\n"
            "To start from nothing instead, take the line `base = ...` out of settings.toml."
        ) from error


def check_weights(base):
    """Raise Stop for weights that are pickled, and for a file of weights that is not whole."""
    from safetensors import SafetensorError, safe_open
    from transformers.utils import has_file

    there = [
        any(has_file(base, name + end) for end in ("", ".index.json"))
        for name in ("model.safetensors", "pytorch_model.bin")
    ]
    if there == [False, True]:
        raise Stop(
            f"The weights of {base} are pickled (pytorch_model.bin). A pickle can run any program on your machine while it is opened, so "
            "handrail opens none. Choose a model with .safetensors files, or, if you trust where it comes from, make a copy that is one:\n"
            f"  python -c \"from transformers import *; [kind.from_pretrained('{base}').save_pretrained('safe-copy') "
            'for kind in (AutoModelForCausalLM, AutoTokenizer)]"\nThen: --from safe-copy'
        )
    for file in sorted(Path(base).glob("*.safetensors")):
        try:
            safe_open(file, "pt")
        except SafetensorError as error:
            raise Stop(
                f"{file} is not whole ({error}): its download or copy was interrupted. Fetch it again."
            ) from error


def base_parameters(base):
    """Return how many parameters a pretrained model has, from its configuration alone."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = opened(AutoConfig, base)
    check_weights(base)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config).num_parameters()


def choose_size(shapes, vocabulary, tokens, operations, memory):
    """Return the largest size that gets 20 tokens a parameter, in the time and the memory there are; else the smallest."""
    best = next(iter(shapes))
    for name, shape in shapes.items():
        n = parameters(shape, vocabulary)
        if (
            PER_PARAMETER * n <= EPOCHS * tokens
            and 6 * n * PER_PARAMETER * n <= operations
            and 16 * n <= memory / 2
        ):
            best = name
    return best


def choose(project, fixed, bytes_, documents):
    """Return {name: (value, why)} for texts of one's own; `fixed` is what a person has set."""
    m, cpu = machine(project), project.cpu
    tokens, memory = bytes_ / 4, m["memory_gb"] * 1e9
    speed = m["tflops"] * 1e12 * USED  # operations a second
    operations = speed * PATIENCE[cpu]
    time = "4 minutes on this CPU" if cpu else "an hour on this GPU"
    chosen = {}
    if fixed.get("base"):
        n, most, epochs, least = base_parameters(fixed["base"]), 256 if cpu else 1024, 3, 2048
    else:
        vocabulary = fixed.get("vocabulary") or power_of_two(math.sqrt(tokens), 512, 32768)
        chosen["vocabulary"] = (
            vocabulary,
            f"a power of two near the square root of a quarter of your {bytes_:,.0f} bytes",
        )
        tokens = bytes_ / bytes_per_token(vocabulary)
        size = fixed.get("size", "auto")
        if size == "auto":
            size = choose_size(sizes(project), vocabulary, tokens, operations, memory)
        why = f"the largest that gets {PER_PARAMETER} tokens a parameter from your text in {time}; else the smallest"
        chosen["size"] = size, why
        n, most, epochs, least = (
            parameters(sizes(project)[size], vocabulary),
            CONTEXTS.get(size, 1024),
            EPOCHS,
            4096,
        )
    if 16 * n > memory:  # weights, gradients and two averages, in 32 bits
        raise Stop(
            f"{n / 1e9:.2g} billion parameters need {16 * n / 1e9:.0f} GB to train, this machine ({m['name']}) has "
            f"{memory / 1e9:.0f} GB. Choose a smaller one: --size or --from"
        )
    context = fixed.get("context") or power_of_two(1.5 * tokens / documents, 128, most)
    chosen["context"] = (
        context,
        f"your documents have about {tokens / documents:,.0f} tokens; at most {most} for this model here",
    )
    seen = min(epochs * tokens, max(operations / (6 * n), 50 * least))
    batch = fixed.get("batch") or max(1, power_of_two(seen / 2000, least, 2**19) // context)
    chosen["batch"] = (
        batch,
        f"{batch * context:,} tokens an update: enough for a steady direction, few enough for many updates",
    )
    updates = fixed.get("updates") or max(50, math.ceil(seen / (batch * context)))
    used = updates * batch * context
    chosen["updates"] = (
        updates,
        f"{used / tokens:.1f} epochs of your text, about {max(1, 6 * n * used / speed / 60):.0f} min here",
    )
    return chosen


def persons(project, part=""):
    """Return {name: value} of the settings (or of a part of them) that a person has set: all that differ from the last plan."""
    last = last_plan(project, part)
    settings = project.settings.get(part, {}) if part else project.settings
    return {
        name: value
        for name, value in settings.items()
        if value != "auto"
        and (last.get(name) != value or project.asked(f"{part}.{name}" if part else name))
    }


def last_plan(project, part=""):
    note = plan_note(project, part)
    return json.loads(note.read_text()) if note.exists() else {}


def plan_note(project, part):
    return project.out / (f"plan-{part}.json" if part else "plan.json")


def settle(project, chosen, part=""):
    """Write a plan {name: (value, why)} into settings.toml; what a person has set there stays. Return what was written."""
    fixed, last = persons(project, part), last_plan(project, part)
    dot = f"{part}." if part else ""
    for name in last.keys() - chosen.keys() - fixed.keys():
        project.decide(dot + name, None)  # of an earlier plan
    chosen = {name: reasoned for name, reasoned in chosen.items() if name not in fixed}
    for name, (value, why) in chosen.items():
        project.decide(dot + name, value, why)
    note = plan_note(project, part)
    note.parent.mkdir(exist_ok=True)
    note.write_text(json.dumps({name: value for name, (value, _) in chosen.items()}))
    return chosen


def plan(project, bytes_, documents, prompt):
    """Write the plan into settings.toml; what a person has set there stays. Return what was chosen: {name: (value, why)}."""
    fixed = persons(project)
    if fixed.get("world"):
        chosen = {
            name: (value, "tested with the built-in stories") for name, value in VILLAGE.items()
        }
    else:
        chosen = choose(project, fixed, bytes_, documents)
    chosen["prompt"] = (
        prompt,
        "the first words of a val document",
    )
    return settle(project, chosen)


def tokens_needed(project):
    """Return how many tokens of text the model that is meant can use: 20 a parameter, shown up to 4 times."""
    settings, shapes = project.settings, sizes(project)
    if settings.get("world") or settings["data"] == "village":
        return VILLAGE["updates"] * VILLAGE["batch"] * VILLAGE["context"] // EPOCHS
    shape = shapes.get(settings.get("size")) or next(iter(shapes.values()))
    return PER_PARAMETER * parameters(shape, 2048) // EPOCHS


# --- questions and answers ---

OWN = {"lr": 7e-3, "batch": 16}  # for a small model of one's own: tried, not calculated
WAIT = {True: 30 * 60, False: 60 * 60}  # seconds of fine-tuning at most: on the CPU, on a GPU
SHOWN = 60_000, 12  # rows that are shown once; how often the fewest are shown
OWN_LR = {"dpo": 3e-4, "grpo": 1e-3}  # tried out, for a small model of one's own
PAIRS_SHOWN = 1_200, 6  # the same of pairs
GB = 1e9
REPLY = 80  # tokens that the later steps let the model write after a question
QLORA = """
  from transformers import BitsAndBytesConfig
  four = BitsAndBytesConfig(
      load_in_4bit=True,
      bnb_4bit_quant_type="nf4",
      bnb_4bit_compute_dtype=torch.bfloat16,
  )
  model = AutoModelForCausalLM.from_pretrained(settings.model, quantization_config=four)"""


def choose_method(project):
    """Return (method, why): what a person set, else full fine-tuning or LoRA, by the memory."""
    parameters = base_parameters(project.settings.get("base") or str(project.out / "model"))
    fixed = persons(project, "finetune")
    if "method" in fixed:
        return fixed["method"], ""
    memory = machine(project)["memory_gb"]
    full, lora = 16 * parameters / GB, 4.5 * parameters / GB
    if not project.settings.get("base"):
        return "full", f"your own model is small: all of its weights may move ({full:.2g} GB)"
    if lora > memory:
        raise Stop(
            f"{parameters / 1e9:.2g} billion weights need {lora:.0f} GB with LoRA, and this "
            f"machine has {memory:.0f} GB. Choose a smaller model (--from), or try QLoRA, on CUDA: "
            f"pip install bitsandbytes, and in `load` of finetune.py:{QLORA}"
        )
    return "lora", (
        "small corrections are trained, and not the model itself: that needs about "
        f"{lora:.1f} GB instead of {full:.1f}, and forgets less of what the model knew"
    )


def learned_positions(model):
    """Return how many tokens a model can read at once if its positions are in a table.

    That is so in GPT-2 and OPT. None: they are calculated, and have no end.
    """
    tensors = [*model.named_parameters(), *model.named_buffers()]
    if any(re.search("wpe|position", name) for name, _ in tensors):
        return model.config.get_text_config().max_position_embeddings
    return None


def choose_context(project, lengths, limit):
    """Return the context: what a person set, else a power of two that the examples fit into.

    `lengths` are the tokens of the examples. `limit` is how many the model can read, if that is
    limited; the machine sets a limit too.
    """
    fixed = persons(project, "finetune").get("context")
    room = limit - REPLY if limit else math.inf
    if room < 1:
        raise Stop(
            f"This model reads {limit} tokens at once, question and reply together: too few for "
            f"replies of up to {REPLY}. Choose another one: --from"
        )
    if fixed and fixed > room:
        raise Stop(
            f"finetune.context = {fixed} in settings.toml: this model reads {limit} tokens at "
            f"once, and {REPLY} of them are kept for its reply. Delete that line."
        )
    most = min(1024 if project.cpu else 4096, room)
    longest = max((length for length in lengths if length <= most), default=1)
    least = 512 if project.settings.get("base") else 256
    return fixed or min(max(2 ** math.ceil(math.log2(longest)), least), most)


def passes(rows, once, most):
    """Return how often rows are shown: `once` rows or more once, fewer the more often, as 1/sqrt."""
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


def speed_of(project, method, model):
    """Return how many tokens a second are trained: LoRA needs no gradients of the frozen weights."""
    # looking up a token's embedding takes no time
    parameters = model.num_parameters() - model.get_input_embeddings().weight.numel()
    operations = machine(project)["tflops"] * 1e12 * USED
    return operations / ((4 if method == "lora" else 6) * parameters)


def minutes(seconds):
    return "under a minute" if seconds < 50 else f"about {math.ceil(seconds / 60)} min"


def times(number):
    return f"{number:.0f} passes" if number >= 1.5 else f"{number:.1f} passes"


def repeated(project, part, rows, tokens, shown, speed, batch=0):
    """Return (batch, updates, why) for so many passes through `rows`, as far as time allows.

    `tokens` are those of a pass, `speed` tokens a second.
    """
    most = WAIT[project.cpu] * speed / tokens
    cut = most < shown and shown > 1 or most < 1
    shown = min(shown, most)
    fixed = persons(project, part)
    batch = fixed.get("batch") or batch or power_of_two(shown * rows / 400, 8, 64)
    updates = fixed.get("updates") or max(1, math.ceil(shown * rows / batch))
    shown = updates * batch / rows
    why = f"{times(shown)} through your {rows:,} rows, {minutes(shown * tokens / speed)} here"
    if cut and "updates" not in fixed:
        why += "; more would be better, but take longer"
    return batch, updates, why


def plan_finetuning(project, lengths, method, model, context, packed):
    """Write the settings of the fine-tuning; return {name: (value, why)} of those that were chosen.

    `lengths` are the tokens of each row, method is (name, why).
    """
    base, config = project.settings.get("base"), model.config.get_text_config()
    kind = persons(project, "finetune").get("method", method[0])
    speed = speed_of(project, kind, model)
    village = not base and not project.settings.get("answers")  # tried out, on any machine
    shown = 1 if village else passes(len(lengths), *SHOWN)
    batch = 0 if base else OWN["batch"]
    batch, updates, why = repeated(
        project, "finetune", len(lengths), sum(lengths), shown, speed, batch
    )
    if village:
        updates = math.ceil(len(lengths) / batch)
    chosen = {
        "model": (base or "out/model", "the model that learns to answer"),
        "method": method,
        "context": (context, f"tokens in one packed row; your longest example has {max(lengths)}"),
        "batch": (batch, "examples per update"),
        "updates": (updates, why),
        "lr": (
            lr_of(kind, config.hidden_size) if base else OWN["lr"],
            f"for {kind}, and a model {config.hidden_size} numbers wide"
            if base
            else "tried out for small models",
        ),
    }
    if not packed:
        chosen["packed"] = (
            False,
            "laid end to end, rows would read each other in this model, so each is alone; slower",
        )
    return settle(project, chosen, "finetune")


def continued(project, part, method, width, chosen):
    """Return a plan for what follows the fine-tuning, with what it takes over from it.

    `chosen` is {name: (value, why)} of batch and updates.
    """
    finetune, base = project.settings["finetune"], project.settings.get("base")
    context = persons(project, part).get("context", finetune["context"])
    plan = {
        "model": ("out/finetune/model", "the model that can answer"),
        "method": (method, "as in the fine-tuning"),
        "context": (context if base else max(512, context), "as in the fine-tuning"),
        "lr": (OWN_LR[part], "tried out for small models")
        if not base
        else (lr_of(method, width) / 5, "a fifth of the fine-tuning's: it can answer already"),
    }
    if not finetune.get("packed", True):
        plan["packed"] = (False, "as in the fine-tuning")
    return plan | chosen


def plan_pairs(project, lengths, model, tried=None):
    """Write the settings of DPO; `lengths` are the tokens of each pair, both answers together."""
    finetune = project.settings["finetune"]
    method = persons(project, "dpo").get("method", finetune["method"])
    speed = speed_of(project, method, model)
    shown = passes(len(lengths), *PAIRS_SHOWN)
    tokens = 1.3 * sum(lengths)  # and once forward, for the reference
    batch = tried["batch"] if tried else 8 if len(lengths) < 500 else 32
    if tried:
        shown = tried["updates"] * batch / len(lengths)
    batch, updates, why = repeated(project, "dpo", len(lengths), tokens, shown, speed, batch)
    chosen = {
        "batch": (batch, "pairs per update"),
        "updates": (updates, why.replace("rows", "pairs")),
    }
    if tried:
        chosen["updates"] = (tried["updates"], f"tried out; {why.replace('rows', 'pairs')}")
    width = model.config.get_text_config().hidden_size
    return settle(project, continued(project, "dpo", method, width, chosen), "dpo")


def plan_verdicts(project, prompt, reply, group, model, tried=None):
    """Write the settings of GRPO; a question has `prompt` tokens, and `group` replies of `reply`."""
    finetune, m = project.settings["finetune"], machine(project)
    method = persons(project, "grpo").get("method", finetune["method"])
    fixed, n = persons(project, "grpo"), model.num_parameters()
    batch = fixed.get("batch") or (tried["batch"] if tried else 8)
    answers = batch * group
    # each token of a reply reads all weights once, however many replies are written together
    writing = reply * 4 * n / (m["bandwidth"] * 1e9)
    writing += 2 * n * answers * reply / (m["tflops"] * 1e12 * USED)
    one = writing + answers * (prompt + reply) / speed_of(project, method, model)
    updates = tried["updates"] if tried else max(10, min(120, int(WAIT[project.cpu] / one)))
    updates = fixed.get("updates") or updates
    chosen = {
        "batch": (batch, f"questions per update, each answered {group} times"),
        "updates": (updates, f"{answers} answers each, {minutes(updates * one)} here"),
    }
    width = model.config.get_text_config().hidden_size
    return settle(project, continued(project, "grpo", method, width, chosen), "grpo")
