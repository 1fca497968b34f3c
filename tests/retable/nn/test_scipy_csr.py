"""scipy's matrices as torch's."""

import numpy as np
import scipy.sparse
import torch

from retable.nn.scipy_csr import csr_tensor


def test_a_matrix_keeps_its_entries_shape_and_dtype() -> None:
    dense = np.array([[0, 2, 0], [0, 0, 0], [1, 0, 3], [0, 0, 4]], dtype=np.float32)
    made = csr_tensor(scipy.sparse.csr_array(dense))
    assert made.layout == torch.sparse_csr
    assert made.dtype == torch.float32
    assert torch.equal(made.to_dense(), torch.from_numpy(dense))
