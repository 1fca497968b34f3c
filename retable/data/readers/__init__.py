"""Readers: from verified files to a set of nodes, graphs, images or sentences. A card names its reader; no torch here.

Each reader takes the card and the folder that holds the card's files, which the caller has verified.
"""

from collections.abc import Callable
from pathlib import Path

from retable.cards import DatasetCard
from retable.data.containers import NodeGraph
from retable.data.graph_sets import GraphSet
from retable.data.image_sets import ImageSet
from retable.data.readers.embedded import digits_grid, digits_knn
from retable.data.readers.embedded_images import digits_16
from retable.data.readers.geom_gcn import geom_gcn
from retable.data.readers.glue import glue
from retable.data.readers.images import cifar_binary
from retable.data.readers.npz import gnn_benchmark, heterophilous
from retable.data.readers.planetoid import planetoid
from retable.data.readers.problems import json_lines
from retable.data.readers.tu import tu
from retable.data.sentence_sets import SentenceSet

Parsed = NodeGraph | GraphSet | ImageSet | SentenceSet
Reader = Callable[[DatasetCard, Path], Parsed]

READERS: dict[str, Reader] = {
    "cifar_binary": cifar_binary,
    "digits_16": digits_16,
    "digits_grid": digits_grid,
    "digits_knn": digits_knn,
    "geom_gcn": geom_gcn,
    "glue": glue,
    "gnn_benchmark": gnn_benchmark,
    "heterophilous": heterophilous,
    "json_lines": json_lines,
    "planetoid": planetoid,
    "tu": tu,
}
