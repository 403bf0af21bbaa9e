"""Which is stronger in an update: the gradient, or weight decay?"""

from statistics import median

from ..findings import finding

AT = (10, 20, 30)  # the updates that it looks at
STRONGER = 3  # times. At rest both are equal; above that the weights only shrink


class Decay:
    """Compares, for each matrix, what weight decay takes away with what the gradient moves."""

    def __init__(self, doctor):
        self.doctor, self.ratios = doctor, []

    def after_step(self, optimizer):
        number = self.doctor.updates
        if number not in AT:
            return
        ratios = [
            ratio
            for group in optimizer.param_groups
            for p in group["params"]
            if p.ndim > 1 and (ratio := strength(optimizer, group, p)) is not None
        ]
        if ratios:
            self.ratios.append(median(ratios))
        if number == AT[-1] and len(self.ratios) == len(AT) and min(self.ratios) > STRONGER:
            decay = max(group.get("weight_decay") or 0 for group in optimizer.param_groups)
            evidence = (
                f"weight_decay = {decay:g}: in updates {AT[0]}, {AT[1]} and {AT[2]} it took away "
                f"{min(self.ratios):.2g} times and more of what the gradient moved, in the "
                f"median of {len(ratios)} matrices"
            )
            yield finding("weight-decay-dominates", evidence, number)


def strength(optimizer, group, p):
    """Return weight decay / gradient in the last update of a tensor, None if unknown."""
    decay, gradient = group.get("weight_decay") or 0, p.grad
    if not isinstance(decay, (int, float)) or not decay or gradient is None or gradient.is_sparse:
        return None
    state = optimizer.state.get(p, {})
    separate = "AdamW" in type(optimizer).__name__ or group.get("decoupled_weight_decay")
    if separate and "exp_avg_sq" in state:
        step = float(state.get("step", 1))
        betas = group.get("betas", (0.9, 0.999))
        mean = state["exp_avg"] / (1 - betas[0] ** step)
        spread = (state["exp_avg_sq"] / (1 - betas[1] ** step)).sqrt() + group.get("eps", 1e-8)
        gradient = mean / spread
    elif type(optimizer).__name__ not in ("SGD", "Adam"):
        return None
    size = gradient.abs().float().norm().item()
    return decay * p.detach().abs().float().norm().item() / size if size else None
