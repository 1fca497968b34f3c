"""The normalisation layers that ContraNorm is compared with, and all of them by name, called as ``layer(x, mask)``.

Shapes: ``x`` (n, d), a row for each node; x_i is a row, and c_i = x_i - mean_j x_j.
"""

from typing import Any, get_args

from torch import Tensor, nn

from retable.nn.mask import NeighbourMask
from retable.nn.rows import normalize_rows

from .norm import ContraNorm, FeatureContraNorm
from .settings import NormName

NORMS = get_args(NormName)
PAIR_NORMS = ("PN", "PN-SI", "PN-SCS")


class Identity(nn.Identity):
    """No normalisation: ``y = x``; arguments of the constructor are ignored."""

    def forward(self, x: Tensor, mask: NeighbourMask | None = None) -> Tensor:
        """``x`` itself."""
        return x


class PairNorm(nn.Module):
    """PairNorm (Zhao & Akoglu, ICLR 2020, arXiv 1909.12223), with e = 1e-6 under every root.

    * PN, which keeps the mean squared distance of two rows at 2 s^2: ``y_i = s c_i / sqrt(e + mean_j ||c_j||^2)``
    * PN-SI, each row with its own norm: ``y_i = s c_i / sqrt(e + ||c_i||^2)``
    * PN-SCS, scaled first, then centred: ``y_i = s x_i / sqrt(e + ||x_i||^2) - mean_j x_j``

    ``ValueError`` for another mode.
    """

    def __init__(self, mode: str, scale: float) -> None:
        super().__init__()
        if mode not in PAIR_NORMS:
            raise ValueError(f"unknown PairNorm mode {mode!r}: choose one of {', '.join(PAIR_NORMS)}")
        self.mode, self.scale = mode, scale

    def forward(self, x: Tensor, mask: NeighbourMask | None = None) -> Tensor:
        """``x`` (n, d), same shape out; ``mask`` is not used."""
        mean = x.mean(dim=0)
        if self.mode == "PN-SCS":
            return self.scale * x / (1e-6 + x.square().sum(1, keepdim=True)).sqrt() - mean
        centred = x - mean
        squared = centred.square().sum(1, keepdim=True)
        return self.scale * centred / (1e-6 + (squared.mean() if self.mode == "PN" else squared)).sqrt()


class CentredUnit(nn.Module):
    """The authors' "LN" mode: ``y_i = r_i / ||r_i||`` with r_i = x_i less the mean of its d entries.

    That is LayerNorm over sqrt(d), without parameters.
    """

    def forward(self, x: Tensor, mask: NeighbourMask | None = None) -> Tensor:
        """``x`` (n, d), same shape out; ``mask`` is not used."""
        return normalize_rows(x - x.mean(dim=-1, keepdim=True))


class DifferentiableGroupNorm(nn.Module):
    """DGN (Zhou et al., NeurIPS 2020, arXiv 2006.06972), PyG's ``DiffGroupNorm``.

    ``y = x + lambda sum_g BatchNorm_g(S_g x)``: S = softmax_rows(x W) (n, ``groups``) are soft groups of nodes, S_g x
    the rows of x times their share in group g.
    """

    def __init__(self, dim: int, groups: int = 10, lamda: float = 0.01) -> None:
        super().__init__()
        from torch_geometric.nn import DiffGroupNorm  # imported on use: it takes seconds

        self.norm = DiffGroupNorm(dim, groups, lamda)

    def forward(self, x: Tensor, mask: NeighbourMask | None = None) -> Tensor:
        """``x`` (n, d), same shape out; ``mask`` is not used."""
        return self.norm(x)


def make_norm(name: NormName, dim: int, scale: float = 1.0, **options: Any) -> nn.Module:
    """Normalisation layer by its short name in the literature, called as ``layer(x, mask)``; see ``NORMS``.

    ``dim``: channels; ``scale``: s of PairNorm and ContraNorm; ``options``: those of the layer (``tau`` and
    others for "CN" and "CN-D", ``groups`` and ``lamda`` for "DGN"). ``ValueError`` for an unknown name.
    """
    if name not in NORMS:
        raise ValueError(f"unknown norm {name!r}: choose one of {', '.join(NORMS)}")
    if name == "CN":
        return ContraNorm(scale, dim=dim, **options)
    if name == "CN-D":
        return FeatureContraNorm(scale, **options)
    if name == "DGN":
        return DifferentiableGroupNorm(dim, **options)
    if options:
        raise ValueError(f"norm {name!r} takes no options, got {', '.join(options)}")
    if name in PAIR_NORMS:
        return PairNorm(name, scale)
    return CentredUnit() if name == "LN" else Identity()
