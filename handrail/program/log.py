"""What happened, update by update: a line on the screen and out/metrics.jsonl.

A loss that was not written down cannot be compared with the next one. Every
update leaves one line: loss, learning rate, gradient norm, speed. The curve is
drawn from these lines, and months later they say what was done.

The trap: after a restart, lines newer than the checkpoint tell of updates that
will be made again. They are cut off first, or the curve has them twice.
"""

import json
import os
import sys
import time


class Log:
    """Called by `train` with the numbers of the updates made since the last call."""

    def __init__(self, path, first, updates):
        """Go on with the file at `path`, without the lines after update `first`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file, self.updates, self.printed = open(path, "a+"), updates, time.perf_counter()
        self.tokens, self.seconds, self.val, self.pace, self.calls, kept = 0, 0.0, None, 0.0, 0, 0
        self.file.seek(0)
        for line in self.file:
            if not line.endswith("\n") or (old := json.loads(line))["step"] > first:
                break
            self.tokens, self.seconds, kept = old["tokens"], old["seconds"], kept + len(line)
        os.truncate(path, kept)

    def __call__(self, step, seen, lr, tokens, seconds, val=None):
        """Write one line for each (loss, gradient norm) in `seen`, the last of them for update `step`."""
        for i, (loss, norm) in enumerate(seen, start=1):
            self.tokens += tokens // len(seen)
            self.seconds += seconds / len(seen)
            line = {"step": step - len(seen) + i, "tokens": self.tokens, "loss": loss}
            if val is not None and i == len(seen):
                line["val_loss"] = self.val = val
            line |= {"lr": lr, "grad_norm": norm, "tokens_per_second": round(tokens / seconds)}
            print(json.dumps(line | {"seconds": round(self.seconds, 3)}), file=self.file)
        self.file.flush()
        self.calls += 1
        # seconds for one update, smoothed; the first call is slow (torch.compile): forget it
        self.pace += (0.1 if self.calls > 2 else 1) * (seconds / len(seen) - self.pace)
        self.show(step, seen[-1][0], tokens / seconds)

    def show(self, step, loss, speed):
        """Print where the run is: in place on a terminal, a line now and then elsewhere."""
        left = int(self.pace * (self.updates - step))
        text = f"update {step:,} of {self.updates:,}  loss {loss:.3f}" + (f"  val {self.val:.3f}" if self.val else "")
        text += f"  {speed:,.0f} tokens/s  {left // 60}:{left % 60:02} left"
        if sys.stdout.isatty():
            wide = os.get_terminal_size().columns - 1  # a line that wraps could not be written over
            print("\r" + text[:wide].ljust(wide), end="\n" if step == self.updates else "", flush=True)
        elif step == self.updates or time.perf_counter() - self.printed > 15:
            self.printed = time.perf_counter()
            print(text, flush=True)
