"""What a loss over classes or tokens was given, however it is computed.

A call of F.cross_entropy says it. Somebody's own autograd.Function is given scores, or hidden
states and a weight, and integer targets. Arithmetic by hand (gather of log_softmax, logsumexp minus
gather) leaves the targets in the autograd graph; which of them count shows in the gradients.
"""

from dataclasses import dataclass, is_dataclass

import torch

IGNORED = -100
LAST_LAYERS = ("Addmm", "Mm", "Bmm", "Baddbmm", "Convolution", "Embedding", "AccumulateGrad")
FORMS = ("View", "UnsafeView", "Reshape", "ReshapeAlias", "Squeeze", "Unsqueeze", "Select")
FORMS += ("Slice", "Transpose", "Permute", "T", "ToCopy", "Clone", "Alias")
CLOSE = (*FORMS, "Add", "Clamp", "ClampMin")  # between a logarithm and the probability picked
PICKS = ("Gather", "Index")
REDUCTIONS = ("none", "mean", "sum")
MOST = 60  # steps of the graph that are looked at, from the loss on


@dataclass
class Loss:
    """One loss: what it was given, what it gave."""

    targets: torch.Tensor
    ignore: int
    reduction: str
    smoothing: float
    classes: int
    value: torch.Tensor
    weighed: bool = False  # a target that does not count is `ignore`, whatever the reduction

    def weigh(self, weights):
        """Leave out targets whose loss got no gradient; return True if the others count evenly.

        What is weighed unevenly is no label: an action by its reward, a preference by its sign.
        """
        if weights.numel() != self.targets.numel():
            return False
        weights = weights.detach().reshape(self.targets.shape).float()
        counts = weights.abs() > 1e-3 * weights.abs().max()
        if not counts.any():
            return False
        low, high = weights[counts].aminmax()
        mean = bool((weights.sum().abs() - 1).abs() < 0.01)
        if low * high <= 0 or not mean and max(low / high, high / low) > 1.01:
            return False
        self.targets = self.targets.where(counts, self.ignore)
        self.weighed = True
        if self.value.numel() > 1:
            each = self.value.reshape(weights.shape)
            self.value = (each * weights).sum().abs() if mean else each * counts
        if mean:
            self.reduction = "mean"
        return True


def options(args, kwargs):
    """Return by name what F.cross_entropy or F.nll_loss was given beside scores and targets."""
    names = ("weight", "size_average", "ignore_index", "reduce", "reduction", "label_smoothing")
    return dict(zip(names, args, strict=False)) | kwargs


def of_call(input, target, value, given):
    """Return the Loss of a call of F.cross_entropy or F.nll_loss with these options."""
    ignore = IGNORED if given.get("ignore_index") is None else given["ignore_index"]
    reduction, smoothing = given.get("reduction", "mean"), given.get("label_smoothing", 0.0)
    classes = input.size(1) if input.ndim > 1 else input.size(0)
    return Loss(target.detach(), ignore, reduction, smoothing, classes, value.detach())


def of_function(args, result):
    """Return the Loss of a call of an autograd.Function, or None if it is none over classes.

    It is one if it is given integer targets, and for each of them either scores, or a hidden state
    and a weight matrix for it, and gives one number, or one for each target.
    """
    args = [part for arg in args for part in (vars(arg).values() if is_dataclass(arg) else [arg])]
    tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
    value = result[0] if isinstance(result, tuple) and result else result
    targets = next((t for t in tensors if t.dtype is torch.int64 and 0 < t.ndim < 3), None)
    if targets is None or not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return None
    if value.numel() not in (1, targets.numel()):
        return None
    floats = [t for t in tensors if t.is_floating_point() and t.ndim > 1]
    scores = next((t for t in floats if t.shape[:-1].numel() == targets.numel()), None)
    if scores is None:
        return None
    width = scores.size(-1)
    tables = [t for t in floats if t is not scores and t.ndim == 2 and t.size(1) == width]
    classes = tables[0].size(0) if tables else width
    words = [arg for arg in args if isinstance(arg, str) and arg in REDUCTIONS]
    reduction = words[0] if words else "none" if value.numel() > 1 else "mean"
    targets = targets.detach()
    targets = targets.where(targets >= 0, IGNORED)
    return Loss(targets, IGNORED, reduction, 0.0, classes, value.detach())


