"""The update rule, and how its rate changes during the run.

The gradient says which way; the optimizer says how far. AdamW divides each
weight's step by how large its gradients usually are, so that all weights move
at a like pace. Muon, for the weight matrices, evens out the step in *all
directions* of the matrix: directions that rarely get a gradient learn as fast
as the loud ones. On small stories it needed a fifth of AdamW's updates. The
price: one idea more to understand, and 15 small products a matrix and update.

The trap: the rate. Too high and the loss jumps, too low and the run ends
before it has learned. It warms up (first gradients are wild), then falls to 0.
"""

import math

import torch


def orthogonalize(matrices):
    """Return `matrices` (N, R, C) with all singular values near 1 (Newton-Schulz; Jordan et al. 2024, "Muon")."""
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    x = x.mT if x.size(1) > x.size(2) else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):  # 3.4445 x - 4.7750 x³ + 2.0315 x⁵ brings every singular value to between 0.7 and 1.2
        square = x @ x.mT
        rest = torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, rest, x, beta=3.4445)
    return x.mT if matrices.size(1) > matrices.size(2) else x


class Muon(torch.optim.AdamW):
    """AdamW, except that groups marked "muon" hold matrices and take Muon's step. One object: one thing to save."""

    def step(self, closure=None):
        """Move the weights once, by their gradients."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["muon"]]
        super().step(closure)
        self.param_groups = groups
        for group in groups:
            if group["muon"]:
                self.muon_step(group)

    @torch.no_grad()
    def muon_step(self, group, momentum=0.95):
        """Move matrices of one shape together; 0.2 · √width makes AdamW's learning rate fit (Liu et al. 2025, 2.2)."""
        shapes = {}
        for p in (p for p in group["params"] if p.grad is not None):
            state = self.state[p]
            if not state:
                state.update(step=torch.tensor(0.0), average=torch.zeros_like(p))
            average = state["average"].lerp_(p.grad, 1 - momentum)
            shapes.setdefault(p.shape, []).append((p, p.grad.lerp(average, momentum)))
        for shape, pairs in shapes.items():
            ways = orthogonalize(torch.stack([way for _, way in pairs]))
            for (p, _), way in zip(pairs, ways):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(way, alpha=-group["lr"] * 0.2 * math.sqrt(max(shape)))


def make_optimizer(model, lr):
    """Return one optimizer: Muon for the matrices inside the layers, AdamW for the vocabulary and the vectors."""
    tables = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)] + [model.get_output_embeddings()]
    inside = {p for p in model.parameters() if p.ndim == 2 and p.requires_grad} - {table.weight for table in tables}
    outside = [p for p in model.parameters() if p not in inside and p.requires_grad]
    return Muon([{"params": [p for p in model.parameters() if p in inside], "muon": True}, {"params": outside, "muon": False}], lr=lr)


def make_schedule(lr, updates, warmup=0.05):
    """Return schedule(step): the rate rises to `lr` in the first `warmup` of the run, stays, and falls to 0 at the end."""
    rise, fall = max(1, round(updates * warmup)), round(updates * 0.7)
    return lambda step: lr * min(1, (step + 1) / rise, (updates - step) / fall)
