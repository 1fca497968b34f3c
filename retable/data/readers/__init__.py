"""Readers: from verified files to a NodeGraph, a GraphSet or an ImageSet. A card names its reader; torch is not needed.

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
from retable.data.readers.images import cifar_binary
from retable.data.readers.npz import gnn_benchmark, heterophilous
from retable.data.readers.planetoid import planetoid
from retable.data.readers.tu import tu

Parsed = NodeGraph | GraphSet | ImageSet
Reader = Callable[[DatasetCard, Path], Parsed]

READERS: dict[str, Reader] = {
    "cifar_binary": cifar_binary,
    "digits_16": digits_16,
    "digits_grid": digits_grid,
    "digits_knn": digits_knn,
    "geom_gcn": geom_gcn,
    "gnn_benchmark": gnn_benchmark,
    "heterophilous": heterophilous,
    "planetoid": planetoid,
    "tu": tu,
}
