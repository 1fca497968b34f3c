"""From a card to arrays: files verified, parsed, and the result compared with the card's hashes."""

from pathlib import Path

from retable.cards import DatasetCard, unknown
from retable.data.containers import DataError, NodeSplit, content_sha256, split_sha256
from retable.data.folder_images import FolderSplit
from retable.data.graph_sets import Folds
from retable.data.image_sets import ImageSplit
from retable.data.readers import READERS, Parsed
from retable.data.text_sets import TextSplit
from retable.data.verified import require_verified


def load(
    card: DatasetCard, split: str | None, raw: Path
) -> tuple[Parsed, NodeSplit | Folds | ImageSplit | FolderSplit | TextSplit]:
    """Read a data set from the files below `raw`, and one of its splits (None: the first that the card
    lists).

    Raises DataError, with what to do, for a missing or altered file, and where the parsed arrays or the split
    do not have the hashes that the card pins.
    """
    name = next(iter(card.splits)) if split is None else split
    if name not in card.splits:
        raise DataError(f"{card.name}: {unknown('split', name, list(card.splits))}")
    graph = parse(card, raw)
    if differences := compare(card, graph, [name]):
        raise DataError(f"{card.name}: {differences[0]}")
    return graph, graph.splits[name]


def parse(card: DatasetCard, raw: Path) -> Parsed:
    """Read a data set whose files have the card's hashes, without comparing the result with the card."""
    if card.reader not in READERS:
        raise DataError(f"{card.name}: {unknown('reader', card.reader, list(READERS))}")
    require_verified(card, raw)
    try:
        return READERS[card.reader](card, raw)
    except DataError:
        raise
    except Exception as error:  # whatever a library makes of bytes that are not what the card says they are
        raise DataError(
            f"{card.name}: the reader {card.reader!r} cannot use the card's files and options: {error!r}"
        ) from error


def compare(card: DatasetCard, graph: Parsed, splits: list[str]) -> list[str]:
    """How the parsed arrays and these splits differ from the card: one line each, none if they do not."""
    lines = []
    if (got := content_sha256(graph)) != card.content_sha256:
        lines.append(
            f"the parsed arrays hash to {got}, the card pins {card.content_sha256}: the reader, the card or "
            "a library has changed what is read, so results cannot be compared with earlier ones"
        )
    for name in splits:
        if name not in graph.splits:
            lines.append(f"the reader {card.reader!r} gives no split {name!r}, only {sorted(graph.splits)}")
        elif (got := split_sha256(graph.splits[name])) != card.splits[name].sha256:
            lines.append(f"split {name!r} hashes to {got}, the card pins {card.splits[name].sha256}")
    return lines
