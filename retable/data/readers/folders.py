"""Data sets that lie as folders of images below the user's own folder."""

from pathlib import Path

from retable.cards import DatasetCard
from retable.data.folder_images import FolderImages, FolderSet, FolderSplit


def image_folder(card: DatasetCard, raw: Path) -> FolderSet:
    """`<local>/train/<class>/` and `<local>/val/<class>/` for the classes that the option `classes` lists.

    Classes count in alphabetical order. Split `official`: the validation folder is reported on. Raises DataError for a
    folder that does not fit the list.
    """
    classes = tuple(sorted(str(card.options["classes"]).split()))
    assert card.local is not None
    parts = (FolderImages(raw / card.local / part, classes) for part in ("train", "val"))
    return FolderSet(card.name, classes, {"official": FolderSplit(*parts)})
