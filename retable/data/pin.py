"""For people who add a data set: compute what its card must pin from the files they have."""

from pathlib import Path

import yaml

from retable.cards import DatasetCard
from retable.data.containers import content_sha256, count, split_sha256
from retable.data.load import parse


def pin(card: DatasetCard, raw: Path) -> str:
    """The `counts`, `content_sha256` and `splits` of a data set as YAML, to be pasted into its card.

    Files must already have the card's hashes; split notes that the card has are kept.
    """
    graph = parse(card, raw)
    splits = {
        name: {"sha256": split_sha256(split), "note": card.splits[name].note if name in card.splits else ""}
        for name, split in graph.splits.items()
    }
    pinned = {"counts": count(graph), "content_sha256": content_sha256(graph), "splits": splits}
    return yaml.safe_dump(pinned, sort_keys=False, width=120, allow_unicode=True)
