"""Image sets as their authors pack them: whole files at once, no loop over images."""

from pathlib import Path

import numpy as np

from retable.cards import DatasetCard
from retable.data.containers import DataError
from retable.data.image_sets import ImageSet, ImageSplit
from retable.data.readers.splits import named_order

# Name of a split -> images for training, for choosing (both from the training part) and for testing.
SUBSETS = {"subset-5000": (5000, 1000, 2000), "subset-10000": (10000, 1000, 2000)}


def cifar_binary(card: DatasetCard, raw: Path) -> ImageSet:
    """The binary form of CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): files of records of label bytes and pixels.

    A record is `label_bytes` bytes (CIFAR-100: coarse and fine label; the last one counts) and 3 x 32 x 32 pixel
    bytes, plane by plane. Files whose name begins with `test` are the test part and come last. The option `classes`
    lists the names, separated by spaces. Splits: `official`, and the subsets for which there are images enough.
    Raises DataError that names the file for a size that is no whole number of records, and for a label out of range.
    """
    classes = tuple(str(card.options["classes"]).split())
    label_bytes = int(card.options["label_bytes"])
    files = sorted((file.path for file in card.files), key=lambda path: (_is_test(path), path))
    parts = [_records(raw, path, label_bytes, len(classes)) for path in files]
    images = np.concatenate([part[:, label_bytes:] for part in parts]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([part[:, label_bytes - 1] for part in parts]).astype(np.int64)
    training = sum(len(part) for path, part in zip(files, parts, strict=True) if not _is_test(path))
    return ImageSet(card.name, images, labels, classes, image_splits(card.name, labels, training))


def image_splits(dataset: str, labels: np.ndarray, training: int) -> dict[str, ImageSplit]:
    """`official`: the first `training` images against the rest; and the SUBSETS, balanced by class.

    A subset's training and validation images are from the training part, its test images from the test part; which
    ones, the names of data set and split decide. `labels` is (N,).
    """
    places = np.arange(len(labels))
    splits = {"official": ImageSplit(places[:training], places[:0], places[training:])}
    for name, (train, val, test) in SUBSETS.items():
        if train + val > training or test > len(labels) - training:
            continue
        order = named_order(dataset, name, len(labels))
        first, last = (balanced_order(part, labels) for part in (order[order < training], order[order >= training]))
        splits[name] = image_split(first[:train], first[train : train + val], last[:test])
    return splits


def image_split(train: np.ndarray, val: np.ndarray, test: np.ndarray) -> ImageSplit:
    """A split from places in any order."""
    return ImageSplit(*(np.sort(part).astype(np.int64) for part in (train, val, test)))


def balanced_order(order: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`order`, places in `labels`, rearranged so that each class is spread evenly: every stretch has all shares.

    Within a class the order stays.
    """
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.unique(labels[order], return_counts=True)[1]
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return by_class[np.argsort((rank + 0.5) / np.repeat(sizes, sizes), kind="stable")]


def _is_test(path: str) -> bool:
    return Path(path).name.startswith("test")


def _records(raw: Path, path: str, label_bytes: int, classes: int) -> np.ndarray:
    content = np.fromfile(raw / path, dtype=np.uint8)
    length = label_bytes + 3 * 32 * 32
    if len(content) == 0 or len(content) % length:
        raise DataError(f"{path}: {len(content):,} bytes are no whole number of records of {length} bytes")
    records = content.reshape(-1, length)
    if (largest := records[:, label_bytes - 1].max()) >= classes:
        raise DataError(f"{path}: an image has the label {largest}, the card names {classes} classes")
    return records
