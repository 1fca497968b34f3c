"""Protein interactions in tissues (Hamilton et al., 2017, https://arxiv.org/abs/1706.02216), in GraphSAGE's files."""

import json
from pathlib import Path

import numpy as np

from retable.cards import DatasetCard
from retable.data.containers import DataError, NodeSplit
from retable.data.node_sets import NodeSet
from retable.data.readers.tu import first_outside

PARTS = ("train", "valid", "test")
FIELDS = {"graph": "json", "graph_id": "npy", "feats": "npy", "labels": "npy"}


def ppi(card: DatasetCard, raw: Path) -> NodeSet:
    """Read `<part>_graph.json` (node-link), `<part>_graph_id.npy`, `<part>_feats.npy` and `<part>_labels.npy`.

    Parts follow each other; graphs are numbered through from 0. Split `fixed`: the three parts. Raises DataError that
    names the file for contents that do not fit together.
    """
    found = [_part(card, raw, part) for part in PARTS]
    nodes = np.cumsum([0] + [len(part["owner"]) for part in found])
    graphs = [int(part["owner"].max()) + 1 for part in found]
    firsts = np.cumsum([0, *graphs])
    if len({(part["x"].shape[1], part["y"].shape[1]) for part in found}) > 1:
        raise DataError(f"{card.name}: the parts have different numbers of features or labels")
    number = np.repeat(np.arange(len(PARTS)), graphs)
    return NodeSet(
        card.name,
        np.concatenate([part["x"] for part in found]),
        np.concatenate([part["edges"] + first for part, first in zip(found, nodes, strict=False)], axis=1),
        np.concatenate([part["owner"] + first for part, first in zip(found, firsts, strict=False)]),
        np.concatenate([part["y"] for part in found]),
        {"fixed": NodeSplit(*(number == part for part in range(len(PARTS))))},
    )


def _part(card: DatasetCard, raw: Path, part: str) -> dict[str, np.ndarray]:
    names = {field: f"{part}_{field}.{ending}" for field, ending in FIELDS.items()}
    paths = {field: file.path for field, name in names.items() for file in card.files if Path(file.path).name == name}
    if missing := sorted(names[field] for field in FIELDS if field not in paths):
        raise DataError(f"{card.name}: the card lacks the files {missing}")

    def require(field: str, good: bool, wrong: str) -> None:
        if not good:
            raise DataError(f"{paths[field]}: {wrong}")

    def array(field: str) -> np.ndarray:
        try:
            return np.load(raw / paths[field], allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{paths[field]}: no array of numbers ({error})") from None

    owner, x, y = array("graph_id"), array("feats"), array("labels")
    nodes = len(owner)
    steps = np.diff(owner.astype(np.int64)) if owner.ndim == 1 and owner.dtype.kind in "iu" and nodes else None
    require("graph_id", steps is not None and bool(np.isin(steps, (0, 1)).all()), "not an ascending list of graphs")
    require("feats", x.ndim == 2 and len(x) == nodes, f"{x.shape} values for {nodes} nodes")
    require("labels", y.ndim == 2 and len(y) == nodes, f"{y.shape} values for {nodes} nodes")
    require("labels", bool(np.isin(y, (0, 1)).all()), "a label other than 0 and 1")
    try:
        links = json.loads((raw / paths["graph"]).read_text(encoding="utf-8"))["links"]
        edges = np.array([(link["source"], link["target"]) for link in links], dtype=np.int64).reshape(-1, 2).T
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{paths['graph']}: no node-link graph ({error!r})") from None
    inside = not edges.size or 0 <= edges.min() <= edges.max() < nodes
    wrong = "" if inside else f"edge {first_outside(edges, nodes)[0]} leaves the {nodes} nodes"
    require("graph", inside, wrong)
    require("graph", bool((owner[edges[0]] == owner[edges[1]]).all()), "an edge joins two graphs")
    owner = owner.astype(np.int64) - int(owner[0])
    return {"owner": owner, "x": x.astype(np.float32), "y": y.astype(np.int64), "edges": np.ascontiguousarray(edges)}
