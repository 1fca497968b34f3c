"""Sets of small images held in memory, and their splits: numpy only."""

import hashlib
from dataclasses import dataclass

import numpy as np

from retable.data.containers import canonical_bytes, content_sha256, count, split_sha256


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Places of the images that are trained on, chosen on and reported on: int64, ascending; `val` may be empty."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    @property
    def sizes(self) -> tuple[int, int, int]:
        return len(self.train), len(self.val), len(self.test)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """N images of one size.

    `images` is uint8 (N, 3, H, W), red, green and blue; grey ones have three equal channels. `labels` int64 (N,)
    counts `classes`, the names, from 0; -1 stands for an image without a label.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    splits: dict[str, ImageSplit]


@count.register
def _(images: ImageSet) -> dict[str, int]:
    number, _, height, width = images.images.shape
    unlabelled = int((images.labels < 0).sum())
    return {
        "images": number,
        **({"unlabelled": unlabelled} if unlabelled else {}),
        "classes": len(images.classes),
        "height": height,
        "width": width,
    }


@content_sha256.register
def _(images: ImageSet) -> str:
    digest = hashlib.sha256()
    for part in canonical_bytes("labels", images.labels, "<i8"):
        digest.update(part)
    digest.update("".join(f"class {name}\n" for name in images.classes).encode())
    # Image sets have hundreds of megabytes: hashed where they lie, not as a copy.
    pixels = np.ascontiguousarray(images.images, dtype=np.uint8)
    digest.update(f"images |u1 {pixels.shape}\n".encode())
    digest.update(pixels.reshape(-1).data)
    return digest.hexdigest()


@split_sha256.register
def _(split: ImageSplit) -> str:
    digest = hashlib.sha256()
    for name in ("train", "val", "test"):
        for part in canonical_bytes(name, getattr(split, name), "<i8"):
            digest.update(part)
    return digest.hexdigest()
