"""Matrices as the data readers hold them, for torch."""

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from retable.nn.sparse import csr_from_entries


def csr_tensor(matrix: scipy.sparse.csr_array) -> Tensor:
    """A scipy matrix (n, m) as a torch CSR tensor of its dtype."""
    entries = matrix.tocoo()
    rows, cols = (torch.from_numpy(index.astype(np.int64)) for index in (entries.row, entries.col))
    return csr_from_entries(rows, cols, torch.from_numpy(entries.data), matrix.shape)
