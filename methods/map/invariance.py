"""Does an encoding survive a permutation of the nodes, and how many eigenvectors can be canonized? Nothing is trained.

retable run map/invariance --scale demo
"""

import numpy as np
import torch
from torch import Tensor

from retable.experiment import Experiment
from retable.train.context import Context, Result

from .canonize import Precision, canonize
from .graphs import adjacencies, encoding_of, spectrum_of
from .settings import InvarianceSettings


def invariance(settings: InvarianceSettings, context: Context) -> Result:
    """Shares in percent: columns and whole graphs whose encoding moves with the nodes, and canonizable eigenvectors.

    The encoding of a permuted graph is compared with the permuted encoding; columns that are zero in both are left out.
    The last share is of all eigenvectors but the trivial ones, whatever their eigenvalue.
    """
    s = settings
    data, _ = context.data()
    order = np.random.default_rng(context.derive("graphs")).permutation(len(data.y))[: s.graphs]
    generator = torch.Generator().manual_seed(context.derive("permutations"))
    columns, graphs, canonized = [], [], []
    for adjacency in adjacencies(data, order):
        moved_by = torch.randperm(len(adjacency), generator=generator)
        pairs = spectrum_of(adjacency)
        plain = encoding_of(pairs, s.k, s.encoding).columns[moved_by]
        moved = encoding_of(spectrum_of(adjacency[moved_by][:, moved_by]), s.k, s.encoding).columns
        same = survives(plain, moved, s.tolerance)
        columns.append(same)
        graphs.append(bool(same.all()))
        canonized.append(canonize(pairs.vectors, pairs.values, Precision(), basis=s.encoding == "map")[1])
    metrics = {
        "column_survival": 100 * torch.cat(columns).double().mean().item(),
        "graph_survival": 100 * float(np.mean(graphs)),
    }
    if s.encoding != "raw":
        metrics["canonized"] = 100 * torch.cat(canonized).double().mean().item()
    return Result(metrics)


def survives(plain: Tensor, moved: Tensor, tolerance: float) -> Tensor:
    """Of each column (n, k) that is not zero in both, whether the two are equal."""
    present = (plain.abs().amax(0) > tolerance) | (moved.abs().amax(0) > tolerance)
    return ((plain - moved).abs().amax(0) <= tolerance)[present]


class Invariance(Experiment[InvarianceSettings]):
    """Every row is measured without a model."""

    controls = {"raw": invariance, "sign": invariance, "map": invariance}


EXPERIMENT = Invariance
