"""TUDataset's text files (Morris et al., 2020, https://arxiv.org/abs/2007.08663), parsed without a loop over lines."""

import warnings
from pathlib import Path

import numpy as np

from retable.cards import DatasetCard
from retable.data.containers import DataError
from retable.data.graph_sets import GraphSet
from retable.data.readers.splits import stratified_folds

PARTS = ("A", "graph_indicator", "graph_labels", "node_labels", "node_attributes")
REQUIRED = PARTS[:3]


def tu(card: DatasetCard, raw: Path) -> GraphSet:
    """Read `<NAME>_A.txt` and its companions; edge labels and edge attributes are not read.

    Nodes and graphs are numbered from 1 in the files. Edges are kept as listed: both directions of each link
    (REDDIT-BINARY lists each twice). Split `folds-10`: stratified, from the names of data set and split.
    Raises DataError that names the file for contents that do not fit together.
    """
    files = {part: file.path for part in PARTS for file in card.files if file.path.endswith(f"_{part}.txt")}
    if missing := set(REQUIRED) - set(files):
        raise DataError(f"{card.name}: the card lacks the TU files {sorted(missing)}")

    node_graph = _integers(raw, files["graph_indicator"]) - 1
    labels = _integers(raw, files["graph_labels"])
    nodes, graphs = len(node_graph), len(labels)
    if nodes == 0 or node_graph.min() < 0 or node_graph.max() >= graphs or (np.diff(node_graph) < 0).any():
        raise DataError(f"{files['graph_indicator']}: not an ascending list of graphs 1 to {graphs}")
    edges = _integers(raw, files["A"]) - 1
    if len(edges) % 2:
        raise DataError(f"{files['A']}: an odd number of ends ({len(edges)}); each line is `row, column`")
    edges = np.ascontiguousarray(edges.reshape(-1, 2).T)
    if edges.size and (edges.min() < 0 or edges.max() >= nodes):
        line, value = first_outside(edges, nodes)
        raise DataError(
            f"{files['A']}:{line}: an edge names node {value + 1}; the data set has {nodes}, numbered from 1"
        )
    if (node_graph[edges[0]] != node_graph[edges[1]]).any():
        raise DataError(f"{files['A']}: an edge joins two graphs")

    y = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    node_labels = node_attributes = None
    if path := files.get("node_labels"):
        node_labels = _integers(raw, path)
        _require(path, len(node_labels), nodes)
        node_labels -= node_labels.min()
    if path := files.get("node_attributes"):
        values = numbers(raw, path, np.float64)
        if len(values) % nodes:
            raise DataError(f"{path}: {len(values)} values do not make rows of equal length for {nodes} nodes")
        node_attributes = values.reshape(nodes, -1).astype(np.float32)
    folds = {"folds-10": stratified_folds(card.name, "folds-10", y, 10)}
    return GraphSet(card.name, edges, node_graph, y, node_labels, node_attributes, folds)


def first_outside(edges: np.ndarray, nodes: int) -> tuple[int, int]:
    """Of edges (2, E): the number, from 1, of the first one with an end outside of 0 to nodes - 1, and that end."""
    outside = (edges < 0) | (edges >= nodes)
    place = int(outside.any(axis=0).argmax())
    return place + 1, int(edges[outside[:, place].argmax(), place])


def _integers(raw: Path, path: str) -> np.ndarray:
    return numbers(raw, path, np.int64)


def numbers(raw: Path, path: str, dtype: type) -> np.ndarray:
    """All numbers of a text file, separated by commas, spaces or line ends."""
    text = (raw / path).read_bytes().replace(b",", b" ")
    if not text.strip():
        return np.empty(0, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # older numpy only warns and returns what came before
        try:
            return np.fromstring(text, dtype=dtype, sep=" ")
        except (ValueError, DeprecationWarning):
            raise DataError(f"{path}: holds something else than {np.dtype(dtype).name} numbers") from None


def _require(path: str, got: int, nodes: int) -> None:
    if got != nodes:
        raise DataError(f"{path}: {got} labels for {nodes} nodes")
