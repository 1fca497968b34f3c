"""Is a record current, and if not, why? The one answer for runs, the job graph, `verify` and the pages."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from retable.cards import CardError, DatasetCard
from retable.config import Workspace
from retable.ledger import LEDGER, Entry, Ledger, load_ledger
from retable.looks import Looks, load_looks
from retable.plan import Cell
from retable.records import (
    Loaded,
    RunRecord,
    Trouble,
    load_cell,
    load_own,
    load_published,
    to_json,
    write_atomically,
)
from retable.renames import Renames, load_renames
from retable.sources import source_sha256

# States of a seed that `run` leaves as they are.
FINISHED = ("ok", "diverged")


@dataclass(frozen=True)
class Provenance:
    """The hashes that decide whether a record still speaks of this tree."""

    source_sha256: str
    data_sha256: str
    split_sha256: str


@dataclass(frozen=True)
class Currency:
    """What the tree holds now: the source hash of each paper's recipes, the data-set cards, and the ledger."""

    sources: Mapping[tuple[str, str], str]
    datasets: Mapping[str, DatasetCard]
    ledger: Ledger = field(default_factory=Ledger)
    _judged: dict[tuple, tuple[str | None, list[Entry]]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def reason(self, record: RunRecord) -> str | None:
        """Why a record no longer speaks for the tree, or None."""
        return self._judge_once(record)[0]

    def proof(self, record: RunRecord) -> list[Entry]:
        """The ledger's entries by which a current record speaks for other sources than it ran with; else none."""
        return self._judge_once(record)[1]

    def source_of(self, paper: str, recipe: str) -> str | None:
        """The meaning hash of a recipe's sources in the tree; None where no card has the recipe."""
        try:
            return self.sources[paper, recipe]
        except KeyError:
            return None

    def _judge_once(self, record: RunRecord) -> tuple[str | None, list[Entry]]:
        """`_judge` of the first of the records that agree in what it looks at, such as the seeds of a cell."""
        key = (record.paper, record.recipe, record.dataset, record.split, record.data_sha256, record.split_sha256,
               record.identity, record.source_sha256)  # fmt: skip
        if key not in self._judged:
            self._judged[key] = self._judge(record)
        return self._judged[key]

    def _judge(self, record: RunRecord) -> tuple[str | None, list[Entry]]:
        now = self.source_of(record.paper, record.recipe)
        if now is None:
            return f"no card has the recipe {record.paper}/{record.recipe}", []
        card = self.datasets.get(record.dataset)
        if card is None or record.split not in card.splits:
            return f"no card has the data set {record.dataset!r} with the split {record.split!r}", []
        if record.data_sha256 != card.content_sha256 or record.split_sha256 != card.splits[record.split].sha256:
            return "the data or its split changed since it ran", []
        way = self.ledger.path(record.identity, record.source_sha256, now)
        return ("the code changed since it ran", []) if way is None else (None, way)


def provenance_of(workspace: Workspace, cell: Cell) -> Provenance:
    """The tree's present hashes for a cell. Raises KeyError or CardError for what no card has."""
    card = workspace.datasets[cell.dataset]
    source = source_sha256(workspace.root, cell.paper, workspace.experiment(cell))
    return Provenance(source, card.content_sha256, card.splits[cell.split].sha256)


class SourceHashes(dict[tuple[str, str], str]):
    """Source hash by paper and recipe, computed when first asked for; KeyError for what no card has."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self.workspace = workspace

    def __missing__(self, key: tuple[str, str]) -> str:
        paper, recipe = key
        try:
            experiment = self.workspace.papers[paper].recipe(recipe).experiment
        except CardError:
            raise KeyError(key) from None
        self[key] = source_sha256(self.workspace.root, paper, experiment)
        return self[key]


@dataclass
class RecordStore:
    """The records of a workspace, read once, and what is known about them."""

    workspace: Workspace
    currency: Currency
    renames: Renames
    paper: str = "*"

    @classmethod
    def open(cls, workspace: Workspace, paper: str = "*") -> "RecordStore":
        """Reads the ledger and the table of names; the records, of all papers or of one, are read when asked for."""
        renames = load_renames(workspace.results)
        renames.check(workspace.papers)
        currency = Currency(SourceHashes(workspace), workspace.datasets, load_ledger(workspace.results))
        return cls(workspace, currency, renames, paper)

    @cached_property
    def own(self) -> Loaded:
        """What was run here."""
        return load_own(self.workspace.results, self.renames, self.paper)

    @cached_property
    def explorations(self) -> Loaded:
        """What was run here with settings that no card lists; none of it is among the other records."""
        return load_own(self.workspace.results / "explorations", Renames())

    @cached_property
    def published(self) -> Loaded:
        return load_published(self.workspace.results, self.renames, self.paper)

    @cached_property
    def looks(self) -> Looks:
        """The stored looks of the cells as today's cards name them."""
        return load_looks(self.workspace.results, self.published.older)

    @property
    def records(self) -> list[RunRecord]:
        """All records; where a cell and seed are published and were run here too, the latter counts."""
        found = {(r.identity, r.seed): r for r in [*self.published.records, *self.own.records]}
        return list(found.values())

    @property
    def replaced(self) -> list[RunRecord]:
        """Published records of cells and seeds that were run here too."""
        own = {(record.identity, record.seed) for record in self.own.records}
        return [record for record in self.published.records if (record.identity, record.seed) in own]

    @property
    def troubles(self) -> list[Trouble]:
        """What cannot be used, with place and remedy."""
        held = {record.source_sha256 for record in self.records}
        return [*self.unusable, *self.currency.ledger.troubles, *self.idle_entries(held)]

    @property
    def unusable(self) -> list[Trouble]:
        """Records that cannot be used."""
        return [*self.published.troubles, *self.own.troubles]

    def idle_entries(self, held: Set[str]) -> list[Trouble]:
        """Entries of the ledger that connect nothing: no record, tree or other entry has either of their hashes.
        `held` are the source hashes of all records.
        """
        entries = self.currency.ledger.entries
        ends = [{entry.base.source_sha256, entry.tree.source_sha256} for entry in entries]
        idle = []
        for number, entry in enumerate(entries):
            others = set().union(held, *ends[:number], *ends[number + 1 :])
            now = self.currency.source_of(entry.paper, entry.recipe)
            if not ends[number] & (others | {now}):
                idle.append(
                    Trouble(
                        f"{LEDGER}, proof of {entry.paper}/{entry.recipe} on {entry.date} against "
                        f"{entry.base.commit[:12]}",
                        "no record, tree or other entry has its hashes; delete the line, or prove again",
                    )
                )
        return idle

    def state(self, record: RunRecord | None) -> tuple[str, str]:
        """State of a seed (ok, failed, diverged, stale or not run) and the reason, if there is one."""
        if record is None:
            return "not run", ""
        if reason := self.currency.reason(record):
            return "stale", reason
        return record.state, record.error or ""

    def of_cell(self, cell: Cell) -> dict[int, RunRecord]:
        """The records of a cell that were run here, by seed; those of all seeds, planned or not."""
        if "own" in self.__dict__ and not cell.is_exploration:
            return dict(self._own_by_cell.get(cell.identity, {}))
        return {r.seed: r for r in load_cell(self.workspace.results, cell, self.renames).records}

    @cached_property
    def _own_by_cell(self) -> dict[str, dict[int, RunRecord]]:
        found: dict[str, dict[int, RunRecord]] = defaultdict(dict)
        for record in self.own.records:
            found[record.identity][record.seed] = record
        return found

    def states(self, cell: Cell) -> dict[int, tuple[str, str]]:
        """What `run` and the job graph see: state and reason of each planned seed, from what was run here."""
        found = self.of_cell(cell)
        return {seed: self.state(found.get(seed)) for seed in cell.seeds}

    def unfinished(self, cell: Cell) -> list[int]:
        """Seeds that `run` would measure."""
        return [seed for seed, (state, _) in self.states(cell).items() if state not in FINISHED]


def index_path(workspace: Workspace, cell: Cell) -> Path:
    """`cell.json` in a cell's folder: which seeds it has, and the command that measures it again."""
    return cell.folder(workspace.results) / "cell.json"


def write_index(store: RecordStore, cell: Cell) -> None:
    """Make a cell's index what its records say: states by seed. Without a record of each planned seed there is none."""
    path, found = index_path(store.workspace, cell), store.of_cell(cell)
    if not set(cell.seeds) <= set(found):
        path.unlink(missing_ok=True)
        return
    states = {str(seed): store.state(found[seed])[0] for seed in sorted(found)}
    content = to_json({"identity": cell.identity, "command": cell.command, "seeds": states})
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)


def mend_indices(store: RecordStore, cells: Iterable[Cell]) -> None:
    """Before a graph is made: an index stays or is written where nothing is left to measure, and goes elsewhere."""
    for cell in cells:
        if store.unfinished(cell):
            index_path(store.workspace, cell).unlink(missing_ok=True)
        else:
            write_index(store, cell)