def name_of(node):
    return type(node).__name__.partition("Backward")[0]


def below(node, forms=FORMS):
    """Return the node that made a tensor, apart from those that only changed its form."""
    while name_of(node) in forms and node.next_functions and node.next_functions[0][0]:
        node = node.next_functions[0][0]
    return node


def steps(root):
    """Yield the nodes between the loss and the model's last layer, the loss first."""
    found, seen = [root], {root}
    for node in found:
        yield node
        for inner, _ in node.next_functions:
            new = inner is not None and inner not in seen and len(found) < MOST
            if new and name_of(inner) not in LAST_LAYERS:
                seen.add(inner)
                found.append(inner)


def in_graph(loss):
    """Yield (node, Loss) for every place of a loss's graph where targets pick from scores.

    The gradient that reaches the node is the weight of each target.
    """
    nodes = list(steps(loss.grad_fn))
    for node in nodes:
        name, found = name_of(node), None
        if name in ("NllLoss", "NllLoss2D"):
            found = of_nll(node)
        elif name in PICKS and logarithms(node, nodes):
            found = of_pick(node, loss)
        elif name == "Log":
            picked = below(node.next_functions[0][0], CLOSE)
            if name_of(picked) in PICKS and probabilities(picked):
                found = of_pick(picked, loss)
        if found is not None:
            yield node, found


def probabilities(node):
    """Return True if a node picks from a softmax, or from counts divided by their sum."""
    return name_of(below(node.next_functions[0][0])) in ("Softmax", "Div")


def logarithms(node, nodes):
    """Return True if a node picks log-probabilities, or scores whose logsumexp is taken as well."""
    source = below(node.next_functions[0][0])
    if name_of(source) == "Sub":
        parts = [below(inner) for inner, _ in source.next_functions if inner]
        return any(name_of(part) == "Logsumexp" for part in parts)
    if name_of(source) in ("LogSoftmax", "Log"):
        return True
    sums = [other._saved_self for other in nodes if name_of(other) == "Logsumexp"]
    scores = node._saved_self if name_of(node) == "Gather" else None
    return scores is not None and any(same(scores, other) for other in sums)


def same(one, other):
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape


def of_nll(node):
    """Return the Loss of cross_entropy or nll_loss, called by a name that was not listened to."""
    ignore = node._saved_ignore_index
    ignore = ignore - 2**64 if ignore >= 2**63 else ignore  # the graph keeps it without its sign
    scores, targets = node._saved_self.detach(), node._saved_target.detach()
    how = node._saved_reduction
    value = torch.ops.aten.nll_loss_nd(scores, targets, node._saved_weight, how, ignore)
    return Loss(targets, ignore, REDUCTIONS[how], 0.0, scores.size(1), value)


def of_pick(node, loss):
    """Return the Loss of a gather(-1, targets) or an [arange, targets], or None."""
    if name_of(node) == "Gather":
        index, classes = node._saved_index, node._saved_self.size(-1)
        last = node._saved_dim in (-1, index.ndim - 1, 2**64 - 1)
        targets = index.squeeze(-1) if last and index.size(-1) == 1 else None
    elif name_of(node) == "Index":
        indices, sizes = node._saved_indices, node._saved_self_sym_sizes
        whole = len(indices) == len(sizes) > 1 and None not in indices
        targets, classes = (indices[-1] if whole else None), sizes[-1]
    else:
        targets = None
    if targets is None or targets.dtype is not torch.int64 or targets.ndim == 0 or classes < 2:
        return None
    value = loss.detach().reshape(-1)[0]
    return Loss(targets.detach(), IGNORED, "sum", 0.0, int(classes), value)
