"""The ledger `results/equivalence.jsonl`: which sources were run beside which and gave the same bytes.

`retable prove` appends to it; records are never edited. A record's source hash leads to the tree's by entries that
ran the record's own cell, in any number of steps and either way: equal bytes have no direction.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from retable.cards import CardError, Model, Sha256
from retable.records import Trouble, write_atomically

LEDGER = "results/equivalence.jsonl"


class ProvedCell(Model):
    """One cell that both trees ran: the hash of its outputs, at its full length or cut to a few epochs."""

    seed: int = Field(ge=0)
    sha256: Sha256
    whole: bool = False


class Side(Model):
    """One of the two trees: the meaning hash of the experiment's sources, the commit and where it lay."""

    source_sha256: Sha256
    commit: str
    path: str


class Entry(Model):
    """A proof for one recipe: cells by identity that both trees ran with equal bytes.

    `added` lists what the new tree's runs give beyond the base's; `reference` the published records that a whole run
    equals to the byte.
    """

    schema_version: Literal[1] = 1
    paper: str
    recipe: str
    base: Side
    tree: Side
    date: str
    epochs: int = Field(ge=1, description="what each phase was cut to")
    cells: dict[str, list[ProvedCell]]
    added: list[str] = []
    reference: dict[str, str] = Field(default={}, description="identity and seed -> how the whole run compares with it")
    environment: dict[str, str]
    cpu_s: float


@dataclass(frozen=True)
class Ledger:
    """All entries that could be read, and the lines that could not."""

    entries: tuple[Entry, ...] = ()
    troubles: tuple[Trouble, ...] = field(default=(), compare=False)

    def path(self, identity: str, start: str, end: str) -> list[Entry] | None:
        """Entries that lead from one source hash of a cell to another; [] if they are the same, None if none do."""
        ways: dict[str, list[Entry]] = {start: []}
        waiting = [start]
        while waiting:
            here = waiting.pop(0)
            if here == end:
                return ways[here]
            for entry in self.entries:
                ends = entry.base.source_sha256, entry.tree.source_sha256
                if identity in entry.cells and here in ends:
                    there = ends[1] if here == ends[0] else ends[0]
                    if there not in ways:
                        ways[there] = [*ways[here], entry]
                        waiting.append(there)
        return None


def load_ledger(results: Path) -> Ledger:
    """Read the ledger; a damaged line is a trouble and costs its own proof only."""
    path = results / Path(LEDGER).name
    entries, troubles = [], []
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return Ledger()
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            entries.append(Entry.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(str(part) for part in problem["loc"]) or "line"
            what = f"no ledger entry ({place}: {problem['msg']}); restore the line from git or prove again"
            troubles.append(Trouble(f"{path}:{number}", what))
    return Ledger(tuple(entries), tuple(troubles))


def append(results: Path, new: Iterable[Entry]) -> Path:
    """Add entries at the end, in one step. Raises CardError where a line is damaged."""
    path = results / Path(LEDGER).name
    if troubles := load_ledger(results).troubles:
        raise CardError(str(troubles[0]))
    before = path.read_bytes() if path.exists() else b""
    if before and not before.endswith(b"\n"):
        before += b"\n"
    lines = [json.dumps(entry.model_dump(mode="json"), sort_keys=True).encode() + b"\n" for entry in new]
    write_atomically(path, before + b"".join(lines))
    return path
