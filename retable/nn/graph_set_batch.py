"""A set of graphs as one batch."""

import torch

from retable.data.graph_sets import GraphSet, node_features, simple_edges
from retable.nn.graph_batch import GraphBatch


def batch_of(graphs: GraphSet) -> GraphBatch:
    """All graphs, with attributes beside one-hot labels as features, the constant 1 where the set has neither."""
    x = node_features(graphs, attributes=True)
    features = torch.ones(len(graphs.node_graph), 1) if x is None else torch.from_numpy(x)
    edges, owner = torch.from_numpy(simple_edges(graphs)), torch.from_numpy(graphs.node_graph)
    return GraphBatch(features, edges, owner, len(graphs.y))
