"""What happened, update by update: one line on the screen, all of it in metrics.jsonl.

A loss that nobody wrote down cannot be compared with the next one. Each update
leaves one line: loss, learning rate, gradient norm, speed. The loss curve is
drawn from these lines, and months later they say what was done.

The trap: after a restart, lines that are newer than the checkpoint describe
updates that will be made again. They are cut off first, or they are there twice.
"""

import json
import math
import shutil
import sys
import time
from contextlib import suppress

import torch


def cut(path, first):
    """Keep the lines up to update `first`, without the half of one that a killed run leaves."""
    if path.exists() and not first:  # of a run whose checkpoints are gone: it is kept
        path.rename(path.with_name("metrics-before.jsonl"))
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("}\n")]
    part = path.with_suffix(".part")
    part.write_text("".join(line for line in whole if json.loads(line)["step"] <= first))
    part.replace(path)  # a machine that dies here leaves the old file


class Log:
    """Notes down every update; every ten updates or every second, writes these notes out."""

    def __init__(self, accelerator, path, first, updates):
        self.accelerator, self.path, self.updates = accelerator, path, updates
        self.numbers, self.lines, self.clock, self.shown = [], [], 0.0, 0.0
        if accelerator.is_main_process:
            cut(path, first)

    def add(self, step, numbers, batch, lr, began):
        """Note down an update's [loss, gradient norm]; return True if it is time to write."""
        tokens = sum(part["inputs"].numel() for part in batch) * self.accelerator.num_processes
        self.clock = self.clock if self.lines else began
        self.numbers.append(numbers)
        self.lines.append({"step": step, "lr": lr, "tokens": tokens})
        return step % 10 == 0 or time.perf_counter() - self.clock > 1

    def write(self, evaluate=None):
        """Write a line per noted update, the last one with evaluate(step), the loss on val."""
        read = torch.stack(self.numbers).tolist()  # here the program waits for the GPU
        seconds, bad = (time.perf_counter() - self.clock) / len(read), []
        for line, (loss, norm) in zip(self.lines, read, strict=True):
            # fp16: a gradient that is too large for it is normal; Accelerate skips that update
            if not math.isfinite(loss + (0 if self.accelerator.scaler else norm)):
                bad.append(f"Stopped at update {line['step']:,}: loss {loss}, gradient {norm}.")
            line |= {"loss": loss, "grad_norm": norm, "seconds": round(seconds, 4)}
            line["tokens_per_second"] = round(line["tokens"] / seconds)
        if evaluate and not bad:
            line["val_loss"] = evaluate(line["step"])
        if self.accelerator.is_main_process:
            with open(self.path, "a") as file:
                file.writelines(json.dumps(line) + "\n" for line in self.lines)
            self.show(line)
        if bad:
            sys.exit(f"{bad[0]} Most often the learning rate is too high: try a third of it.")
        self.numbers, self.lines = [], []

    def show(self, line):
        """Show progress: in place on a terminal, elsewhere as a line every 15 seconds."""
        step, left = line["step"], round(line["seconds"] * (self.updates - line["step"]))
        terminal, over = sys.stdout.isatty(), step == self.updates
        if not over and time.perf_counter() - self.shown < (0.2 if terminal else 15):
            return
        self.shown = time.perf_counter()
        text = f"update {step:,} of {self.updates:,}  loss {line['loss']:.3f}"
        text += f"  {line['tokens_per_second']:,} tokens/s  {left // 60}:{left % 60:02} left"
        width = shutil.get_terminal_size().columns - 1  # a longer line could not be replaced
        end = "\r" if terminal and not over else "\n"
        with suppress(OSError):  # the terminal is closed
            print(text.ljust(width)[:width], end=end, flush=True)
