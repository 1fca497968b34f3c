"""Images that come with the dependencies: no download."""

from pathlib import Path

import numpy as np

from retable.cards import DatasetCard
from retable.data.image_sets import ImageSet
from retable.data.readers.embedded import digits
from retable.data.readers.images import balanced_order, image_split
from retable.data.readers.splits import named_order

TRAIN, VALIDATION = 1000, 297


def digits_16(card: DatasetCard, raw: Path) -> ImageSet:
    """scikit-learn's 1,797 handwritten digits at 16 x 16 pixels, each of upstream's 8 x 8 doubled both ways.

    Ink 0 to 16 becomes 0 to 255, rounded down, the same in all three channels. Split `default`: 1,000 for training,
    297 for choosing, 500 for testing, balanced by class.
    """
    ink, y = digits()
    grey = ink.reshape(-1, 1, 8, 8).astype(np.int64) * 255 // 16
    images = grey.repeat(2, axis=2).repeat(2, axis=3).repeat(3, axis=1).astype(np.uint8)
    labels = y.astype(np.int64)
    order = balanced_order(named_order(card.name, "default", len(labels)), labels)
    split = image_split(order[:TRAIN], order[TRAIN : TRAIN + VALIDATION], order[TRAIN + VALIDATION :])
    return ImageSet(card.name, images, labels, tuple("0123456789"), {"default": split})
