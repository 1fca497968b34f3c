"""Image sets as their authors pack them, in memory as a whole."""

import io
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from retable.cards import DatasetCard, unknown
from retable.data.containers import DataError
from retable.data.folder_images import DECODING
from retable.data.image_sets import ImageSet, ImageSplit
from retable.data.readers.splits import named_order

# Name of a split -> images for training, for choosing (both from the training part) and for testing.
SUBSETS = {"subset-2000": (2000, 1000, 1000), "subset-5000": (5000, 1000, 2000), "subset-10000": (10000, 1000, 2000)}
STL_SIDE = 96


def cifar_binary(card: DatasetCard, raw: Path) -> ImageSet:
    """The binary form of CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): files of records of label bytes and pixels.

    A record is `label_bytes` bytes (CIFAR-100: coarse and fine label; the last one counts) and 3 x 32 x 32 pixel
    bytes, plane by plane. Files whose name begins with `test` are the test part and come last. The option `classes`
    lists the names, separated by spaces. Splits: see `image_splits`. Raises DataError that names the file for a size
    that is no whole number of records, and for a label out of range.
    """
    classes = tuple(str(card.options["classes"]).split())
    label_bytes = int(card.options["label_bytes"])
    files = sorted((file.path for file in card.files), key=lambda path: (_is_test(path), path))
    parts = [_records(raw, path, label_bytes + 3 * 32 * 32) for path in files]
    for path, part in zip(files, parts, strict=True):
        _require_labels(path, part[:, label_bytes - 1].astype(np.int64), classes)
    images = np.concatenate([part[:, label_bytes:] for part in parts]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([part[:, label_bytes - 1] for part in parts]).astype(np.int64)
    training = sum(len(part) for path, part in zip(files, parts, strict=True) if not _is_test(path))
    return ImageSet(card.name, images, labels, classes, image_splits(card, labels, training))


def stl10_binary(card: DatasetCard, raw: Path) -> ImageSet:
    """The binary form of STL-10 (Coates, Ng and Lee, 2011): `train_X.bin`, `train_y.bin`, the same of `test`, and

    `unlabeled_X.bin` if the card lists it. Pixels are plane by plane, each plane column by column; labels count from 1.
    Unlabelled images come last. Splits: see `image_splits`; and `with-unlabelled`, which adds those to the training
    images of `official`. Raises DataError that names the file for contents that do not fit.
    """
    classes = tuple(str(card.options["classes"]).split())
    files = {Path(file.path).name: file.path for file in card.files}
    if missing := {"train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"} - set(files):
        raise DataError(f"{card.name}: the card lacks the STL-10 files {sorted(missing)}")
    labels, pixels = [], []
    for part in ("train", "test"):
        path = files[f"{part}_y.bin"]
        labels.append(np.fromfile(raw / path, dtype=np.uint8).astype(np.int64) - 1)
        _require_labels(path, labels[-1], classes)
        pixels.append(_records(raw, files[f"{part}_X.bin"], 3 * STL_SIDE * STL_SIDE))
        if len(labels[-1]) != len(pixels[-1]):
            raise DataError(f"{path}: {len(labels[-1])} labels for {len(pixels[-1])} images")
    training, labelled = len(labels[0]), len(labels[0]) + len(labels[1])
    if "unlabeled_X.bin" in files:
        pixels.append(_records(raw, files["unlabeled_X.bin"], 3 * STL_SIDE * STL_SIDE))
        labels.append(np.full(len(pixels[-1]), -1, dtype=np.int64))
    y = np.concatenate(labels)
    images = np.empty((len(y), 3, STL_SIDE, STL_SIDE), dtype=np.uint8)
    start = 0
    for block in pixels:
        images[start : start + len(block)] = block.reshape(-1, 3, STL_SIDE, STL_SIDE).transpose(0, 1, 3, 2)
        start += len(block)
    splits = image_splits(card, y[:labelled], training)
    if labelled < len(y):
        official = splits["official"]
        every = np.concatenate([official.train, np.arange(labelled, len(y))])
        splits["with-unlabelled"] = ImageSplit(every, official.val, official.test)
    return ImageSet(card.name, images, y, classes, splits)


def tiny_imagenet(card: DatasetCard, raw: Path) -> ImageSet:
    """A zip in the layout of Tiny ImageNet: `train/<id>/images/*.JPEG`, `val/images/*.JPEG`, `val/val_annotations.txt`.

    Classes are the ids in alphabetical order; the validation part is tested on and comes last. Grey images get three
    equal channels. Options: `side`, the height and width in pixels; `corrupt`: `fatal`, or `skip` to leave out what
    cannot be decoded, with a warning. Raises DataError that names the image for another size or kind of colours, for
    one that cannot be decoded, for a class without images, and for an image that val_annotations.txt does not list.
    """
    on_error, side = str(card.options["corrupt"]), int(card.options["side"])
    if on_error not in ("fatal", "skip"):
        raise DataError(f"{card.name}: {unknown('value of the option corrupt', on_error, ['fatal', 'skip'])}")
    path = card.files[0].path
    with zipfile.ZipFile(raw / path) as bundle:
        names = bundle.namelist()
        train = {name: match[1] for name in names if (match := re.search(r"train/(n\d+)/images/[^/]+\.JPEG$", name))}
        annotations = next((name for name in names if name.endswith("val/val_annotations.txt")), None)
        if annotations is None:
            raise DataError(f"{path}: holds no val/val_annotations.txt; expected Tiny ImageNet's own layout")
        rows = (line.split("\t") for line in bundle.read(annotations).decode().splitlines())
        of_image = {row[0]: row[1] for row in rows}
        val = {}
        for name in names:
            if match := re.search(r"val/images/([^/]+\.JPEG)$", name):
                if match[1] not in of_image:
                    raise DataError(f"{path}: {name} is not in val_annotations.txt")
                val[name] = of_image[match[1]]
        classes = tuple(sorted({*train.values(), *val.values()}))
        if empty := [wnid for wnid in classes if wnid not in set(train.values())]:
            raise DataError(f"{path}: the class {empty[0]} has no training images")
        number = {wnid: label for label, wnid in enumerate(classes)}
        images, labels, training = [], [], 0
        for part in (train, val):
            for name in sorted(part, key=lambda name: (number[part[name]], len(name), name)):
                try:
                    images.append(decode(bundle.read(name), name, side))
                except DataError as error:
                    if on_error == "fatal":
                        raise DataError(f"{path}: {error}") from None
                    warnings.warn(f"{path}: {error}; left out", stacklevel=2)
                    continue
                labels.append(number[part[name]])
            training = training or len(labels)
    y = np.array(labels, dtype=np.int64)
    return ImageSet(card.name, np.stack(images).transpose(0, 3, 1, 2), y, classes, image_splits(card, y, training))


def decode(content: bytes, name: str, side: int) -> np.ndarray:
    """uint8 (side, side, 3) of an image file's bytes. Raises DataError that names the image."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode not in ("L", "RGB"):
                raise DataError(f"{name} is neither grey nor RGB but {image.mode}")
            if image.size != (side, side):
                raise DataError(f"{name} has {image.width} x {image.height} pixels, expected {side} x {side}")
            return np.asarray(image.convert("RGB"))
    except DECODING as error:
        raise DataError(f"{name} cannot be decoded ({error})") from None


def image_splits(card: DatasetCard, labels: np.ndarray, training: int) -> dict[str, ImageSplit]:
    """`official`: the first `training` images against the rest; and those of the SUBSETS that the card names.

    A subset is balanced by class. Its training and validation images are from the training part, its test images from
    the test part; which ones, the names of data set and split decide. `labels` is (N,).
    """
    places = np.arange(len(labels))
    splits = {"official": ImageSplit(places[:training], places[:0], places[training:])}
    for name, (train, val, test) in SUBSETS.items():
        if name not in card.splits:
            continue
        if train + val > training or test > len(labels) - training:
            raise DataError(f"{card.name}: {training} training and {len(labels) - training} test images are not enough "
                            f"for the split {name!r}")  # fmt: skip
        order = named_order(card.name, name, len(labels))
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


def _records(raw: Path, path: str, length: int) -> np.ndarray:
    content = np.fromfile(raw / path, dtype=np.uint8)
    if len(content) == 0 or len(content) % length:
        raise DataError(f"{path}: {len(content):,} bytes are no whole number of records of {length:,} bytes")
    return content.reshape(-1, length)


def _require_labels(path: str, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    if len(labels) and (labels.min() < 0 or labels.max() >= len(classes)):
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise DataError(f"{path}: an image has the label {worst} (from 0), the card names {len(classes)} classes")
