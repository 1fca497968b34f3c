"""The Open Graph Benchmark's raw archives (Hu et al., 2020, https://arxiv.org/abs/2005.00687): gzipped CSV, no pickle.

OGB's own loaders ask at the keyboard before a download and keep what they parsed as pickles. Here the card names the
archive's members, which are hashed, and the division is the one in the archive.
"""

import gzip
import re
import warnings
import zlib
from pathlib import Path

import numpy as np

from retable.cards import DatasetCard
from retable.data.containers import DataError, NodeGraph, NodeSplit, canonical_csr
from retable.data.molecules import MoleculeSet

PARTS = ("train", "valid", "test")


def ogb_nodes(card: DatasetCard, raw: Path) -> NodeGraph:
    """A graph of OGB's node property prediction (ogbn-arxiv): `raw/edge`, `raw/node-feat`, `raw/node-label`.

    Edges are directed, as listed. The option `split` names the folder of the division. Raises DataError that names the
    file for contents that do not fit together.
    """
    files = GzipTables(card, raw)
    x = files.table("raw/node-feat.csv.gz", np.float32)
    labels = files.table("raw/node-label.csv.gz", np.int64)
    nodes = len(x)
    files.require("raw/node-label.csv.gz", labels.shape == (nodes, 1), f"{labels.shape} values for {nodes} nodes")
    edges = files.table("raw/edge.csv.gz", np.int64).T
    files.require("raw/edge.csv.gz", edges.shape[0] == 2, "each line is `source,target`")
    fits = not edges.size or (edges.min() >= 0 and edges.max() < nodes)
    files.require("raw/edge.csv.gz", fits, f"an edge leaves the {nodes} nodes")
    split = str(card.options["split"])
    return NodeGraph(
        card.name,
        canonical_csr(x),
        np.ascontiguousarray(edges),
        np.ascontiguousarray(labels[:, 0]),
        {split: files.division(f"split/{split}", nodes)},
    )


def ogb_graphs(card: DatasetCard, raw: Path) -> MoleculeSet:
    """A set of OGB's molecules (ogbg-mol*): edges and nodes with their features, and the counts of each graph.

    The archive lists a bond once and numbers the nodes of each graph from 0; here each bond has both directions, next
    to each other as in OGB's loader, and nodes count through. SMILES strings are not read. Several labels, or one that
    is missing or no whole number, make `y` a table. The option `split` names the folder of the division. Raises
    DataError that names the file for contents that do not fit together.
    """
    files = GzipTables(card, raw)
    sizes, bonds = (files.table(f"raw/num-{kind}-list.csv.gz", np.int64)[:, 0] for kind in ("node", "edge"))
    labels = files.table("raw/graph-label.csv.gz", np.float32, missing=True)
    graphs, nodes = len(sizes), int(sizes.sum())
    files.require("raw/num-edge-list.csv.gz", len(bonds) == graphs, f"{len(bonds)} counts for {graphs} graphs")
    files.require("raw/graph-label.csv.gz", len(labels) == graphs, f"{labels.shape} values for {graphs} graphs")
    node_features = files.table("raw/node-feat.csv.gz", np.int64)
    files.require("raw/node-feat.csv.gz", len(node_features) == nodes, f"{len(node_features)} rows for {nodes} nodes")
    edges = files.table("raw/edge.csv.gz", np.int64)
    files.require("raw/edge.csv.gz", edges.shape == (bonds.sum(), 2), f"{edges.shape} ends for {bonds.sum()} edges")
    edge_features = files.table("raw/edge-feat.csv.gz", np.int64)
    files.require("raw/edge-feat.csv.gz", len(edge_features) == len(edges), "another number of rows than edges")

    owner = np.repeat(np.arange(graphs), bonds)
    inside = ((edges >= 0) & (edges < sizes[owner][:, None])).all()
    files.require("raw/edge.csv.gz", bool(inside), "an edge leaves the nodes of its graph")
    edges = edges + (np.cumsum(sizes) - sizes)[owner][:, None]
    both = np.stack([edges, edges[:, ::-1]], axis=1).reshape(-1, 2)
    split = str(card.options["split"])
    return MoleculeSet(
        card.name,
        np.ascontiguousarray(both.T),
        np.repeat(edge_features, 2, axis=0),
        node_features,
        np.repeat(np.arange(graphs), sizes),
        labels[:, 0].astype(np.int64) if labels.shape[1] == 1 and (labels % 1 == 0).all() else labels,
        {split: files.division(f"split/{split}", graphs)},
    )


class GzipTables:
    """A card's gzipped CSV files, by how their paths end."""

    def __init__(self, card: DatasetCard, raw: Path) -> None:
        self.card, self.raw = card, raw

    def table(self, ending: str, dtype: type, *, missing: bool = False) -> np.ndarray:
        """All numbers of a gzipped CSV file without a header: (rows, columns); empty fields are NaN if some may be."""
        path = self.path(ending)
        try:
            with gzip.open(self.raw / path) as stream:
                text = stream.read()
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self.card.name}: {path} is no readable gzip file ({error})") from None
        columns = text.split(b"\n", 1)[0].count(b",") + 1
        if missing:
            text = re.sub(rb"(^|,)(?=,|\r?$)", rb"\1nan", text.removesuffix(b"\n"), flags=re.MULTILINE)
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # older numpy only warns and returns what came before
            try:
                return np.fromstring(text.replace(b",", b" "), dtype=dtype, sep=" ").reshape(-1, columns)
            except (ValueError, DeprecationWarning):
                kind = np.dtype(dtype).name
                raise DataError(f"{self.card.name}: {path} is no table of {kind} numbers") from None

    def division(self, folder: str, number: int) -> NodeSplit:
        """The three lists of a division, in a folder, as masks over `number` places; each is in one of them at most."""
        masks, seen = [], np.zeros(number, dtype=int)
        for part in PARTS:
            ending = f"{folder}/{part}.csv.gz"
            places = self.table(ending, np.int64).ravel()
            fits = not places.size or (places.min() >= 0 and places.max() < number)
            self.require(ending, fits, f"a place outside of 0 to {number - 1}")
            seen += np.bincount(places, minlength=number)
            self.require(ending, bool((seen <= 1).all()), "a place that is listed twice, here or in another part")
            mask = np.zeros(number, dtype=bool)
            mask[places] = True
            masks.append(mask)
        return NodeSplit(*masks)

    def require(self, ending: str, good: bool, wrong: str) -> None:
        if not good:
            raise DataError(f"{self.card.name}: {self.path(ending)}: {wrong}")

    def path(self, ending: str) -> str:
        """The place below the data folder of the file that ends so; DataError if there is none."""
        for file in self.card.files:
            if file.path.endswith(f"/{ending}"):
                return file.path
        raise DataError(f"{self.card.name}: the card lists no file that ends in {ending}")
