"""Run records: one honest JSON file for each finished seed, written in one step or not at all.

What is read is checked: a record's identity against its settings, its place against its cell. What disagrees is a
trouble with a name, never a result.
"""

import json
import os
import secrets
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from retable.cards import MOST, SCALES, CardError, Model, Name, Scalar, Scale
from retable.plan import Cell
from retable.renames import RENAMES, Renames, load_renames

State = Literal["ok", "failed", "diverged"]


class Cost(Model):
    """What a run used. Times in seconds, memory in bytes; a resumed run adds up its parts."""

    wall_s: float
    cpu_s: float
    gpu_s: float = 0.0
    peak_memory_bytes: int
    resumed: int = 0


class RunRecord(Model):
    """What one seed of one cell measured. Metrics are in the unit that the recipe names, at full precision.

    `commit` is that of the code that ran and `clean` whether the files were the commit's; older records lack both.
    """

    schema_version: Literal[1] = 1
    identity: str
    paper: Name
    recipe: Name
    dataset: Name
    split: Name
    variant: Name
    axes: dict[str, Scalar]
    settings: dict[str, Scalar]
    scale: Scale
    protocol: str
    seed: int = Field(ge=0, le=MOST)
    state: State
    error: str | None = None
    metrics: dict[str, float] = {}
    series: dict[str, list[float]] = {}
    source_sha256: str
    data_sha256: str
    split_sha256: str
    commit: str | None = None
    clean: bool | None = None
    cost: Cost
    environment: dict[str, str]
    started: str
    ended: str

    @property
    def device_seconds(self) -> float:
        """Seconds of a GPU, or of the processor where the run had none: other users of the machine take none of it."""
        return self.cost.gpu_s or self.cost.cpu_s

    @property
    def cell(self) -> Cell:
        """The cell that the record's own fields describe."""
        return Cell(**{name: getattr(self, name) for name in CELL}, seeds=(self.seed,))


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside, flush to the disk, rename: a reader sees the old file or the whole new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile's: its files are for their owner alone, and results are shared.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def to_json(data: Any) -> bytes:
    """Stable bytes: sorted keys, two spaces, a newline at the end."""
    return (json.dumps(data, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()


def write_record(path: Path, record: RunRecord) -> None:
    """Write one record as `seed-<n>.json`."""
    write_atomically(path, to_json(record.model_dump(mode="json")))


@dataclass(frozen=True)
class Trouble:
    """A record that cannot be used: where it is, and what is wrong with it and what to do, in one line."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass
class Loaded:
    """Records that are what they say, and those that are not; `older` identities of cells, each with today's."""

    records: list[RunRecord] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    older: dict[str, str] = field(default_factory=dict)


def parse_record(text: str | bytes, where: str, like: RunRecord | None = None) -> RunRecord:
    """Raises CardError, naming `where`, when the text is no record of this schema version, or disagrees with itself.

    A record of the same cell as `like`, which was checked, shares its fields: 100,000 records are mostly seeds of the
    same cells.
    """
    try:
        record = RunRecord.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "file"
        raise CardError(f"{where}: not a run record ({place}: {problem['msg']}); {_remedy(where)}") from None
    if like is not None and record.identity == like.identity and _same_cell(record, like):
        own, shared = record.__dict__, like.__dict__
        own.update(zip(CELL, _of_cell(shared), strict=True))
        own.update({name: shared[name] for name in ALIKE if own[name] == shared[name]})
        # pydantic keeps for each model which fields it was given: half of a record's memory.
        for one, other in ((record, like), (record.cost, like.cost)):
            if one.__pydantic_fields_set__ == other.__pydantic_fields_set__:
                object.__setattr__(one, "__pydantic_fields_set__", other.__pydantic_fields_set__)
        return record
    if (identity := record.cell.identity) != record.identity:
        raise CardError(
            f"{where}: names the cell {record.identity}, but its settings are those of {identity}; {_remedy(where)}"
        )
    return record


# All fields of the cell, and what its seeds mostly have in common.
CELL = ("paper", "recipe", "dataset", "split", "variant", "axes", "settings", "scale", "protocol")
ALIKE = ("identity", "environment", "source_sha256", "data_sha256", "split_sha256", "commit")


_of_cell = itemgetter(*CELL)


def _same_cell(record: RunRecord, like: RunRecord) -> bool:
    """Whether the fields of the cell are the same; 1, 1.0 and True are not, as in identities."""
    own, other = record.__dict__, like.__dict__
    return _of_cell(own) == _of_cell(other) and all(
        list(map(type, own[name].values())) == list(map(type, other[name].values())) for name in ("axes", "settings")
    )


def _remedy(where: str) -> str:
    if ".jsonl:" in where:
        return "restore that line from git, or delete it and measure its seed again"
    return "delete it to measure again"


def read_record(path: Path) -> RunRecord:
    """Read one record file, `seed-<n>.json` in its cell's folder, under the names that its cards had.

    Raises CardError that says what to do for a file that is no record, and for one that is in another cell's or
    seed's place.
    """
    record = parse_record(path.read_bytes(), str(path))
    place = record.cell.folder(Path()) / f"seed-{record.seed}.json"
    if path.parts[-len(place.parts) :] != place.parts:
        raise CardError(f"{path}: holds the record of {place}; move it there, or delete it to measure again")
    return record


def load_records(results: Path, renames: Renames | None = None) -> Loaded:
    """All records below `results`: what was run here, and the published ones (`published/<paper>/*.jsonl`).

    Where both have the same cell and seed, the one that was run here counts. Records of older cards are read under
    the names of today's. What cannot be read, or is not what it says, costs its own seed only.
    """
    published, own = load_published(results, renames), load_own(results, renames)
    found = {(record.identity, record.seed): record for record in [*published.records, *own.records]}
    return Loaded(list(found.values()), published.troubles + own.troubles)


def load_published(results: Path, renames: Renames | None = None, paper: str = "*") -> Loaded:
    """The published records, of all papers or of one."""
    renames = load_renames(results) if renames is None else renames
    loaded, reader = Loaded(), _Reader(renames)
    before = None
    for path in sorted((results / "published").glob(f"{paper}/*.jsonl")):
        try:
            lines = _lines(path)
        except OSError as error:
            loaded.troubles.append(Trouble(str(path), f"cannot be read ({error}); restore it from git"))
            continue
        for where, line in lines:
            try:
                before = record = parse_record(line, where, before)
                if (record.paper, _file_name(record)) != (path.parent.name, path.name):
                    raise CardError(
                        f"{where}: belongs into {published_path(results, record).relative_to(results)}; move it there"
                    )
                renamed = reader.read(record, where)
                loaded.records.append(renamed)
                if renamed.identity != record.identity:
                    loaded.older[record.identity] = renamed.identity
            except CardError as error:
                loaded.troubles.append(_trouble(where, error))
    return loaded


def load_own(results: Path, renames: Renames | None = None, paper: str = "*") -> Loaded:
    """The records of what was run here, of all papers or of one."""
    renames = load_renames(results) if renames is None else renames
    paths = [path for scale in SCALES for path in sorted((results / scale).glob(f"{paper}/*/*/*/seed-*.json"))]
    return _load_files(paths, renames)


def load_cell(results: Path, cell: Cell, renames: Renames, seed: int | None = None) -> Loaded:
    """Records of one cell that was run here, of one seed if it is named, under older names too."""
    name = f"seed-{'*' if seed is None else seed}.json"
    paths = sorted(cell.folder(results).glob(name))
    if any(entry.paper == cell.paper for entry in renames.entries):
        paths = sorted({*paths, *(results / cell.scale / cell.paper).glob(f"*/{cell.dataset}/*/{name}")})
    loaded = _load_files(paths, renames)
    return Loaded([record for record in loaded.records if record.identity == cell.identity], loaded.troubles)


def _load_files(paths: list[Path], renames: Renames) -> Loaded:
    """The records in these files. One of older names gives way to one that was measured again under today's."""
    loaded, reader, found = Loaded(), _Reader(renames), []
    for path in paths:
        try:
            found.append((read_record(path), str(path)))
        except (CardError, OSError) as error:
            loaded.troubles.append(_trouble(str(path), error))
    today = {(record.identity, record.seed) for record, _ in found}
    for record, where in found:
        try:
            key = renames.apply(record).identity, record.seed
            if key[0] == record.identity or key not in today:
                loaded.records.append(reader.read(record, where))
        except CardError as error:
            loaded.troubles.append(_trouble(where, error))
    return loaded


class _Reader:
    """Gives records today's names; two that become one are a trouble."""

    def __init__(self, renames: Renames) -> None:
        self.renames = renames
        self.seen: dict[tuple[str, int], tuple[str, str]] = {}

    def read(self, record: RunRecord, where: str) -> RunRecord:
        renamed = self.renames.apply(record)
        key, said = (renamed.identity, renamed.seed), (record.identity, where)
        before = self.seen.setdefault(key, said)
        if before != said:
            if before[0] == record.identity:
                raise CardError(f"{where}: the cell and seed of {before[1]} again; delete one of the two")
            raise CardError(
                f"{where}: {RENAMES} makes its cell {record.identity} and the cell {before[0]} of {before[1]} one; "
                "mend the entry that does"
            )
        return renamed


def _trouble(where: str, error: Exception) -> Trouble:
    return Trouble(where, str(error).removeprefix(f"{where}: "))


def _lines(path: Path) -> list[tuple[str, bytes]]:
    """The lines of a published file, each with its place. Bytes: a line that is no text costs itself only."""
    return [(f"{path}:{number}", line) for number, line in enumerate(path.read_bytes().splitlines(), start=1)]


def published_path(results: Path, record: RunRecord) -> Path:
    """`published/<paper>/<recipe>-<scale>-<data set>.jsonl`."""
    return results / "published" / record.paper / _file_name(record)


def _file_name(record: RunRecord) -> str:
    return f"{record.recipe}-{record.scale}-{record.dataset}.jsonl"


def publish(records: list[RunRecord], results: Path) -> list[Path]:
    """Merge records into `results/published/<paper>/<recipe>-<scale>-<dataset>.jsonl`, sorted and stable.

    A record takes the place of the one of the same row and seed, also where that has older names. A failed seed is
    kept too, unless its finished record is there already. Raises CardError where a line of a file that is to be
    merged is damaged.
    """
    renames = load_renames(results)
    files: dict[Path, dict[tuple, RunRecord]] = {}
    damaged: dict[Path, CardError] = {}
    slots: dict[tuple, Path] = {}
    for path in sorted((results / "published").glob("*/*.jsonl")):
        files[path] = {}
        for where, line in _lines(path):
            try:
                old = parse_record(line, where)
                slot = _slot(renames.apply(old), results)
                if slot in slots:
                    raise CardError(f"{where}: the row and seed of another line again; delete one of the two")
            except CardError as error:
                damaged.setdefault(path, error)
                continue
            files[path][slot] = old
            slots[slot] = path
    touched = set()
    for record in records:
        path, slot = published_path(results, record), _slot(record, results)
        before = files[slots[slot]].get(slot) if slot in slots else None
        if record.state == "failed" and before is not None and before.state != "failed":
            continue
        if before is not None:
            del files[slots[slot]][slot]
            touched.add(slots[slot])
        files.setdefault(path, {})[slot] = record
        slots[slot] = path
        touched.add(path)
    for path in sorted(touched & set(damaged)):
        raise damaged[path]
    for path in touched:
        rows = [json.dumps(files[path][slot].model_dump(mode="json"), sort_keys=True) for slot in sorted(files[path])]
        if rows:
            write_atomically(path, ("\n".join(rows) + "\n").encode())
        else:
            path.unlink()
    return sorted(touched)


def _slot(record: RunRecord, results: Path) -> tuple:
    """What one published record fills: a seed of a row of a table."""
    axes = json.dumps(record.axes, sort_keys=True)
    return str(published_path(results, record)), record.variant, axes, record.seed
