"""Readers: from verified files to a set of nodes, graphs, images or sentences. A card names its reader; no torch here.

Each reader takes the card and the folder that holds the card's files, which the caller has verified.
"""

from collections.abc import Callable
from pathlib import Path

from retable.cards import DatasetCard
from retable.data.containers import NodeGraph
from retable.data.folder_images import FolderSet
from retable.data.graph_sets import GraphSet
from retable.data.image_sets import ImageSet
from retable.data.molecules import MoleculeSet
from retable.data.node_sets import NodeSet
from retable.data.readers.embedded import digits_grid, digits_knn
from retable.data.readers.embedded_frames import random_frames
from retable.data.readers.embedded_images import digits_16
from retable.data.readers.embedded_pairs import word_pairs
from retable.data.readers.folders import image_folder
from retable.data.readers.geom_gcn import geom_gcn
from retable.data.readers.glue import glue
from retable.data.readers.images import cifar_binary, stl10_binary, tiny_imagenet
from retable.data.readers.moleculenet import moleculenet
from retable.data.readers.npz import gnn_benchmark, heterophilous
from retable.data.readers.ogb import ogb_graphs, ogb_nodes
from retable.data.readers.planetoid import planetoid
from retable.data.readers.ppi import ppi
from retable.data.readers.problems import code_problems, json_lines
from retable.data.readers.text import facts, plain_text, sums
from retable.data.readers.tu import tu
from retable.data.readers.tu_targets import tu_targets
from retable.data.sentence_sets import SentenceSet
from retable.data.text_sets import TextSet

Parsed = NodeGraph | NodeSet | GraphSet | MoleculeSet | ImageSet | FolderSet | SentenceSet | TextSet
Reader = Callable[[DatasetCard, Path], Parsed]

READERS: dict[str, Reader] = {
    "cifar_binary": cifar_binary,
    "code_problems": code_problems,
    "digits_16": digits_16,
    "digits_grid": digits_grid,
    "digits_knn": digits_knn,
    "facts": facts,
    "geom_gcn": geom_gcn,
    "glue": glue,
    "gnn_benchmark": gnn_benchmark,
    "heterophilous": heterophilous,
    "image_folder": image_folder,
    "json_lines": json_lines,
    "moleculenet": moleculenet,
    "ogb_graphs": ogb_graphs,
    "ogb_nodes": ogb_nodes,
    "plain_text": plain_text,
    "planetoid": planetoid,
    "ppi": ppi,
    "random_frames": random_frames,
    "stl10_binary": stl10_binary,
    "sums": sums,
    "tiny_imagenet": tiny_imagenet,
    "tu": tu,
    "tu_targets": tu_targets,
    "word_pairs": word_pairs,
}
