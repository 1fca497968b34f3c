"""Node methods on OGB's graphs: the benchmark's own split and evaluator, a loss among sampled nodes.

ogbn-arxiv has 169,343 nodes: all pairs are too many, so the loss takes a few thousand of them a step, as in the
authors' code. A user makes the data's card of the archive once, see `retable data adopt`:

    retable run gcl/node-ogb --scale full --datasets ogbn-arxiv
"""

from .node import Node
from .nodes.ogb import OgbTask
from .task import controls


class NodeOgb(Node):
    """`Node`, scored by OGB's evaluator."""

    task_class = OgbTask
    controls = controls(OgbTask.load)

    def view_geometry(self) -> dict[str, float]:
        """Not measured here."""
        return {}


EXPERIMENT = NodeOgb
