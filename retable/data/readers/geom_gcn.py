"""Chameleon, Squirrel, Cornell, Texas, Wisconsin and Actor in the files of Geom-GCN.

Pei et al., ICLR 2020, https://arxiv.org/abs/2002.05287.
"""

from pathlib import Path

import numpy as np
import scipy.sparse

from retable.cards import DatasetCard
from retable.data.containers import DataError, NodeGraph, canonical_csr
from retable.data.readers.splits import geom_gcn_splits
from retable.data.readers.tu import first_outside


def geom_gcn(card: DatasetCard, raw: Path) -> NodeGraph:
    """Read `out1_node_feature_label.txt` and `out1_graph_edges.txt`.

    Edges are the lines of the edge file in order: directed, with self-loops; Actor's hold 3,372 repetitions.
    The card's option `features` says how a feature row is written: `indicators` (`0,1,0`: one character a
    feature) or `indices` (`17,4`: the features that are present; Actor only). Splits: `geom-0` to `geom-9`.
    """
    paths = {Path(file.path).name: file.path for file in card.files}
    table = paths["out1_node_feature_label.txt"]
    lines = (raw / table).read_bytes().splitlines()[1:]
    fields = [line.split(b"\t") for line in lines]
    if any(len(field) != 3 for field in fields):
        raise DataError(f"{table}: a line does not hold node, features and label")
    nodes = np.array([int(field[0]) for field in fields])
    if not np.array_equal(np.sort(nodes), np.arange(len(nodes))):
        raise DataError(f"{table}: the node numbers are not 0 to {len(nodes) - 1}")
    formats = {"indicators": _indicators, "indices": _indices}
    rows = formats[str(card.options["features"])]([field[1] for field in fields], table)
    labels = np.array([int(field[2]) for field in fields], dtype=np.int64)

    # Actor's lines come in no order; the inverse permutation brings row i to node i.
    place = np.argsort(nodes)
    edges = np.loadtxt(raw / paths["out1_graph_edges.txt"], dtype=np.int64, skiprows=1, ndmin=2).T
    if edges.min() < 0 or edges.max() >= len(nodes):
        number, value = first_outside(edges, len(nodes))
        raise DataError(
            f"{paths['out1_graph_edges.txt']}: edge {number} names node {value}; the data set has {len(nodes)}, "
            "numbered from 0"
        )
    splits = geom_gcn_splits(card, raw, len(nodes))
    return NodeGraph(card.name, rows[place], np.ascontiguousarray(edges), labels[place], splits)


def _indicators(texts: list[bytes], source: str) -> scipy.sparse.csr_matrix:
    """Rows like `0,1,0`. Every second byte is a feature: 35 MB are read this way in 0.2 seconds."""
    if len({len(text) for text in texts}) != 1:
        raise DataError(f"{source}: feature rows of unequal length")
    characters = np.frombuffer(b"".join(texts), np.uint8).reshape(len(texts), -1)
    values, commas = characters[:, ::2], characters[:, 1::2]
    if not (np.isin(values, (ord("0"), ord("1"))).all() and (commas == ord(",")).all()):
        raise DataError(f"{source}: feature rows hold something else than 0 and 1")
    return canonical_csr(values == ord("1"))


def _indices(texts: list[bytes], source: str) -> scipy.sparse.csr_matrix:
    """Rows like `17,4`: a feature that is named twice counts once."""
    lengths = [text.count(b",") + 1 for text in texts]
    columns = np.array(b",".join(texts).split(b","), dtype="S8").astype(np.int64)
    if columns.min() < 0:
        raise DataError(f"{source}: a negative feature number")
    rows = np.repeat(np.arange(len(texts)), lengths)
    dense = np.zeros((len(texts), columns.max() + 1), dtype=bool)
    dense[rows, columns] = True
    return canonical_csr(dense)
