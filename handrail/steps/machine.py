"""Machine: know the engine before the trip."""

import copy
import json
import os
import platform
import shutil
import time
from contextlib import nullcontext
from types import SimpleNamespace

from handrail import launch
from handrail.cost.estimate import Vocabulary
from handrail.cost.gpus import known
from handrail.project.project import Stop
from handrail.project.screen import Outcome, check
from handrail.steps.words import Words

FILES = ["settings.py"]
LEAVES = ["machine.json"]

LEAST = 0.05  # TFLOP/s that any processor of today does

# How far off the CPU's an update may be, in loss, gradient (of one tensor: twice that) and step.
# Measured on a CPU: honest 32-bit gradients differ by 0.0001%, the shortened ones (TF32) of some
# GPUs by 0.1%, bf16 by 0.9%; one matrix that is 3% too large makes 1%. AdamW's first step
# follows the gradient's sign, which flips where the gradient is near 0: TF32 3%, bf16 12%.
LIMITS_32 = {"loss": 1e-4, "gradient": 0.005, "step": 0.1}
LIMITS_16 = {"loss": 1e-3, "gradient": 0.05, "step": 0.3}


def expect(project):
    if project.cpu:
        little = "fine-tune a small model on a short file in a quarter of an hour"
        if from_scratch(project):
            little = "train a one-million-parameter model in minutes"
        cores = {"cores": os.cpu_count(), "enough": little}
        return cores | {"gpu": None, "promised": "", "compared": None}
    name = launch.gpu() or "a GPU"
    card = known(name)
    promised = "handrail has no data sheet of this card: its speed is only measured."
    if card:
        promised = f"Its data sheet promises {card['tflops']} TFLOP/s."
    return {"cores": None, "gpu": name, "promised": promised, "compared": ""}


def from_scratch(project):
    """Return True if the model is new: neither is another model continued, nor fine-tuned."""
    return not project.settings.get("base") and not project.settings.get("answers")


def wait(device):
    import torch

    if device.type != "cpu":
        torch.accelerator.synchronize()


