"""The paper's mask graph on a toy whose views can all be enumerated: the effect of the mask ratio."""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class MaskGraph:
    """The bipartite graph of V1 visible and V2 masked views.

    ``joint`` (V1, V2): weight of each pair, sums to 1; ``by_class`` (V1, C): each visible view's weight by class.
    """

    joint: NDArray[np.float64]
    by_class: NDArray[np.float64]

    @classmethod
    def of(cls, tokens: NDArray, labels: NDArray, visible: int) -> "MaskGraph":
        """Every image (n, T) of tokens under every mask that leaves ``visible`` of T positions, all with one weight.

        A view is its set of (position, token). ``ValueError`` unless 1 to T - 1 positions stay visible.
        """
        positions = tokens.shape[1]
        if not 1 <= visible < positions:
            raise ValueError(f"a mask leaves 1 to {positions - 1} of {positions} positions visible, got {visible}")
        first: dict[tuple, int] = {}
        second: dict[tuple, int] = {}
        pairs = []
        for image, row in enumerate(tokens.tolist()):
            for kept in itertools.combinations(range(positions), visible):
                shown = tuple((i, row[i]) for i in kept)
                rest = tuple((i, row[i]) for i in range(positions) if i not in kept)
                pairs.append((first.setdefault(shown, len(first)), second.setdefault(rest, len(second)), image))
        ones, twos, whose = np.array(pairs).T
        joint = np.zeros((len(first), len(second)))
        np.add.at(joint, (ones, twos), 1 / len(pairs))
        by_class = np.zeros((len(first), int(labels.max()) + 1))
        np.add.at(by_class, (ones, labels[whose]), 1 / len(pairs))
        return cls(joint, by_class)

    def adjacency(self) -> NDArray[np.float64]:
        """Weight (V1, V1) of two visible views that share a masked view: the implicit positive pairs of MAE."""
        return (self.joint / self.joint.sum(0)) @ self.joint.T

    def eigenvalues(self) -> NDArray[np.float64]:
        """Of the adjacency, normalised by its row sums, largest first: squared singular values, between 0 and 1."""
        scale = np.sqrt(np.outer(self.joint.sum(1), self.joint.sum(0)))
        values = np.zeros(len(self.joint))
        squared = np.linalg.svd(self.joint / scale, compute_uv=False) ** 2
        values[: len(squared)] = squared
        return values

    def tail(self, dimensions: int) -> float:
        """Spectral loss of the best ``dimensions`` features: the sum of the remaining squared eigenvalues."""
        return float((self.eigenvalues()[dimensions:] ** 2).sum())

    def label_error(self) -> float:
        """alpha: weight of positive pairs whose majority labels differ; ties go to the lower class."""
        label = self.by_class.argmax(1)
        return float(self.adjacency()[label[:, None] != label].sum())

    def soft_label_error(self) -> float:
        """As alpha, with labels drawn from the views' posteriors."""
        posterior = self.by_class / self.by_class.sum(1, keepdims=True)
        return 1 - float((self.adjacency() * (posterior @ posterior.T)).sum())

    def bayes_error(self) -> float:
        """Weight of images that the majority label of their visible view misses."""
        return 1 - float(self.by_class.max(1).sum())
