"""Data sets that lie as folders of images below the user's own folder."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from retable.cards import DatasetCard, unknown
from retable.data.containers import DataError
from retable.data.folder_images import FolderImages, FolderSet, FolderSplit


def image_folder(card: DatasetCard, raw: Path) -> FolderSet:
    """`<local>/train/<class>/` and `<local>/val/<class>/` for the classes that the option `classes` lists.

    Classes count in alphabetical order. Split `official`: the validation folder is reported on. The option `corrupt`
    says what becomes of a training image that cannot be decoded: `fatal`, or `skip` (see ReadableImages); one that is
    reported on is always fatal. Raises DataError for a folder that does not fit the list.
    """
    classes = tuple(sorted(str(card.options["classes"]).split()))
    on_error = str(card.options.get("corrupt", "fatal"))
    if on_error not in ("fatal", "skip"):
        raise DataError(f"{card.name}: {unknown('value of the option corrupt', on_error, ['fatal', 'skip'])}")
    assert card.local is not None
    kind = ReadableImages if on_error == "skip" else FolderImages
    train, val = kind(raw / card.local / "train", classes), FolderImages(raw / card.local / "val", classes)
    return FolderSet(card.name, classes, {"official": FolderSplit(train, val)})


class ReadableImages(FolderImages):
    """As FolderImages, but in the place of an image that cannot be decoded stands the next one of its class.

    The file is named on the error stream each time. Raises DataError for a class in which no image can be decoded.
    """

    def __getitem__(self, index: int) -> tuple[Any, int]:
        label = self.labels[index]
        first, end = np.searchsorted(self.labels, [label, label + 1]).tolist()
        for step in range(end - first):
            try:
                return super().__getitem__(first + (index - first + step) % (end - first))
            except DataError as error:
                print(f"left out: {error}", file=sys.stderr)
        raise DataError(f"{self.folder / self.classes[label]}: none of {end - first} images can be decoded")

    def transformed(self, transform: Callable[[Image], Any]) -> "ReadableImages":
        """The same images under another transform, without listing the folder again."""
        other = ReadableImages.__new__(ReadableImages)
        other.__dict__ = self.__dict__ | {"transform": transform}
        return other
