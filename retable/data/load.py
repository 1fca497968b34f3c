"""From a card to arrays: files verified, parsed, and the result compared with the card's hashes."""

from pathlib import Path

from retable.cards import DatasetCard, unknown
from retable.data.containers import DataError, NodeGraph, NodeSplit, content_sha256, split_sha256
from retable.data.fetch import require_verified
from retable.data.readers import READERS


def load(card: DatasetCard, split: str | None, raw: Path) -> tuple[NodeGraph, NodeSplit]:
    """Read a node data set from the files below `raw`, and one of its splits (None: the first that the card
    lists).

    Raises DataError, with what to do, for a missing or altered file, and where the parsed arrays or the split
    do not have the hashes that the card pins.
    """
    name = next(iter(card.splits)) if split is None else split
    if name not in card.splits:
        raise DataError(f"{card.name}: {unknown('split', name, list(card.splits))}")
    graph = parse(card, raw)
    if (got := content_sha256(graph)) != card.content_sha256:
        raise DataError(
            f"{card.name}: the parsed data hash to {got[:12]}, the card says {card.content_sha256[:12]}; "
            "the reader or a library changed what is read: do not compare results with earlier ones"
        )
    if name not in graph.splits:
        raise DataError(
            f"{card.name}: the reader {card.reader!r} gave no split {name!r}; it gave {sorted(graph.splits)}"
        )
    chosen = graph.splits[name]
    if (got := split_sha256(chosen)) != card.splits[name].sha256:
        raise DataError(
            f"{card.name}: split {name!r} hashes to {got[:12]}, the card says {card.splits[name].sha256[:12]}"
        )
    return graph, chosen


def parse(card: DatasetCard, raw: Path) -> NodeGraph:
    """Read a data set whose files have the card's hashes, without comparing the result with the card."""
    if card.reader not in READERS:
        raise DataError(f"{card.name}: {unknown('reader', card.reader, list(READERS))}")
    require_verified(card, raw)
    return READERS[card.reader](card, raw)