def best_time(work, device, repeats=5):
    """Return the shortest of some timings of work(), in seconds, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def measure(device, kind):
    """Return TFLOP/s of a matrix product and GB/s of a copy, measured."""
    import torch

    size = 1024 if device.type == "cpu" else 8192
    a = torch.randn(size, size, device=device, dtype=kind)
    tflops = 2 * size**3 / best_time(lambda: a @ a, device) / 1e12
    b = torch.randn(size * size * (16 if device.type == "cpu" else 4), device=device)
    return tflops, 2 * b.nbytes / best_time(b.clone, device) / 1e9


def example():
    """Return a new model of size 1m and a batch (32, 129) of random tokens, the same each time."""
    import torch

    from handrail.program.model import build

    torch.manual_seed(0)
    size = SimpleNamespace(base="", size="1m", context=128)
    return build(size, Vocabulary(range(1024))), torch.randint(1024, (32, 129))


def one_update(model, rows, device, number_format=None):
    """Update a copy of `model` once on `device`; return its loss, gradient and step, on the CPU."""
    import torch
    import torch.nn.functional as F

    twin, rows = copy.deepcopy(model).to(device), rows.to(device)
    with number_format or nullcontext():
        logits = twin(rows[:, :-1], use_cache=False).logits  # (B, T, V)
    targets = rows[:, 1:].flatten()  # a sum: the gradients of a mean are too small for fp16
    loss = F.cross_entropy(logits.flatten(0, 1).float(), targets, reduction="sum")
    loss.backward()
    torch.optim.AdamW(twin.parameters()).step()
    weights, start = twin.state_dict(), model.state_dict()
    return {
        "loss": {"loss": loss.detach().cpu()},
        "gradient": {name: p.grad.cpu() for name, p in twin.named_parameters()},
        "step": {name: weights[name].cpu() - start[name] for name, _ in model.named_parameters()},
    }


def distance(found, right):
    """Return |found - right| / |right| of two dicts of tensors."""
    import torch

    found, right = (torch.cat([t.flatten() for t in part.values()]) for part in (found, right))
    return ((found - right).norm() / right.norm()).item()


def judge(name, found, right, limits, otherwise="fail"):
    """Return the check that an update `found` on the device is the one that is `right`."""
    apart = {part: distance(found[part], right[part]) for part in limits}
    alone = {n: distance({0: g}, {0: right["gradient"][n]}) for n, g in found["gradient"].items()}
    worst = max(alone, key=alone.get)
    good = all(apart[part] <= limit for part, limit in limits.items())  # false for NaN too
    return check(
        f"loss, gradient, step in {name}",
        "the CPU's, ± " + ", ".join(f"{limit:.2g}" for limit in limits.values()),
        "off by " + ", ".join(f"{value:.1g}" for value in apart.values()),
        good and alone[worst] <= 2 * limits["gradient"],
        "The same update of the same small model gives other numbers on the CPU, by more than "
        "rounding does. A model trained here would learn the wrong thing, and nothing would crash: "
        "driver, torch or card is faulty. Most wrong: "
        f"gradient of {worst}, {alone[worst]:.1%} off.",
        "update the driver and torch (`python -m torch.utils.collect_env` shows both), restart, "
        "and take this step again. Until then, add --cpu to the command.",
        otherwise,
    )


def compare_with_cpu(accelerator):
    """Return the checks that the device computes what the CPU does: wrong numbers crash nothing."""
    if accelerator.device.type == "cpu":
        nothing = "this is the CPU: nothing to compare"
        return [check("same numbers as the CPU", "where there is a GPU", nothing, True)]
    model, rows = example()
    right = one_update(model, rows, "cpu")
    checks = [judge("fp32", one_update(model, rows, accelerator.device), right, LIMITS_32)]
    if accelerator.mixed_precision != "no":
        found = one_update(model, rows, accelerator.device, accelerator.autocast())
        checks.append(judge(accelerator.mixed_precision, found, right, LIMITS_16, "warn"))
    return checks


def run(project, screen):
    import torch

    if not project.cpu and not torch.accelerator.is_available():
        raise Stop(
            f"The operating system shows {launch.gpu()}, but this PyTorch ({torch.__version__}) "
            "cannot use it. Most often its driver is older than this PyTorch needs: update the "
            "driver, restart, and try again. `python -m torch.utils.collect_env` shows both "
            "versions. To continue without the GPU, add --cpu."
        )
    program = project.load()
    accelerator = program.settings.start(program.values)
    precision = accelerator.mixed_precision
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}
    tflops, bandwidth = measure(accelerator.device, kinds[precision])
    found = {
        "name": device_name(accelerator.device, project.cpu),
        "tflops": tflops,
        "bandwidth": bandwidth,
        "memory_gb": memory_of(accelerator.device) / 1e9,
        "cpu": project.cpu,
    }
    project.out.mkdir(exist_ok=True)
    (project.out / "machine.json").write_text(json.dumps(found, indent=1))
    first = max(1, 6 * 1e6 * 4.1e6 / (tflops * 1e12 * 0.3) / 60)
    new = from_scratch(project)
    found |= {"minutes": first if new else None, "unknown": None if new else ""}
    format_ = "fp32" if precision == "no" else precision
    checks = judge_speed(project, accelerator.device, found, format_)
    return Outcome(checks + compare_with_cpu(accelerator), found)


def device_name(device, cpu):
    """Return what the device is called."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU" if cpu else "Apple GPU"


def memory_of(device):
    """Return the bytes of memory that the device has."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info()[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def judge_speed(project, device, found, number_format):
    """Return the checks of what was measured, against the data sheet where there is one."""
    words, cuda = Words(project, "machine"), device.type == "cuda"
    tflops, bandwidth = found["tflops"], found["bandwidth"]
    card = known(found["name"]) if cuda else None
    least, least_gbs = (card["tflops"] / 2, card["bandwidth"] / 2) if card else (0, 5)
    half = f"no data sheet of {found['name']}: for your information"
    if card:
        half = f"≥ {least:.0f} (half of {card['tflops']})"
    elif project.cpu:
        least, half = LEAST, f"≥ {LEAST}"
    formats = "bf16 or fp16" if cuda else "fp32"
    free = shutil.disk_usage(project.folder).free / 1e9
    shown = {"half": half, "gbs": f"≥ {least_gbs:.0f}", "formats": formats}
    shown["wanted"] = "the CPU, as you chose" if project.cpu else "a GPU"
    right, same = (device.type == "cpu") == project.cpu, number_format in formats
    speed, memory = f"{tflops:.3g}", f"{bandwidth:.3g}"
    return [
        words.check("runs on", found["name"], right, **shown),
        words.check("calculations, TFLOP/s", speed, tflops >= least, "warn", **shown),
        words.check("memory speed, GB/s", memory, bandwidth >= least_gbs, "warn", **shown),
        words.check("number format", number_format, same, "warn", **shown),
        words.check("free disk, GB", f"{free:.0f}", free > 5, "warn"),
    ]
