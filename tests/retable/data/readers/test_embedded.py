from fractions import Fraction

import numpy as np
from sklearn.datasets import load_digits

from retable.cards import load_dataset
from retable.data.readers.embedded import cosine_neighbours, digits_knn


def test_neighbours_equal_exact_arithmetic():
    x, _ = load_digits(return_X_y=True)
    # Equal rows make ties, which the index must break.
    x = np.concatenate([x[:40], x[:10]])
    rows = [[int(value) for value in row] for row in x]

    def squared_cosine(i, j):
        product = sum(a * b for a, b in zip(rows[i], rows[j], strict=True))
        return Fraction(product**2, sum(b * b for b in rows[j]))

    expected = [
        sorted((j for j in range(len(x)) if j != i), key=lambda j: (-squared_cosine(i, j), j))[:7]
        for i in range(len(x))
    ]
    assert cosine_neighbours(x, 7).tolist() == expected


def test_digits_are_a_clean_undirected_graph(root, tmp_path):
    card = load_dataset(root / "datasets" / "digits-knn.yaml")
    graph = digits_knn(card, tmp_path)
    source, target = graph.edge_index
    codes = source * 1797 + target
    assert (np.diff(codes) > 0).all()
    assert (source != target).all()
    assert (np.sort(target * 1797 + source) == codes).all()
    assert np.bincount(source).min() >= card.options["k"]
    assert graph.x.max() == 1.0


def test_digits_train_on_twenty_of_each_class(root, tmp_path):
    graph = digits_knn(load_dataset(root / "datasets" / "digits-knn.yaml"), tmp_path)
    split = graph.splits["default"]
    assert np.bincount(graph.y[split.train]).tolist() == [20] * 10
    assert split.sizes == (200, 500, 1097)
    assert (split.train.astype(int) + split.val + split.test == 1).all()
