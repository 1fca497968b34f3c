"""Which pairs of rows a softmax or a kernel leaves out, as an edge list."""

import torch
from torch import Tensor


class NeighbourMask:
    """Pairs (i, j) that the softmax of row i leaves out, kept as an edge list: no n x n array.

    ``pairs`` int64 (2, E), self pairs included where a node is to leave out itself; ``n`` the node count.
    """

    def __init__(self, pairs: Tensor, n: int) -> None:
        if pairs.dim() != 2 or pairs.shape[0] != 2:
            raise ValueError(f"NeighbourMask needs pairs of shape (2, E), got {tuple(pairs.shape)}")
        if pairs.numel() and (int(pairs.min()) < 0 or int(pairs.max()) >= n):
            raise ValueError(f"NeighbourMask: pairs name nodes outside 0 .. {n - 1}; pass the number of all nodes")
        self.n = n
        keys = torch.unique(pairs[0] * n + pairs[1])
        self.rows, self.cols = keys // n, keys % n
        self.symmetric = torch.equal(torch.sort(self.cols * n + self.rows).values, keys)
        # Decided by counting: a sum of exponentials that ought to be zero is not a reliable witness.
        self.empty = torch.bincount(self.rows, minlength=n) == n
        self._blocks: dict[int, dict[tuple[int, int], Tensor]] = {}

    def to(self, device: torch.device | str) -> "NeighbourMask":
        """The same mask on another device."""
        return NeighbourMask(torch.stack([self.rows, self.cols]).to(device), self.n)

    def dense(self) -> Tensor:
        """Boolean (n, n), True where left out."""
        blocked = torch.zeros(self.n, self.n, dtype=torch.bool, device=self.rows.device)
        blocked[self.rows, self.cols] = True
        return blocked

    def in_blocks(self, size: int) -> dict[tuple[int, int], Tensor]:
        """Flat indices of the masked entries inside each block (bi, bj) of ``size`` rows and columns."""
        if size not in self._blocks:
            bi, bj = self.rows // size, self.cols // size
            width = (self.n - bj * size).clamp(max=size)
            position = (self.rows - bi * size) * width + self.cols - bj * size
            per_side = -(-self.n // size)
            block = bi * per_side + bj
            order = torch.argsort(block, stable=True)
            names, counts = torch.unique_consecutive(block[order], return_counts=True)
            parts = position[order].split(counts.tolist())
            self._blocks[size] = {divmod(b, per_side): p for b, p in zip(names.tolist(), parts, strict=True)}
        return self._blocks[size]
