"""Do the edges of a batch of graphs reach all of them, or only the first?"""

import torch

from ..findings import finding

TIMES = 10  # updates


class Edges:
    """Looks at the edges (2, E) of the first updates, next to the nodes (N, d)."""

    def __init__(self, doctor):
        self.doctor, self.reached = doctor, []  # how far the edges of an update reach

    def after_step(self, optimizer):
        passes = self.doctor.now.passes
        if self.doctor.updates > TIMES or not passes:
            return
        nodes, edges = graph(passes[0].inputs)
        if edges is None:
            return
        reach, pairs = int(edges.max()) + 1, edges.unique(dim=1).size(1)
        # those of all graphs fall on one another: in one graph, no edge is there twice
        if reach < nodes / 2 and pairs < 0.6 * edges.size(1):
            self.reached.append(reach)
        if len(self.reached) == TIMES and max(self.reached) < 1.5 * min(self.reached):
            evidence = (
                f"in {TIMES} updates the edges reached half of the nodes at most: now "
                f"{reach} of {nodes}; only {pairs} of {edges.size(1)} edges are different ones"
            )
            yield finding("edges-reach-few", evidence, self.doctor.updates)


def graph(inputs):
    """Return (number of nodes that are no padding, edges (2, E)), or (0, None)."""
    tensors = [value for value in inputs.values() if isinstance(value, torch.Tensor)]
    flat = [value for value in tensors if value.ndim == 2]
    edges = [value for value in flat if value.dtype is torch.int64 and len(value) == 2]
    nodes = [value for value in flat if value.is_floating_point() and len(value) >= 8]
    if not edges or not nodes or not edges[0].numel():
        return 0, None
    return int(nodes[0].any(1).sum()), edges[0]
