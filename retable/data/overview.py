"""What `retable data list` and `retable data check` show."""

from collections.abc import Iterator
from pathlib import Path

from retable.cards import DatasetCard
from retable.data.containers import DataError
from retable.data.fetch import check
from retable.data.load import compare, parse
from retable.data.verified import is_marked


def state(card: DatasetCard, raw: Path) -> str:
    """`embedded`, `verified`, `unverified` (all files here, not all hashed), `3 of 18 files` or `absent`; `yours` for

    data that the user provides and has.
    """
    if card.embedded:
        return "embedded"
    if card.local:
        return "yours" if (raw / card.local).is_dir() else "absent"
    here = sum((raw / file.path).is_file() for file in card.files)
    if here < len(card.files):
        return f"{here} of {len(card.files)} files" if here else "absent"
    return "verified" if all(is_marked(file, raw) for file in card.files) else "unverified"


def listing(cards: dict[str, DatasetCard], raw: Path) -> list[dict[str, str]]:
    """One row for each card: name, title, what it holds, size of the download, state and licence."""
    return [
        {
            "name": card.name,
            "title": card.title,
            "holds": ", ".join(f"{number:,} {what}" for what, number in card.counts.items()),
            "splits": str(len(card.splits)),
            "download": f"{card.bytes / 1e6:.1f} MB" if card.files else "none",
            "state": state(card, raw),
            "licence": card.licence,
        }
        for card in cards.values()
    ]


def check_lines(cards: dict[str, DatasetCard], raw: Path) -> Iterator[tuple[bool, str]]:
    """(fine, line) for each card: its files are hashed, parsed, and all arrays compared with the card."""
    for card in cards.values():
        problems = check(card, raw)
        if not problems:
            try:
                problems = compare(card, parse(card, raw), list(card.splits))
            except DataError as error:
                problems = [str(error)]
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            yield False, f"{card.name}: {problems[0]}{more}"
        else:
            yield (
                True,
                f"{card.name}: as pinned (files: {len(card.files)}, splits: {len(card.splits)})",
            )
