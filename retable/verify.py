"""Records against the tree: which speak of the present cards, data and sources, which are missing."""

from dataclasses import dataclass

from retable.cards import CardError
from retable.config import Workspace
from retable.plan import Cell
from retable.records import RunRecord, load_records
from retable.sources import source_sha256


@dataclass(frozen=True)
class Provenance:
    """The hashes that decide whether a record still speaks of this tree."""

    source_sha256: str
    data_sha256: str
    split_sha256: str

    @classmethod
    def of(cls, workspace: Workspace, subject: Cell | RunRecord) -> "Provenance":
        """The tree's present hashes for a cell or a record. Raises KeyError or CardError for what no card has."""
        card = workspace.datasets[subject.dataset]
        return cls(
            source_sha256(workspace.root, subject.paper, workspace.story(subject)),
            card.content_sha256,
            card.splits[subject.split].sha256,
        )

    def matches(self, record: RunRecord) -> bool:
        return all(getattr(record, name) == getattr(self, name) for name in self.__dataclass_fields__)


def is_current(workspace: Workspace, record: RunRecord) -> bool:
    """Whether a record's hashes are those of the present sources, data card and split."""
    try:
        return Provenance.of(workspace, record).matches(record)
    except (KeyError, CardError):
        return False


def cell_states(workspace: Workspace) -> list[tuple[Cell, list[str]]]:
    """For each planned cell the state of each of its seeds: ok, failed, diverged, stale or not run."""
    records = {(record.identity, record.seed): record for record in load_records(workspace.results)}

    def state(cell: Cell, seed: int) -> str:
        record = records.get((cell.identity, seed))
        if record is None:
            return "not run"
        return record.state if is_current(workspace, record) else "stale"

    return [(cell, [state(cell, seed) for seed in cell.seeds]) for cell in workspace.cells]
