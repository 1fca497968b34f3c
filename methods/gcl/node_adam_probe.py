"""The authors' probe beside ours, on the same representations and splits.

The authors fit a linear classifier by 5,000 full-batch steps of Adam and take the step with the best validation
accuracy; `Node` solves logistic regression and chooses a penalty. The two differ by about 2.5 points on Cora:

    retable run gcl/node-adam-probe --scale full
"""

import torch
from torch import Tensor

from retable.data.containers import NodeGraph
from retable.evaluate.probes import adam_probe
from retable.train.context import Context

from .node import Node
from .nodes.task import NodeTask
from .settings import NodeSettings


class TwoProbes(NodeTask):
    """`NodeTask`, scored by the authors' probe, too: metrics that begin with ``adam_``."""

    def __init__(self, graph: NodeGraph, settings: NodeSettings, context: Context) -> None:
        super().__init__(graph, settings, context)
        self.context = context

    def scores(self, z: Tensor) -> dict[str, float]:
        metrics = super().scores(z)
        for name, (val, test) in self.protocols.items():
            self.context.seed_torch("adam probe", name)
            with torch.enable_grad():
                answers = adam_probe(z.detach(), self.y, self.train, val).predictions
            right = (answers == self.y).double()
            on_test, on_val = (100 * (right * mask).sum(1) / mask.sum(1) for mask in (test, val))
            metrics[f"adam_test_accuracy_{name}"] = on_test.mean().item()
            metrics[f"adam_val_accuracy_{name}"] = on_val.mean().item()
        return metrics


class NodeAdamProbe(Node):
    """`Node` with both probes."""

    task_class = TwoProbes


EXPERIMENT = NodeAdamProbe
