"""The experiment on nodes."""

import numpy as np
import scipy.sparse
import torch

from methods.gind.run import Chosen, split_of
from retable.data.containers import NodeGraph, NodeSplit


def test_the_checkpoint_is_the_authors() -> None:
    chosen, model = Chosen(), torch.nn.Linear(1, 1)
    seen = []
    # A new best; a tie with a lower loss; a tie with a higher one; worse; a new best with a higher loss.
    for epoch, (accuracy, loss) in enumerate([(50, 1.0), (50, 0.8), (50, 0.9), (40, 0.1), (60, 2.0)], 1):
        with torch.no_grad():
            model.bias.fill_(epoch)
        chosen.update(accuracy, loss, model)
        seen.append((chosen.weights["bias"].item(), chosen.waited))
    assert seen == [(1, 0), (2, 0), (2, 0), (2, 1), (5, 0)]
    assert chosen.loss == 0.8


def test_a_seed_has_its_own_of_ten_splits() -> None:
    masks = [NodeSplit(*(np.zeros(2, dtype=bool) for _ in range(3))) for _ in range(11)]
    x, edges = scipy.sparse.csr_array(np.ones((2, 1), dtype=np.float32)), np.zeros((2, 0), dtype=np.int64)
    graph = NodeGraph("g", x, edges, np.zeros(2, dtype=np.int64), {f"geom-{i}": masks[i] for i in range(10)})
    assert split_of(graph, masks[10], 13) is masks[3]
    plain = NodeGraph("g", x, edges, np.zeros(2, dtype=np.int64), {"default": masks[10]})
    assert split_of(plain, masks[10], 3) is masks[10]
