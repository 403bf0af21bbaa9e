"""The notebook's plots, as SVG: small, sharp, coloured by the page's style sheet, light or dark.

A plot is described by a dict, which a step puts into its Outcome:
{"kind": "bars", "x": labels, "y": numbers, "xlabel", "ylabel"}
{"kind": "line", "x": numbers, "y": numbers, "xlabel", "ylabel", "logx": True,
 "mark": the x that was picked, "lines": {name: y}}
{"kind": "curve", "lines": {name: y}}: training and val loss, read from out/metrics.jsonl
"""

import math
from html import escape
from statistics import median

LEFT, RIGHT, TOP, BOTTOM = 64, 612, 28, 250  # the frame, in a picture of 640 x 300
CURVE = {"xlabel": "updates", "ylabel": "loss, nats per token (log scale)"}


def draw(spec, metrics):
    """Return one plot as SVG."""
    spec = (CURVE if spec["kind"] == "curve" else {}) | spec
    shown, levels = series(spec, metrics), spec.get("lines") or {}
    bars, curve = spec["kind"] == "bars", spec["kind"] == "curve"
    xs, ys = zip(*(point for points in shown.values() for point in points), strict=True)
    top = (
        min(max(ys), 3 * median(ys)) if spec.get("logx") else max(ys)
    )  # a rate that blew up must not hide the valley
    low, high = min([top, *ys, *levels.values()]), max([top, *levels.values()])
    log_y, room = curve and low > 0, (high - low) / 8
    ends = [0, high] if bars else [low / 1.4, high * 1.4] if log_y else [low - room, high + room]
    x, xticks = scale([-0.6, len(xs) - 0.4] if bars else xs, LEFT, RIGHT, spec.get("logx"))
    y, yticks = scale(ends, BOTTOM, TOP, log_y)
    labels = {tick: f"{tick:,g}" for tick in xticks}
    if bars:
        labels = {
            i: str(spec["x"][i]) for i in range(0, len(spec["x"]), math.ceil(len(spec["x"]) / 7))
        }
    parts = axes(spec, shown, x, labels, y, yticks)
    for name, points in shown.items():
        parts += (
            columns(points, x, y)
            if bars
            else line(name, [(x(a), y(min(b, top))) for a, b in points])
        )
    parts += horizontals(levels, y, ys[-1])
    parts += picked(spec["mark"], x(spec["mark"])) if spec.get("mark") else []
    return f'<svg viewBox="0 0 640 300" role="img">{"".join(parts)}</svg>'


# --- what is shown, and where ---


def series(spec, metrics):
    """Return what a plot shows as {name: [(x, y), ...]}, without values that are not finite."""
    if spec["kind"] == "curve":
        rows = {
            side: [(m["step"], m.get(key)) for m in metrics]
            for side, key in (("train", "loss"), ("val", "val_loss"))
        }
    else:
        rows = {
            "": list(
                zip(
                    range(len(spec["y"])) if spec["kind"] == "bars" else spec["x"],
                    spec["y"],
                    strict=False,
                )
            )
        }
    finite = {
        name: [(x, y) for x, y in points if y is not None and math.isfinite(y)]
        for name, points in rows.items()
    }
    return {
        name: thin(points) if name == "train" else points
        for name, points in finite.items()
        if points
    }


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


# --- the parts of a picture ---


def words(text, x, y, side="end", kind="", shift="0"):
    """Return a text whose `side` (start, middle or end) is at (x, y)."""
    place = f'x="{x:.1f}" y="{y:.1f}" dy="{shift}" text-anchor="{side}"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'


def axes(spec, shown, x, labels, y, yticks):
    key = " · ".join(f'<tspan class="{name}">{name}</tspan>' for name in shown if name)
    parts = [
        words(spec.get("ylabel", ""), LEFT, 14, "start"),
        words(spec.get("xlabel", ""), RIGHT, 296),
    ]
    parts.append(f'<text x="{RIGHT}" y="14" text-anchor="end">{key}</text>')
    for tick in yticks:
        parts += [
            f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{RIGHT}"/>',
            words(f"{tick:,g}", LEFT - 8, y(tick) + 4),
        ]
    return parts + [words(label, x(tick), BOTTOM + 20, "middle") for tick, label in labels.items()]


def columns(points, x, y):
    wide = 0.8 * (x(1) - x(0))
    return [
        f'<rect x="{x(i) - wide / 2:.1f}" y="{y(v):.1f}" '
        f'width="{wide:.1f}" height="{BOTTOM - y(v):.1f}"/>'
        for i, v in points
    ]


def line(name, places):
    """Return a line, with a dot at each point where they are few."""
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = (
        [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
        if len(places) <= 40
        else []
    )
    return [f'<path class="line {name}" d="M{path}"/>', *dots]


def horizontals(levels, y, last):
    """Return a dotted line for every level; its name is below it if the curve ends above it."""
    parts, before, right = [], 0, RIGHT
    for name, level in sorted(levels.items(), key=lambda pair: -pair[1]):
        right = (
            RIGHT - 150 if y(level) - before < 22 and right == RIGHT else RIGHT
        )  # next to the name before, not over it
        before = y(level)
        parts.append(f'<path class="level" d="M{LEFT} {before:.1f}H{RIGHT}"/>')
        parts.append(
            words(
                f"{name} {level:.4g}", right, before, shift="1.1em" if level <= last else "-0.4em"
            )
        )
    return parts


def picked(value, place):
    side, gap = ("end", -6) if place > (LEFT + RIGHT) / 2 else ("start", 6)
    rule = f'<path class="mark" d="M{place:.1f} {TOP}V{BOTTOM}"/>'
    return [rule, words(f"picked: {value:g}", place + gap, TOP + 12, side, "picked")]
