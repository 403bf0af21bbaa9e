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


def cut(path, first):
    """Keep the lines up to update `first`, and not half a line of a run that was killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    part = path.with_suffix(".part")
    part.write_text("".join(line for line in whole if json.loads(line)["step"] <= first))
    part.replace(path)  # a machine that dies here leaves the old file


class Log:
    """Writes one line per update, always of the update before the one that the GPU works on.

    To read a loss, the program waits for the GPU. It has the next update to work on meanwhile.
    """

    def __init__(self, accelerator, path, first, updates):
        self.accelerator, self.path, self.updates = accelerator, path, updates
        self.shown, self.waiting = 0.0, None
        if accelerator.is_main_process:
            cut(path, first)

    def add(self, step, numbers, batch, lr, seconds):
        """Keep an update's [loss, gradient norm], and write down those of the update before."""
        self.flush()
        tokens = sum(part["inputs"].numel() for part in batch) * self.accelerator.num_processes
        line = {"step": step, "lr": lr, "tokens": tokens, "seconds": seconds}
        self.waiting = numbers, line

    def flush(self, evaluate=None):
        """Write down the update that is waiting, with evaluate(step), the loss on val."""
        if not self.waiting:
            return
        (numbers, line), self.waiting = self.waiting, None
        began = time.perf_counter()
        loss, norm = numbers.tolist()  # here the program waits for the GPU
        seconds = line["seconds"] + time.perf_counter() - began
        # fp16: a gradient that is too large for it is normal; Accelerate skips that update
        if not math.isfinite(loss + (0 if self.accelerator.scaler else norm)):
            why = "Most often the learning rate is too high: try a third of it."
            sys.exit(f"Stopped at update {line['step']:,}: loss {loss}, gradient {norm}. {why}")
        line |= {"loss": loss, "grad_norm": norm, "seconds": round(seconds, 4)}
        line["tokens_per_second"] = round(line["tokens"] / seconds)
        if evaluate:
            line["val_loss"] = evaluate(line["step"])
        if self.accelerator.is_main_process:
            with open(self.path, "a") as file:
                file.write(json.dumps(line) + "\n")
            self.show(line)

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
        print(text.ljust(width)[:width], end=end, flush=True)
