"""Machine: know the engine before the trip."""

import json
import os
import platform
import shutil
import time

import torch

from handrail import launch
from handrail.project import Stop
from handrail.screen import Outcome, check

TITLE = "The machine"
FILES = ["settings.py"]
LEAVES = ["machine.json"]
SECONDS = (5, 5)
MORE = """Training is nearly all multiplication of matrices. How many multiplications and additions a machine does in a
second (FLOP/s; a TFLOP/s is a million million) tells how long a run takes: about 6 of them for every parameter and every
token. Memory bandwidth, how fast numbers come out of memory, limits everything else. A GPU has both about fifty times
over a laptop's processor. Data sheets promise more than programs reach: 40 to 60 % of the promise is good."""

SHEETS = {  # TFLOP/s with 16-bit numbers, GB/s, from the makers' data sheets
    "B200": (2250, 8000),
    "H200": (989, 4800),
    "H100": (989, 3350),
    "A100": (312, 1555),
    "L40S": (362, 864),
    "A10": (125, 600),
    "L4": (121, 300),
    "T4": (65, 320),
    "V100": (125, 900),
    "5090": (210, 1792),
    "4090": (165, 1008),
    "3090": (71, 936),
    "4080": (97, 717),
    "4070": (58, 504),
    "3060": (25, 360),
}

LEAST = 0.05  # TFLOP/s that any processor of today does


def expect(project):
    if project.cpu:
        return [
            f"No GPU, by your choice: {os.cpu_count()} processor cores. They do 0.05 to 2 TFLOP/s: enough for a model of "
            "one million parameters in minutes, and for nothing large."
        ]
    name = launch.gpu() or "a GPU"
    known = sheet(name)
    promised = (
        f"Its data sheet promises {known[0]} TFLOP/s and {known[1]} GB/s."
        if known
        else "No data sheet known here."
    )
    return [
        f"{name}, usable by torch. {promised} A real program reaches about half or more of that."
    ]


def sheet(name):
    """Return (TFLOP/s, GB/s) of a known GPU, or None."""
    return next((figures for part, figures in SHEETS.items() if part in name), None)


def wait(device):
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
    size = 1024 if device.type == "cpu" else 8192
    a = torch.randn(size, size, device=device, dtype=kind)
    tflops = 2 * size**3 / best_time(lambda: a @ a, device) / 1e12
    b = torch.randn(size * size * (16 if device.type == "cpu" else 4), device=device)
    return tflops, 2 * b.nbytes / best_time(b.clone, device) / 1e9


def run(project, screen):
    if not project.cpu and not torch.accelerator.is_available():
        raise Stop(
            f"The operating system shows {launch.gpu()}, but this torch ({torch.__version__}) cannot use it. Most often its "
            "driver is older than this torch needs: update the driver, restart, and try again. "
            "`python -m torch.utils.collect_env` shows both versions. To go on without the GPU: add --cpu."
        )
    program = project.load()
    accelerator = program.settings.start(program.values)
    device = accelerator.device
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}[
        accelerator.mixed_precision
    ]
    cuda = device.type == "cuda"
    name = (
        torch.cuda.get_device_name()
        if cuda
        else f"{platform.machine()} processor"
        if project.cpu
        else "Apple GPU"
    )
    tflops, bandwidth = measure(device, kind)
    known = sheet(name) if cuda else None
    memory = (
        torch.cuda.mem_get_info()[1]
        if cuda
        else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    )
    free = shutil.disk_usage(project.folder).free / 1e9
    found = {
        "name": name,
        "tflops": tflops,
        "bandwidth": bandwidth,
        "memory_gb": memory / 1e9,
        "cpu": project.cpu,
    }
    project.out.mkdir(exist_ok=True)
    (project.out / "machine.json").write_text(json.dumps(found, indent=1))
    least = known[0] / 2 if known else LEAST if project.cpu else 0
    half = (
        f"≥ {least:.0f} (half of {known[0]})"
        if known
        else f"≥ {LEAST}"
        if project.cpu
        else "no data sheet: for your information"
    )
    formats = "bf16 or fp16" if cuda else "fp32"
    used = {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
    slow = "Something else keeps this machine busy (`nvidia-smi`, `top`), or its power is capped."
    checks = [
        check(
            "runs on",
            "CPU, your choice" if project.cpu else "GPU",
            name,
            (device.type == "cpu") == project.cpu,
        ),
        check(
            "matrix product, TFLOP/s",
            half,
            f"{tflops:.3g}",
            tflops >= least,
            slow,
            otherwise="warn",
        ),
        check(
            "memory, GB/s",
            f"≥ {known[1] / 2:.0f}" if known else "≥ 5",
            f"{bandwidth:.3g}",
            bandwidth > (known[1] / 2 if known else 5),
            slow,
            otherwise="warn",
        ),
        check(
            "number format",
            formats,
            used,
            used in formats,
            "The card has a faster one.",
            "look at `start` in settings.py",
            "warn",
        ),
        check(
            "free disk, GB",
            "≥ 5",
            f"{free:.0f}",
            free > 5,
            "Tokens and checkpoints need room.",
            "Free some, or walk elsewhere.",
            "warn",
        ),
    ]
    minutes = 6 * 1e6 * 6e6 / (tflops * 1e12 * 0.3) / 60
    return Outcome(
        checks,
        f"A model of a million parameters that reads six million tokens would take about {minutes:.1f} minutes here.",
    )
