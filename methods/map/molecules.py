"""Targets of molecules with a positional encoding: ZINC's constrained solubility, OGB's labels.

GatedGCN in the authors' configurations; the last epoch is evaluated. A GPU is wanted:

    retable data adopt zinc-12k FOLDER        # of TUDataset's ZINC_train, ZINC_val and ZINC_test, unpacked
    retable run map/zinc --scale full --datasets zinc-12k
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.evaluate.ogb import ogb_score
from retable.experiment import Experiment
from retable.nn.graph_batch import GraphBatch
from retable.train.context import Context, Result

from .canonize import Precision
from .encoding import Spectrum, encode
from .graphs import adjacencies, spectrum_of
from .networks import GatedGCNLayer, Trunk
from .settings import MoleculeSettings


def lap_pe(pairs: Spectrum, k: int) -> Tensor:
    """Eigenvectors 2 to k + 1 of I - A_n, ascending, unscaled: (n, k), zeros where a graph has fewer."""
    columns = pairs.vectors.flip(1)[:, :k]
    return F.pad(columns, (0, k - columns.shape[1]))


class Task:
    """Atoms and bonds of all molecules, the encoding (N, k) of atoms, targets (G, T), and the parts of the division."""

    def __init__(self, s: MoleculeSettings, context: Context) -> None:
        data, split = context.data()
        device = context.device
        owner = data.node_graph[data.edge_index[0]]
        order = np.argsort(owner, kind="stable")
        graphs = np.arange(len(data.y) + 1)
        self.nodes, self.edges = (np.searchsorted(part, graphs) for part in (data.node_graph, owner[order]))
        self.atoms, self.bonds, self.edge_index = (
            torch.from_numpy(part).to(device)
            for part in (data.node_features, data.edge_features[order], data.edge_index[:, order])
        )
        self.kinds = _kinds(data.node_features), _kinds(data.edge_features)
        columns = [self._encode(adjacency, s) for adjacency in adjacencies(data, graphs[:-1])]
        self.columns = torch.cat(columns).float().to(device)
        self.y = torch.from_numpy(data.y.reshape(len(data.y), -1)).float().to(device)
        self.parts = {part: torch.from_numpy(np.flatnonzero(mask)).to(device) for part, mask in vars(split).items()}

    @staticmethod
    def _encode(adjacency: Tensor, s: MoleculeSettings) -> Tensor:
        if s.encoding == "none":
            return adjacency.new_zeros(len(adjacency), s.k)
        pairs = spectrum_of(adjacency)
        return encode(pairs, s.k, Precision()).columns if s.encoding == "map" else lap_pe(pairs, s.k)

    def batch(self, rows: Tensor) -> tuple[GraphBatch, Tensor, Tensor, Tensor]:
        """The molecules `rows` (B,): atoms (n, A) as a batch, bonds (m, B), encodings (n, k), targets (B, T)."""
        chosen = rows.tolist()
        nodes, edges = (
            torch.cat([torch.arange(ends[row], ends[row + 1], device=rows.device) for row in chosen])
            for ends in (self.nodes, self.edges)
        )
        sizes = self.nodes[1:][chosen] - self.nodes[:-1][chosen]
        shift = np.cumsum(sizes) - sizes - self.nodes[:-1][chosen]
        shifts = np.repeat(shift, self.edges[1:][chosen] - self.edges[:-1][chosen])
        links = self.edge_index[:, edges] + torch.from_numpy(shifts).to(rows.device)
        owner = torch.from_numpy(np.repeat(np.arange(len(chosen)), sizes)).to(rows.device)
        batch = GraphBatch(self.atoms[nodes], links, owner, len(chosen))
        return batch, self.bonds[edges], self.columns[nodes], self.y[rows]


def _kinds(categories: np.ndarray) -> list[int]:
    return (categories.max(axis=0) + 1).tolist()


class Categories(nn.Module):
    """The sum of an embedding for each column of category numbers (n, C)."""

    def __init__(self, sizes: list[int], dim: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, dim) for size in sizes)

    def forward(self, numbers: Tensor) -> Tensor:
        return torch.stack([table(column) for table, column in zip(self.tables, numbers.T, strict=True)]).sum(0)


class MoleculeNet(nn.Module):
    """GatedGCN on atoms and bonds; the head halves the width twice."""

    def __init__(self, kinds: tuple[list[int], list[int]], targets: int, s: MoleculeSettings) -> None:
        super().__init__()
        self.s = s
        self.atoms, self.bonds = (Categories(sizes, s.hidden) for sizes in kinds)
        self.place = nn.Linear(s.k, s.hidden) if s.encoding != "none" else None
        self.trunk = self.join = None
        if s.encoding == "map":
            self.trunk = Trunk(s.k, s.trunk_hidden, s.trunk_layers, even=False, out_layers=s.trunk_layers)
            self.join = nn.Linear(2 * s.hidden, s.hidden)
        widths = [s.hidden] * s.layers + [s.out]
        self.layers = nn.ModuleList(GatedGCNLayer(a, b) for a, b in itertools.pairwise(widths))
        half, quarter = s.out // 2, s.out // 4
        self.head = nn.Sequential(
            nn.Linear(s.out, half), nn.ReLU(), nn.Linear(half, quarter), nn.ReLU(), nn.Linear(quarter, targets)
        )

    def forward(self, batch: GraphBatch, bonds: Tensor, columns: Tensor) -> Tensor:
        """Targets (B, T) of atoms, bonds (m, B) and encodings (n, k)."""
        s = self.s
        h = F.dropout(self.atoms(batch.x), s.input_dropout, self.training)
        if self.trunk is not None and self.join is not None and self.place is not None:
            read = self.trunk(columns, replace(batch, x=columns))
            h = self.join(torch.cat([h, self.place(read)], dim=1))
        elif self.place is not None:
            h = h + self.place(columns)
        e = self.bonds(bonds)
        for layer in self.layers:
            h, e = (F.dropout(state, s.dropout, self.training) for state in layer(h, e, batch))
        pooled = h.new_zeros(batch.graphs, h.shape[1]).index_add(0, batch.node_graph, h)
        return self.head(pooled / batch.sizes[:, None] if s.readout == "mean" else pooled)


class Molecules(Experiment[MoleculeSettings]):
    """Train on the division's training molecules until the learning rate has fallen below its least."""

    model: MoleculeNet

    def __init__(self, settings: MoleculeSettings, context: Context) -> None:
        super().__init__(settings, context)
        self.task = Task(settings, context)
        context.seed_torch("weights")
        self.model = MoleculeNet(self.task.kinds, self.task.y.shape[1], settings).to(context.device)

    def train(self) -> None:
        s, task, model = self.settings, self.task, self.model
        optimiser = torch.optim.Adam(model.parameters(), lr=s.lr, weight_decay=s.weight_decay)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=s.lr_factor, patience=s.lr_patience)
        for epoch in self.context.epochs(s.epochs, model=model, optimiser=optimiser, schedule=schedule):
            model.train()
            losses = []
            order = task.parts["train"][torch.randperm(len(task.parts["train"]))]
            for rows in order.split(s.batch_size):
                loss = self._loss(rows)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.detach())
            val = self._val_loss()
            schedule.step(val)
            self.context.log(epoch, loss=torch.stack(losses).mean().item(), val_loss=val)
            if optimiser.param_groups[0]["lr"] < s.min_lr:
                break

    def _loss(self, rows: Tensor) -> Tensor:
        batch, bonds, columns, y = self.task.batch(rows)
        if self.settings.encoding == "random-sign" and self.model.training:
            columns = columns * (2 * torch.randint(2, (1, columns.shape[1]), device=columns.device) - 1)
        predicted = self.model(batch, bonds, columns)
        if self.settings.evaluator == "mae":
            return (predicted - y).abs().mean()
        known = ~y.isnan()
        return F.binary_cross_entropy_with_logits(predicted[known], y[known])

    @torch.no_grad()
    def _val_loss(self) -> float:
        self.model.eval()
        rows = self.task.parts["val"]
        parts = rows.split(self.settings.batch_size)
        return sum(self._loss(part).item() * len(part) for part in parts) / len(rows)

    @torch.no_grad()
    def _scored(self, part: str) -> float:
        self.model.eval()
        rows = self.task.parts[part]
        predicted = torch.cat([self.model(*batch[:3]) for batch in self._batches(rows)])
        if self.settings.evaluator == "mae":
            return (predicted - self.task.y[rows]).abs().mean().item()
        return ogb_score(self.settings.evaluator, self.task.y[rows].cpu().numpy(), predicted.cpu().numpy())

    def _batches(self, rows: Tensor) -> Iterator[tuple[GraphBatch, Tensor, Tensor, Tensor]]:
        return (self.task.batch(part) for part in rows.split(self.settings.batch_size))

    def measure(self) -> Result:
        """The mean absolute error, or OGB's metric in percent, on the validation and test molecules."""
        name = "mae" if self.settings.evaluator == "mae" else "score"
        return Result({f"{part}_{name}": self._scored(part) for part in ("val", "test")})

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The first training molecules, without dropout."""
        self.model.eval()
        rows = self.task.parts["train"][: self.settings.batch_size]
        return lambda: self._loss(rows)


EXPERIMENT = Molecules
