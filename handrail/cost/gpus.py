"""The GPUs of gpus.toml: which card is it, does an update fit, how long, how much.

Time is calculated: an operation takes as long as its arithmetic or its reading and writing,
whichever is longer, at a share of what the data sheet promises. So memory is exact, and time is a
range.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

GB = 1e9
DRIVER = 0.6 * GB  # what a CUDA program takes before it holds a tensor: 0.3 to 0.9 on today's cards
GAPS = 0.10  # what the allocator keeps and cannot use, as a share of the peak: at most, often half

# Shares of the data sheet's arithmetic and bandwidth that a good program reaches; seconds to start
# an operation; the share of reading and writing that is left (a compiled program does several
# operations in one pass over memory); how many times longer products of 32-bit numbers take.
FAST = SimpleNamespace(arithmetic=0.70, bandwidth=0.85, start=2e-6, traffic=0.35, wide=2)
SLOW = SimpleNamespace(arithmetic=0.45, bandwidth=0.70, start=10e-6, traffic=1.0, wide=16)


@cache
def gpus():
    """Return {name: what gpus.toml says about it}."""
    return tomllib.loads(Path(__file__).with_name("gpus.toml").read_text())


def known(driver_name):
    """Return what gpus.toml says about the card that its driver calls so; None if nothing."""
    return next((gpu for gpu in gpus().values() if driver_name in gpu["names"]), None)


def gb(size):
    """Return a number of bytes as a person would say it."""
    unit, name = (GB, "GB") if size >= GB / 2 else (1e6, "MB")
    return f"{size / unit:.0f} {name}" if size >= 100 * unit else f"{size / unit:.1f} {name}"


def fits(peak, memory):
    """Return "yes", "perhaps" or "no": do `peak` bytes of tensors fit, next to driver and gaps?"""
    if peak * (1 + GAPS) + DRIVER <= memory:
        return "yes"
    return "perhaps" if peak + DRIVER <= memory else "no"


def seconds(operations, gpu, pace, precision):
    """Return how long an update takes: each of its (FLOPs, bytes) at the slower of the two."""
    speed, width = gpu["tflops"] * 1e12 * pace.arithmetic, gpu["bandwidth"] * GB * pace.bandwidth
    if precision == "fp32":
        speed /= pace.wide
    return sum(
        max(flops / speed, (1 if flops else pace.traffic) * moved / width, pace.start)
        for flops, moved in operations
    )


@dataclass
class Offer:
    """One GPU for one run: does it fit, hours and dollars (from, to)."""

    name: str
    memory: int
    fit: str
    hours: tuple
    dollars: tuple
    where: str
    source: str
    read: str  # the day on which the price was read there


def offers(counted, updates, processes=1, price=None, precision=None, live=None):
    """Return an Offer for each GPU that can be rented, for `updates` updates.

    `counted` is {number format: Update}: a card without bf16 takes the one of fp16, if it is there.
    With several processes it is the share of one; DDP keeps a second copy of the gradients. `live`
    is {flavor: dollars per hour}.
    """
    found = []
    for name, gpu in gpus().items():
        if "price" not in gpu:
            continue
        own = precision or ("bf16" if gpu.get("bf16", True) else "fp16")
        update = counted.get(own) or counted["bf16"]
        peak = update.peak + (4 * update.trained if processes > 1 else 0)
        fast, slow = (seconds(update.operations, gpu, pace, own) for pace in (FAST, SLOW))
        if processes > 1:  # they wait for one another
            fast, slow = fast * 1.05, slow * 1.3
        hours = (fast * updates / 3600, slow * updates / 3600)
        today = (live or {}).get(gpu.get("flavor"))
        source, read = gpu["source"], str(gpu["read"])
        if price or today:
            source, read = "your price" if price else "hf jobs hardware", "today"
        each = (price or today or gpu["price"]) * processes
        dollars = tuple(each * time for time in hours)
        fit = fits(peak, gpu["memory"])
        found.append(Offer(name, gpu["memory"], fit, hours, dollars, gpu["where"], source, read))
    return found


def live_prices():
    """Return {flavor: dollars per hour} of Hugging Face Jobs today, or {} if it cannot be asked."""
    from huggingface_hub import HfApi

    per = {"minute": 60, "hour": 1, "second": 3600}
    try:
        listed = HfApi().list_jobs_hardware()
        return {job.name: job.unit_cost_usd * per[job.unit_label] for job in listed}
    except Exception:  # no network, no login: then the dated prices of gpus.toml
        return {}
