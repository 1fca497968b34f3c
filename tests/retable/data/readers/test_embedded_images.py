"""scikit-learn's digits as images: the pixels, and the split by class."""

import numpy as np
from sklearn.datasets import load_digits

from retable.cards import load_dataset
from retable.data.readers.embedded_images import digits_16


def test_digits_are_upstreams_pixels_doubled(root, tmp_path):
    images = digits_16(load_dataset(root / "datasets" / "digits-16.yaml"), tmp_path)
    ink = load_digits().images
    for channel in range(3):
        for row, column in ((0, 0), (1, 0), (0, 1), (1, 1)):
            found = images.images[:, channel, row::2, column::2]
            np.testing.assert_array_equal(found, np.floor(ink * 255 / 16))


def test_labels_are_upstreams_in_upstreams_order(root, tmp_path):
    images = digits_16(load_dataset(root / "datasets" / "digits-16.yaml"), tmp_path)
    assert images.labels.tolist() == load_digits().target.tolist()
    assert images.classes == tuple(str(digit) for digit in range(10))
    assert (images.images.dtype, images.images.max(), images.images.min()) == (np.uint8, 255, 0)


def test_the_three_parts_are_apart_and_each_has_every_class_by_its_share(root, tmp_path):
    images = digits_16(load_dataset(root / "datasets" / "digits-16.yaml"), tmp_path)
    split = images.splits["default"]
    parts = split.train, split.val, split.test
    assert split.sizes == (1000, 297, 500)
    assert sorted(np.concatenate(parts)) == list(range(1797))
    shares = np.bincount(images.labels) / 1797
    for part in parts:
        found = np.bincount(images.labels[part], minlength=10)
        assert np.abs(found - shares * len(part)).max() < 2
