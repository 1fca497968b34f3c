"""TUDataset's sets of molecules with a number each (ZINC), in the collection's three folders of a fixed division."""

from pathlib import Path

import numpy as np

from retable.cards import DatasetCard
from retable.data.containers import DataError, NodeSplit
from retable.data.molecules import MoleculeSet
from retable.data.readers.tu import numbers

FIELDS = ("A", "graph_indicator", "graph_attributes", "node_labels", "edge_labels")
PARTS = ("train", "val", "test")


def tu_targets(card: DatasetCard, raw: Path) -> MoleculeSet:
    """Read `<NAME>_train_A.txt`, `<NAME>_val_A.txt`, `<NAME>_test_A.txt` and their companions, in this order.

    Node and edge labels are categories as they stand in the files, a graph's attributes its targets. The two directions
    of a link stand next to each other, whatever their places in the file. Split `fixed`: the three parts. Raises
    DataError that names the file for contents that do not fit together.
    """
    found = [_part(card, raw, part) for part in PARTS]
    sizes = [len(part["targets"]) for part in found]
    nodes = np.cumsum([0] + [len(part["atoms"]) for part in found])
    graphs = np.cumsum([0, *sizes])
    number = np.repeat(np.arange(3), sizes)
    widths = {part["targets"].shape[1] for part in found}
    if len(widths) > 1:
        raise DataError(f"{card.name}: the parts have {sorted(widths)} targets a graph")
    return MoleculeSet(
        card.name,
        np.concatenate([part["links"] + first for part, first in zip(found, nodes, strict=False)], axis=1),
        np.concatenate([part["bonds"] for part in found])[:, None],
        np.concatenate([part["atoms"] for part in found])[:, None],
        np.concatenate([part["owner"] + first for part, first in zip(found, graphs, strict=False)]),
        np.concatenate([part["targets"] for part in found]).astype(np.float32),
        {"fixed": NodeSplit(*(number == part for part in range(3)))},
    )


def _part(card: DatasetCard, raw: Path, part: str) -> dict[str, np.ndarray]:
    paths = {field: file.path for field in FIELDS for file in card.files if file.path.endswith(f"_{part}_{field}.txt")}
    if missing := set(FIELDS) - set(paths):
        raise DataError(f"{card.name}: the card lacks the TU files {sorted(missing)} of the part {part!r}")

    def require(field: str, good: bool, wrong: str) -> None:
        if not good:
            raise DataError(f"{paths[field]}: {wrong}")

    owner, atoms, bonds, ends = (
        numbers(raw, paths[field], np.int64) for field in ("graph_indicator", "node_labels", "edge_labels", "A")
    )
    nodes = len(owner)
    ascending = nodes and owner[0] == 1 and np.isin(np.diff(owner), (0, 1)).all()
    require("graph_indicator", bool(ascending), "not an ascending list of graphs 1, 2, ...")
    graphs = int(owner[-1])
    targets = numbers(raw, paths["graph_attributes"], np.float64)
    require(
        "graph_attributes",
        len(targets) % graphs == 0 and len(targets) > 0,
        f"{len(targets)} numbers for {graphs} graphs",
    )
    require(
        "node_labels", len(atoms) == nodes and atoms.min() >= 0, f"needs a label from 0 on for each of {nodes} nodes"
    )
    require("A", len(ends) % 2 == 0, f"an odd number of ends ({len(ends)}); each line is `row, column`")
    links = ends.reshape(-1, 2).T - 1
    require("A", not links.size or 0 <= links.min() <= links.max() < nodes, f"an edge leaves the {nodes} nodes")
    require("A", bool((owner[links[0]] == owner[links[1]]).all()), "an edge joins two graphs")
    good = len(bonds) == links.shape[1] and (not bonds.size or bonds.min() >= 0)
    require("edge_labels", good, f"needs a label from 0 on for each of {links.shape[1]} lines of {paths['A']}")
    low, high = links.min(axis=0), links.max(axis=0)
    order = np.lexsort([links[0] > links[1], high, low])
    links, bonds = links[:, order], bonds[order]
    pairs = links.shape[1] % 2 == 0 and (links[:, ::2] == links[::-1, 1::2]).all() and (bonds[::2] == bonds[1::2]).all()
    require("A", bool(pairs), "a link without its other direction, or with another label there")
    return {
        "links": links, "bonds": bonds, "atoms": atoms, "owner": owner - 1, "targets": targets.reshape(graphs, -1)
    }  # fmt: skip
