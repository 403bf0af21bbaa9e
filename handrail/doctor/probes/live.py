"""Probes B and H: how the run begins, and what it looks like while it goes on."""

import math
import os
import sys

import torch

from ..findings import Finding
from ..token_rows import rows_of

HEAD = 10  # updates at the beginning that a run is compared with


class Live:
    """Follows losses on training and val, the device, the mode, and what a trainer logs."""

    def __init__(self, doctor):
        self.doctor, self.losses, self.vals, self.round, self.classes, self.spread, self.marks = (
            doctor,
            [],
            [],
            [],
            0,
            [],
            [],
        )
        self.unread, self.rates, self.smooth = [], [], 0.0
        self.heard = []  # the first value of a cross-entropy: what backward gets may be more than it
        self.like = True  # of the last update in which a loss was heard: see mean_like
        self.written = 0  # texts that the model generated
        self.kept, self.learns = (
            0,
            False,
        )  # passes that recorded gradients in eval mode; was there one in training mode?

    def lost(self, seen):
        if not seen.grad and seen.losses[-1].value.ndim == 0:
            loss = seen.losses[-1]
            count = (
                (loss.targets != loss.ignore).sum()
                if not loss.targets.is_floating_point()
                else torch.tensor(1)
            )
            self.round.append(
                (loss.value if loss.reduction == "mean" else loss.value / count.clamp(min=1), count)
            )
        elif seen.grad:
            self.classes, self.smooth = (
                max(self.classes, seen.losses[-1].classes),
                seen.losses[-1].smoothing,
            )  # of several heads the widest
            if (
                not self.heard
                and seen.losses[-1].value.ndim == 0
                and seen.losses[-1].reduction == "mean"
            ):
                self.heard = [float(seen.losses[-1].value)]

    def backward(self, *_):
        self.kept = 0

    asked_for = backward

    def passed(self, seen):
        """The first training pass after an evaluation closes it. One in eval mode that records gradients keeps what nobody will use."""
        self.learns |= seen.grad and seen.training
        self.kept += (
            seen.grad
            and not seen.training
            and self.learns
            and any(p.requires_grad for p in seen.module.parameters())
        )
        if self.kept == 4:
            yield Finding(
                "out-of-memory-late",
                "warning",
                "An evaluation keeps all that a backward pass would need, and nobody calls backward: it takes far more memory than it should.",
                "4 passes in eval mode recorded gradients, with no backward between them",
                [("torch.no_grad() is missing", 0.9)],
                "@torch.no_grad() over the evaluation",
                self.doctor.updates,
            )
        if seen.grad and self.round and self.doctor.updates:
            yield from self.evaluated()

    def generated(self, *_):
        self.written += 1

    def evaluated(self):
        total = sum(float(count) for _, count in self.round)
        value = sum(float(mean) * float(count) for mean, count in self.round) / max(1.0, total)
        self.round = []
        self.vals.append((self.doctor.updates, value, self.recent()))
        if len(self.vals) < 4:
            return
        best = min(self.vals, key=lambda val: val[1])
        rising = all(a[1] < b[1] for a, b in zip(self.vals[-3:], self.vals[-2:]))
        long_ago = self.vals[::-1].index(best) >= 0.25 * len(self.vals)
        if (
            rising
            and long_ago
            and self.vals[-1][1] > 1.03 * best[1]
            and self.vals[-1][2] < 0.95 * best[2]
        ):
            yield Finding(
                "val-rises",
                "warning",
                "The loss on val rises while the loss on train falls: the model learns its texts by heart.",
                f"val {best[1]:.3f} at update {best[0]}, {value:.3f} now; train {best[2]:.3f} then, {self.vals[-1][2]:.3f} now",
                [
                    ("too many passes over too little text", 0.8),
                    ("the rate is too high for so little text", 0.2),
                ],
                f"keep the model of update {best[0]}; fewer updates, or more text",
                self.doctor.updates,
            )

    def recent(self):
        """Return the mean of the last training losses."""
        last = self.losses[-HEAD:]
        return sum(last) / max(1, len(last))

    def ended(self):
        if self.round:
            yield from self.evaluated()

    def after_step(self, optimizer):
        doctor, update = self.doctor, self.doctor.updates
        other = doctor.steppers[id(optimizer)] == update > 1 and doctor.alone(optimizer)
        if (
            other or self.searching()
        ):  # another training begins, or will: what rose or fell before is not its doing
            self.losses, self.rates, self.marks, self.unread = [], self.rates * (not other), [], []
        self.unread.append(
            torch.stack([loss.reshape(-1)[0].float() for loss in doctor.now.losses]).sum()
            if doctor.now.losses
            else None
        )
        self.rates.append(max(doctor.now.rates, default=0.0))
        if update == 1:
            yield from self.device()
        if update > 10 and update % 5:
            return
        self.losses += [float(loss) for loss in self.unread if loss is not None]
        self.unread = []
        if update in (5, 10) and self.classes and self.losses:
            yield from self.start(update)
        yield from self.rate(update)
        last = self.losses[-20:]
        if (
            update % 20 == 0
            and len(last) == 20
            and abs(last[0]) > 1e-6
            and max(last) - min(last) < 1e-6 * abs(last[0])
        ):
            yield Finding(
                "loss-never-changes",
                "warning",
                "The loss is the same number in every update, while the weights move.",
                f"{last[0]:.6g} in each of the last 20 updates",
                [
                    (
                        "two things that should differ are one: a reference that is the model itself, a target made from the answer",
                        0.7,
                    ),
                    ("what is returned as the loss is a constant", 0.3),
                ],
                "print both parts of the loss; a reference is a copy (copy.deepcopy) that is not trained",
                update,
            )

    def start(self, update):
        """The first loss beside that of a model that knows nothing, ln V."""
        ignorant, first = math.log(self.classes), min([self.losses[0], *self.heard[:1]])
        per = first / max(1, len(self.doctor.now.losses)) if self.doctor.now.losses else first
        if (
            self.mean_like()
            and first > 2.0 * ignorant
            and per > 2.0 * ignorant
            and self.smooth == 0
        ):
            yield Finding(
                "start-above-chance",
                "warning",
                f"The first loss, {first:.2f}, is far above {ignorant:.2f} = ln {self.classes:,}, what a model that knows nothing has.",
                f"loss {first:.2f} at update 1",
                [
                    ("model and tokenizer do not belong together", 0.4),
                    ("the labels are not what the model predicts", 0.3),
                    ("the initial weights are too large", 0.3),
                ],
                "decode one row and its targets; look at the scale of the initial weights",
                update,
            )

        elif (
            self.mean_like()
            and self.doctor.was_loaded()
            and self.classes > 8192
            and first > 0.95 * ignorant
            and self.smooth == 0
            and self.whole()
        ):
            yield Finding(
                "starts-at-chance",
                "warning",
                "A model that was loaded begins no better than one that knows nothing.",
                f"loss {first:.2f} at update 1; a guess has {ignorant:.2f} = ln {self.classes:,}",
                [
                    ("model and tokenizer do not belong together", 0.5),
                    ("its weights were made anew after they were loaded, or never read", 0.3),
                    ("what was saved had learned nothing", 0.2),
                ],
                "before training, let the loaded model go on from a sentence, and read it",
                update,
            )

    def whole(self):
        """Return True if whole texts are learned, and not answers of a form that may be new to the model."""
        rows = rows_of(self.doctor.now.passes[-1]) if self.doctor.now.passes else None
        return (
            rows is not None
            and rows.trained is not None
            and bool(rows.trained[:, 1:].sum() > 0.8 * rows.real[:, 1:].sum())
        )

    def mean_like(self):
        """Return True if what backward gets in an update sums up to a mean over tokens, so that it can be compared with ln V."""
        heard = [
            loss
            for seen in self.doctor.now.passes
            for loss in seen.losses
            if not loss.targets.is_floating_point()
        ]
        if not heard:
            return self.like
        means = [
            float(loss.value)
            if loss.reduction == "mean"
            else float(loss.value.sum()) / max(1, int((loss.targets != loss.ignore).sum()))
            for loss in heard
        ]
        mean = sum(means) / len(means)
        self.like = 0.4 * mean <= self.losses[-1] <= 2.5 * mean if self.losses else True
        return self.like

    def rate(self, update):
        """What the rate does to the loss, and to the weights."""
        doctor, n = self.doctor, len(self.losses)
        language = self.classes or any(
            seen.ids is not None for seen in doctor.now.passes
        )  # elsewhere, as with rewards, a loss may well rise
        rewards = self.written > 0.2 * doctor.updates  # it learns from what it writes itself
        if n < 10 or not language or rewards or not self.mean_like() and doctor.updates > 12:
            return
        pretrained = self.classes > 32 and self.losses[0] < 0.75 * math.log(self.classes)
        lora = self.lora()
        start, now = self.losses[0], sum(self.losses[-5:]) / 5
        sizes = next((p.sizes for p in doctor.probes if hasattr(p, "sizes")), [])
        step = max((ratio for _, _, ratio in sizes), default=0)
        if (
            math.isfinite(now)
            and now > 1.15 * start + 0.05
            and self.doctor.now.losses
            and start > 0
        ):
            self.marks.append(update)
        else:
            self.marks = []
        humps = [sum(self.losses[i : i + 3]) / 3 for i in range(1, n - 2)]
        if humps and max(humps) > 1.25 * start + 0.5:
            self.marks += [update, update]
        late = update > 40  # by then the data may have changed as well: other texts, a later stage
        far = not (sizes and step < 1e-4) and (
            self.classes or step > 0.1 or now > 20 * abs(start)
        )  # how far the weights are thrown
        if far and (
            len(self.marks) >= 2 and not late or math.isfinite(now) and now > 3 * abs(start) + 0.5
        ):
            unsure = (
                late or not self.classes and now < 20 * abs(start)
            )  # a loss of another kind may grow with what it is given, as with longer rows
            if pretrained and not lora and not late:
                yield Finding(
                    "rate-of-the-other-method",
                    "warning",
                    "The model knew more before: its loss has risen since training began.",
                    f"loss {start:.3f} at update 1, {now:.3f} now; rate {max(self.rates):.3g}",
                    [
                        (
                            "a rate of LoRA, about ten times too high, for all the weights of a pretrained model",
                            0.6,
                        ),
                        ("the rate is too high", 0.4),
                    ],
                    "1e-5 to 5e-5 for all weights of a pretrained model",
                    update,
                )
            else:
                yield Finding(
                    "rate-too-high",
                    "warning" if unsure else "certain",
                    "The loss rises: each update throws the weights too far.",
                    f"loss {start:.3f} at update 1, {now:.3f} now; rate {max(self.rates):.3g}; an update moves a matrix by {step:.1%} of its size",
                    [
                        ("the learning rate is too high", 0.5),
                        ("the data has become harder or longer, as in a curriculum", 0.5),
                    ]
                    if unsure
                    else [("the learning rate is too high", 0.85), ("no warm-up", 0.15)],
                    "a tenth of the rate; then sweep",
                    update,
                )
        head, tail = sum(self.losses[:5]) / 5, sum(self.losses[-HEAD:]) / HEAD
        fall = head - tail
        late = [
            ratio for u, rate, ratio in sizes if u >= 10 and rate <= max(self.rates[-HEAD:])
        ]  # not those of a search for the rate
        if update in (30, 40) and late and max(late) > 0.2 and fall < 0.35 * start:
            yield Finding(
                "rate-too-high",
                "warning",
                "Each update moves the weights by a great part of their size.",
                f"{max(late):.0%} of a matrix's size in one update, rate {max(self.rates):.3g}; loss {start:.3f} → {now:.3f}",
                [("the learning rate is too high", 0.9)],
                "a tenth of the rate; then sweep",
                update,
            )
        if update in (30, 40) and fall < 0.08 * head and lora and max(self.rates) < 5.1e-5:
            yield Finding(
                "rate-of-the-other-method",
                "warning",
                "LoRA's corrections hardly learn.",
                f"rate {max(self.rates):.3g}; loss {head:.3f} → {tail:.3f} in {update} updates",
                [("a rate for all weights; LoRA needs about ten times as much", 0.85)],
                "1e-4 to 5e-4 for LoRA",
                update,
            )
        elif update in (30, 40) and fall < 0.02 * head:
            if (
                late
                and max(late) < 5e-4
                and not doctor.knew()
                and 0 < self.rates[-1] <= self.rates[-6]
            ):
                tight = next((p.tight() for p in doctor.probes if hasattr(p, "tight")), 0)
                causes = [("the learning rate is far too low", 0.85), ("a very long warm-up", 0.15)]
                if tight > 30:
                    causes = [
                        (f"gradients are clipped to a {tight:,.0f}th of their length", 0.7),
                        ("the learning rate is far too low", 0.3),
                    ]
                yield Finding(
                    "rate-too-low",
                    "warning",
                    "The weights hardly move, and the loss does not fall.",
                    f"an update moves a matrix by {max(late):.1e} of its size, rate {max(self.rates):.3g}; loss {start:.3f} → {now:.3f}",
                    causes,
                    "ten times the limit of clipping"
                    if tight > 30
                    else "ten times the rate; then sweep",
                    update,
                )

    def searching(self):
        """Return True while the rate grows by one factor from update to update: a search for the rate at which the loss explodes."""
        growth = [b / a for a, b in zip(self.rates[-12:], self.rates[-11:]) if a > 0]
        return len(growth) == 11 and min(growth) > 1.02 and max(growth) < 1.05 * min(growth)

    def lora(self):
        return self.doctor.trained is not None and any(
            "lora_" in name for name, p in self.doctor.trained.named_parameters() if p.requires_grad
        )

    def device(self):
        weights = (
            next(self.doctor.trained.parameters(), None)
            if self.doctor.trained is not None
            else None
        )
        if (
            weights is None
            or weights.device.type != "cpu"
            or chosen()
            or sum(p.numel() for p in self.doctor.trained.parameters()) < 100_000
        ):  # a GPU would be no faster
            return
        if torch.accelerator.is_available():
            yield Finding(
                "silent-cpu",
                "certain",
                "There is a GPU, and the model is trained on the CPU.",
                f"the weights are on {weights.device}; torch sees {torch.accelerator.current_accelerator()}",
                [("the model was never moved to the device", 0.9)],
                "accelerator.prepare(model), or model.to(device)",
                1,
            )
        elif os.path.exists("/dev/nvidiactl") or os.path.exists("/proc/driver/nvidia"):
            yield Finding(
                "silent-cpu",
                "certain",
                "There is an NVIDIA card here, torch cannot use it, and the training runs on the CPU without a word.",
                f"torch {torch.__version__}, built for CUDA {torch.version.cuda}",
                [
                    ("a torch built without CUDA", 0.5),
                    ("the driver is too old for this torch", 0.5),
                ],
                "compare nvidia-smi with python -m torch.utils.collect_env",
                1,
            )

    def logged(self, logs):
        """What TRL's trainers say of the rewards."""
        chosen = logs.get("rewards/chosen")
        if chosen is not None and float(chosen) < -2:
            yield Finding(
                "rate-too-high",
                "warning",
                "The preferred answers get far less likely as well: the model comes apart, though the loss looks excellent.",
                f"rewards/chosen {float(chosen):.2f}, rewards/rejected {float(logs.get('rewards/rejected', 0)):.2f}; rate {max(self.rates, default=0):.3g}",
                [("the learning rate is too high for preferences", 0.8), ("too many updates", 0.2)],
                "1e-6 to 1e-5 for all weights, ten times that for LoRA; watch rewards/chosen",
                self.doctor.updates,
            )
        value = next(
            (
                logs[name]
                for name in ("frac_reward_zero_std", "rewards/frac_reward_zero_std")
                if name in logs
            ),
            None,
        )
        if value is None and "reward_std" in logs:
            value = float(logs["reward_std"] == 0)
        if value is None:
            return
        self.spread.append(float(value))
        if len(self.spread) >= 3 and min(self.spread[-3:]) >= 0.99:
            yield Finding(
                "reward-without-spread",
                "warning",
                "All answers to a question earn the same: there is nothing to prefer, and nothing is learned.",
                "no group of the last logged updates has a spread of rewards",
                [
                    (
                        "the task is too hard or too easy for the model: always wrong, or always right",
                        0.6,
                    ),
                    ("the reward never tells answers apart", 0.4),
                ],
                "print rewards of one group; begin with a model that is right now and then",
                self.doctor.updates,
            )


def chosen():
    """Return True if a person said that the CPU is to be used."""
    accelerate = sys.modules.get("accelerate.state")
    if accelerate and accelerate.PartialState._shared_state.get("_cpu"):
        return True
    return (
        "--cpu" in sys.argv
        or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
        or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    )
