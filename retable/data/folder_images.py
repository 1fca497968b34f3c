"""Images too many for memory: a folder for each class, decoded when they are asked for; torch is not needed."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retable.data.containers import DataError, content_sha256, count, split_sha256

ENDINGS = (".jpeg", ".jpg", ".png")
# What Pillow raises for truncated, for malformed and for oversized files.
DECODING = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
# Its modes of more than 8 bits a channel, which `convert` cuts off at 255.
DEEP = ("F", "I")


class FolderImages:
    """The images below `folder/<class>/`, in alphabetical order; goes into torch's DataLoader as it is.

    Item i is (`transform` of the RGB image, label); labels count `classes` from 0. Raises DataError in one line where
    the folder lacks classes or has one without images, and, on access, for an image that cannot be decoded.
    """

    def __init__(
        self, folder: Path, classes: tuple[str, ...], transform: Callable[[Image.Image], Any] | None = None
    ) -> None:
        if not folder.is_dir():
            raise DataError(
                f"{folder} is no folder: it must hold a folder of images for each of {len(classes)} classes"
            )
        missing = [name for name in classes if not (folder / name).is_dir()]
        if missing:
            more = "" if len(missing) == 1 else f" and {len(missing) - 1} more"
            raise DataError(
                f"{folder} lacks the class folder {missing[0]}{more} of {len(classes)} in the class list: "
                "it must hold a folder of images for each class"
            )
        files = [
            sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in ENDINGS) for name in classes
        ]
        if empty := [name for name, paths in zip(classes, files, strict=True) if not paths]:
            raise DataError(f"{folder / empty[0]}: a class folder without images ({', '.join(ENDINGS)})")
        self.folder, self.classes, self.transform = folder, classes, transform
        self.paths = [str(path) for paths in files for path in paths]
        self.labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in files])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = decoded(self.paths[index])
        return (image if self.transform is None else self.transform(image)), int(self.labels[index])

    def transformed(self, transform: Callable[[Image.Image], Any]) -> "FolderImages":
        """The same images under another transform, without listing the folder again."""
        other = FolderImages.__new__(FolderImages)
        other.__dict__ = self.__dict__ | {"transform": transform}
        return other


def decoded(path: str) -> Image.Image:
    """The image as RGB. Raises DataError that names the file."""
    try:
        with Image.open(path) as image:
            if not image.mode.startswith(DEEP):
                return image.convert("RGB")
            error: Exception = ValueError(f"its pixels have more than 8 bits, Pillow's mode {image.mode}")
    except DECODING as fault:
        error = fault
    raise DataError(f"{path} cannot be decoded ({error}): replace it, or delete it to leave it out")


@dataclass(frozen=True, eq=False)
class FolderSplit:
    """What is trained on and what is reported on; none is set aside for choosing."""

    train: FolderImages
    test: FolderImages


@dataclass(frozen=True, eq=False)
class FolderSet:
    """A data set of class folders that the user provides: its class list is pinned, its images are not hashed."""

    name: str
    classes: tuple[str, ...]
    splits: dict[str, FolderSplit]


@count.register
def _(images: FolderSet) -> dict[str, int]:
    return {"classes": len(images.classes)}


@content_sha256.register
def _(images: FolderSet) -> str:
    return hashlib.sha256("".join(f"class {name}\n" for name in images.classes).encode()).hexdigest()


@split_sha256.register
def _(split: FolderSplit) -> str:
    names = f"train {split.train.folder.name}\ntest {split.test.folder.name}\n"
    return hashlib.sha256(names.encode()).hexdigest()
