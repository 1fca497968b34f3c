"""The suite's data in the types that others use: graphs as torch-geometric's, images as torchvision's datasets.

    cora = retable.interop.graph("cora")                       # a Data, with train_mask, val_mask, test_mask
    mutag = retable.interop.graphs("mutag")                    # an InMemoryDataset
    digits = retable.interop.images("digits-16", "train", transform)

Files are fetched and their hashes checked as for any run.
"""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from retable.cards import CardError, unknown
from retable.config import Workspace
from retable.data.containers import NodeGraph, NodeSplit, distinct_edges
from retable.data.folder_images import FolderSet
from retable.data.graph_sets import GraphSet, node_features, simple_edges
from retable.data.image_sets import ImageSet

if TYPE_CHECKING:
    from torch_geometric.data import Data, InMemoryDataset
    from torchvision.datasets import VisionDataset

PARTS = ("train", "val", "test")


def read(workspace: Workspace, name: str, split: str | None = None) -> tuple[Any, Any]:
    """A data set and one of its splits (the card's first if none is named) as the suite has them, fetched if need be.
    Raises CardError for an unknown name and DataError for data that cannot be had.
    """
    from retable.data.fetch import fetch
    from retable.data.load import load
    from retable.outside import teach_readers

    if name not in workspace.datasets:
        raise CardError(unknown("data set", name, list(workspace.datasets)))
    card = workspace.datasets[name]
    teach_readers(workspace.outside.readers)
    fetch(card, workspace.raw, workspace.mirror)
    return load(card, split, workspace.raw)


def graph(name: str, split: str | None = None, *, workspace: Workspace | None = None) -> "Data":
    """A graph of nodes: `x` dense (N, F), `edge_index` each link in both directions once and no self-loops, `y`, and
    the split's masks.
    """
    data, parts = read(workspace or _workspace(), name, split)
    if not isinstance(data, NodeGraph):
        raise CardError(f"{name} is no graph of nodes but a {type(data).__name__}; `graphs` and `images` give others")
    return as_data(data, parts)


def as_data(graph: NodeGraph, split: NodeSplit | None = None) -> "Data":
    """As `graph`, of a graph that is read already."""
    from torch_geometric.data import Data

    edges = distinct_edges(graph.edge_index, len(graph.y), loops=False, undirected=True)
    masks = {f"{part}_mask": torch.from_numpy(getattr(split, part).astype(bool)) for part in PARTS} if split else {}
    x = torch.from_numpy(graph.x.toarray())
    return Data(x=x, edge_index=torch.from_numpy(edges), y=torch.from_numpy(graph.y), **masks)


def graphs(name: str, *, attributes: bool = True, workspace: Workspace | None = None) -> "InMemoryDataset":
    """A set of graphs: one-hot node labels beside the nodes' attributes as `x`, a constant 1 where there are none."""
    data, _ = read(workspace or _workspace(), name)
    if not isinstance(data, GraphSet):
        raise CardError(f"{name} is no set of graphs but a {type(data).__name__}; `graph` and `images` give others")
    return as_dataset(data, attributes=attributes)


def as_dataset(graphs: GraphSet, *, attributes: bool = True) -> "InMemoryDataset":
    """As `graphs`, of a set that is read already."""
    from torch_geometric.data import Data, InMemoryDataset

    features = node_features(graphs, attributes=attributes)
    x = torch.ones(len(graphs.node_graph), 1) if features is None else torch.from_numpy(features)
    edges = torch.from_numpy(simple_edges(graphs))
    sizes = np.bincount(graphs.node_graph, minlength=len(graphs.y))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    owner = torch.from_numpy(graphs.node_graph)[edges[0]]
    found = []
    for number, (start, end) in enumerate(itertools.pairwise(starts)):
        own = edges[:, owner == number] - int(start)
        y = torch.tensor([int(graphs.y[number])])
        found.append(Data(x=x[start:end], edge_index=own, y=y, num_nodes=int(end - start)))

    class Graphs(InMemoryDataset):
        """Graphs in the order of the suite's set."""

        def __init__(self) -> None:
            super().__init__(root=None)
            self.data, self.slices = self.collate(found)

    return Graphs()


def images(
    name: str,
    part: str = "train",
    transform: Callable | None = None,
    split: str | None = None,
    *,
    workspace: Workspace | None = None,
) -> "VisionDataset":
    """The images of a part of a split, PIL's, with their classes, as torchvision's datasets give them."""
    from PIL import Image
    from torchvision.datasets import VisionDataset

    if part not in PARTS:
        raise CardError(unknown("part", part, list(PARTS)))
    workspace = workspace or _workspace()
    data, parts = read(workspace, name, split)
    if isinstance(data, FolderSet):
        raise CardError(
            f"{name} stays in its folder; torchvision.datasets.ImageFolder({str(workspace.raw)!r} ...) reads it"
        )
    if not isinstance(data, ImageSet):
        raise CardError(f"{name} has no images but is a {type(data).__name__}; `graph` and `graphs` give others")
    places = getattr(parts, part)

    class Images(VisionDataset):
        """One part of a split."""

        classes = list(data.classes)
        targets = data.labels[places].tolist()

        def __len__(self) -> int:
            return len(places)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            pixels = data.images[places[index]].transpose(1, 2, 0)
            image: Any = Image.fromarray(pixels)
            return (self.transform(image) if self.transform else image), int(data.labels[places[index]])

    return Images(str(workspace.raw), transform=transform)


def _workspace() -> Workspace:
    from retable.library import workspace

    return workspace()
