"""The notebook's plots: where everything is, in a picture of 640 x 300. notebook.html draws it.

A plot is described by a dict, which a step puts into its Outcome:
{"kind": "bars", "x": labels, "y": numbers, "xlabel", "ylabel"}
{"kind": "line", "x": numbers, "y": numbers, "xlabel", "ylabel", "logx": True,
 "mark": the x that was picked, "lines": {name: y}}
{"kind": "curve", "lines": {name: y}}: training and val loss, read from out/metrics.jsonl
"""

import math
from statistics import median

LEFT, RIGHT, TOP, BOTTOM = 64, 612, 28, 250  # the frame
CURVE = {"xlabel": "updates", "ylabel": "loss, nats per token (log scale)"}


def draw(spec, metrics):
    """Return {part of a plot: its places and texts}."""
    kind, levels, logx = spec["kind"], spec.get("lines") or {}, spec.get("logx")
    spec = (CURVE if kind == "curve" else {}) | spec
    shown, bars = series(spec, metrics), kind == "bars"
    xs, ys = zip(*(point for points in shown.values() for point in points), strict=True)
    # a rate that blew up must not hide the valley
    top = min(max(ys), 3 * median(ys)) if logx else max(ys)
    low, high = min([top, *ys, *levels.values()]), max([top, *levels.values()])
    log_y, room = kind == "curve" and low > 0, (high - low) / 8
    ends = [low / 1.4, high * 1.4] if log_y else [low - room, high + room]
    x, xticks = scale([-0.6, len(xs) - 0.4] if bars else xs, LEFT, RIGHT, logx)
    y, yticks = scale([0, high] if bars else ends, BOTTOM, TOP, log_y)
    labels = {tick: f"{tick:,g}" for tick in xticks}
    if bars:
        labels = dict(list(enumerate(spec["x"]))[:: math.ceil(len(xs) / 7)])
    mark = spec.get("mark")
    return {
        "names": [name for name in shown if name],
        "xlabel": spec.get("xlabel", ""),
        "ylabel": spec.get("ylabel", ""),
        "xticks": [(x(tick), label) for tick, label in labels.items()],
        "yticks": [(y(tick), f"{tick:,g}") for tick in yticks],
        "wide": 0.8 * (x(1) - x(0)) if bars else None,  # of a bar
        "lines": {
            name: [(x(a), y(min(b, top))) for a, b in points] for name, points in shown.items()
        },
        "levels": horizontals(levels, y, ys[-1]),
        "mark": (x(mark), f"picked: {mark:g}") if mark else None,
    }


def series(spec, metrics):
    """Return what a plot shows as {name: [(x, y), ...]}, without values that are not finite."""
    if spec["kind"] == "curve":
        rows = {"train": [(m["step"], m.get("loss")) for m in metrics]}
        rows["val"] = [(m["step"], m.get("val_loss")) for m in metrics]
    else:
        xs = range(len(spec["y"])) if spec["kind"] == "bars" else spec["x"]
        rows = {"": list(zip(xs, spec["y"], strict=False))}
    found = {}
    for name, points in rows.items():
        finite = [(x, y) for x, y in points if y is not None and math.isfinite(y)]
        if finite:
            found[name] = thin(finite) if name == "train" else finite
    return found


def thin(points, most=240):
    """Return at most `most` points: neighbours are replaced by their mean."""
    size = math.ceil(len(points) / most)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]


def scale(values, start, end, log=False):
    """Return (place, ticks): place(value) is the coordinate, ticks are round values in between."""
    low, high = min(values), max(values)
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - 1, high + 1)
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        digits = (1, 2, 5) if high / low < 30 else (1, 3)
        ticks = [
            digit * 10.0**power
            for power in powers
            for digit in digits
            if low <= digit * 10.0**power <= high
        ]
        return lambda v: start + (end - start) * math.log(v / low) / math.log(high / low), ticks
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    unit = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough)
    ticks = [round(i * unit, 12) for i in range(math.ceil(low / unit), math.floor(high / unit) + 1)]
    return lambda v: start + (end - start) * (v - low) / (high - low), ticks


def horizontals(levels, y, last):
    """Return [(height, text, its right end, is it below the line)] of the dotted lines.

    A name is below its line if the curve ends above it.
    """
    found, before, right = [], 0, RIGHT
    for name, level in sorted(levels.items(), key=lambda pair: -pair[1]):
        close = y(level) - before < 22  # then next to the name before, not over it
        right = RIGHT - 150 if close and right == RIGHT else RIGHT
        before = y(level)
        found.append((before, f"{name} {level:.4g}", right, level <= last))
    return found
