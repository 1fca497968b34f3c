"""A model of somebody else's under this paper's evaluations: `retable.benchmark(model, protocol="gcl/node")`."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from retable.interop import as_data, as_dataset
from retable.train.context import Context

from .graphs.task import FoldsTask
from .nodes.task import NodeTask
from .settings import GraphSettings, NodeSettings


def node(model: Callable[[Any], Tensor], settings: NodeSettings, context: Context) -> dict[str, float]:
    """From a torch-geometric `Data` to a row for each node (N, D), which linear probes score."""
    graph, _ = context.data()
    return NodeTask.load(settings, context).evaluate(model(as_data(graph).to(context.device)))


def graph(model: Callable[[Any], Tensor], settings: GraphSettings, context: Context) -> dict[str, float]:
    """From a torch-geometric `Batch` of all graphs to a row for each (G, D), which linear SVMs score on ten folds."""
    from torch_geometric.data import Batch

    data, _ = context.data()
    batch = Batch.from_data_list(list(as_dataset(data, attributes=settings.node_attributes)))
    return FoldsTask.load(settings, context).evaluate(model(batch.to(context.device)))


PROTOCOLS = {"node": node, "graph": graph}
