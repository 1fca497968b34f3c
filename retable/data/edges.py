"""Edge lists as the papers' loaders hand them to a model."""

import numpy as np


def distinct_edges(edge_index: np.ndarray, nodes: int, *, loops: bool, undirected: bool = False) -> np.ndarray:
    """Each directed edge of (2, E) once, sorted by source and target, with or without self-loops.

    `undirected` adds the reverse of every edge. torch-geometric's loaders do this before a model sees the
    graph, so papers that use them start from these edges: Planetoid without loops, Amazon and Coauthor
    without loops and undirected, WikipediaNetwork, WebKB and Actor with loops and directed.
    """
    source, target = edge_index
    codes = source * nodes + target
    if undirected:
        codes = np.concatenate([codes, target * nodes + source])
    edges = np.stack(np.divmod(np.unique(codes), nodes))
    return edges if loops else edges[:, edges[0] != edges[1]]
