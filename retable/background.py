"""Measure beside other work: `retable run` in a clone of the checkout, at a commit and at the lowest priority.

Everything lies in `.background/` of the checkout: the clone, a log for each worker, and `state.json`, which says which
processes the workers are. What somebody edits in the checkout meanwhile changes nothing in the clone.
"""

import contextlib
import datetime
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from filelock import FileLock, Timeout
from pydantic import ValidationError

from retable.cards import SCALES, CardError, Model
from retable.checkout import git, tree_of
from retable.config import find_root
from retable.currency import FINISHED
from retable.records import RunRecord, Trouble, read_record, to_json, write_atomically
from retable.renames import Renames, load_renames

FOLDER = ".background"
TURN = "RETABLE_TURN"
# A run that is told to stop first ends its epoch.
STOP_SECONDS = 60.0
POLL_SECONDS = 0.2
FILES_NAMED = 5
PROC = Path("/proc")
# Set inside of git's hooks, where they would lead git to the checkout while it is asked about the clone.
MISLEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
# A worker runs in the clone, where a relative path leads elsewhere.
PLACES = ("RETABLE_MIRROR", "RETABLE_WEIGHTS")
Pair = TypeVar("Pair")


def in_turn(pairs: Sequence[Pair], turn: str | None) -> list[Pair]:
    """The order of worker k of N (`turn` is "k/N", k from 1): every N-th first, then what the others begin with.

    Without a turn the order stays. Raises CardError for a text that is no turn.
    """
    if turn is None:
        return list(pairs)
    number, _, of = turn.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise CardError(f"{TURN}={turn!r}: expected k/N with k from 1 to N, like 1/2")
    own = slice(int(number) - 1, None, int(of))
    others = list(pairs)
    del others[own]
    return [*pairs[own], *others]


class Worker(Model):
    """A process that measures.

    `started` is what the system says of its start, so that no later process with its number is taken for it; None
    where the system does not say.
    """

    number: int
    pid: int
    group: int
    started: int | None

    @property
    def condition(self) -> Literal["running", "paused", "ended"]:
        if not _has_proc():
            try:
                os.kill(self.pid, 0)
            except OSError:
                return "ended"
            return "running"
        found = _process(self.pid)
        if found is None or (found.group, found.started) != (self.group, self.started) or found.ended:
            return "ended"
        return "paused" if found.state in "Tt" else "running"


class State(Model):
    """What was started last."""

    commit: str
    arguments: list[str]
    workers: list[Worker]


@dataclass
class Survey:
    """The seeds in the clone: how many are finished or failed, and the records that the checkout lacks.

    With each of those go the older records that it replaces.
    """

    finished: int = 0
    failed: int = 0
    lacking: list[tuple[Path, RunRecord, list[Path]]] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)


class Background:
    """The measurements beside the work in the checkout at `root`. What its methods return is told to the user."""

    def __init__(self, root: Path, folder: str = FOLDER) -> None:
        self.root = root.resolve()
        self.folder = self.root / folder
        self.clone = self.folder / "clone"

    @classmethod
    def around(cls, place: Path, folder: str = FOLDER) -> "Background":
        """That of the checkout that `place` lies in. Raises CardError outside of one, and inside of a clone."""
        root = find_root(place)
        if (root.parent / "state.json").exists() or root.parent.name == FOLDER:
            raise CardError(f"{root} is a background clone; give the command in {root.parent.parent}")
        return cls(root, folder)

    # Commands

    def start(self, arguments: Sequence[str], jobs: int = 1, at: str = "HEAD") -> list[str]:
        """Measure what `retable run <arguments>` would at commit `at`, by `jobs` workers that outlive this process.

        Results that are in the clone stay, so the same call after a stop goes on. Raises CardError where workers run
        already, for less than one job, outside of a git repository, and for a commit that is none or too old.
        """
        if jobs < 1:
            raise CardError(f"--jobs {jobs}: needs at least 1")
        if named := [name for name in MISLEADING if name in os.environ]:
            raise CardError(f"{named[0]} is set, as in a git hook; start the measurement outside of it")
        if tree_of(self.root).commit is None:
            raise CardError(f"{self.root} is in no git repository, so there is no commit to measure; work in a clone")
        commit = self._commit(at)
        with self._alone():
            if running := self.alive():
                raise CardError(
                    f"{len(running)} workers are there already (process {running[0].pid}); `retable background stop` "
                    "ends them"
                )
            lines = [*self._left_out(), *self._check_out(commit), *self._link_data()]
            state = State(commit=commit, arguments=list(arguments), workers=[])
            for number in range(1, jobs + 1):
                state = state.model_copy(update={"workers": [*state.workers, self._launch(state, number, jobs)]})
                write_atomically(self._state_path, to_json(state.model_dump(mode="json")))
        what = f"{jobs} workers measure" if jobs > 1 else "1 worker measures"
        return [*lines, f"{what} {commit[:12]} in {self.clone}; `retable background status` says how far"]

    def status(self) -> list[str]:
        """Commit, arguments, workers with the last line of their logs, and counts of seeds."""
        state = self._state()
        lines = ["nothing was started"] if state is None else [f"{state.commit[:12]}: {_call(state.arguments)}"]
        for worker in state.workers if state else ():
            condition = worker.condition
            said = "ended (its exit status is unknown)" if condition == "ended" else condition
            last = _last_line(self._log(worker.number))
            lines.append(f"worker {worker.number} (process {worker.pid}) {said}: {last}")
        found = self._survey()
        lines += [str(trouble) for trouble in found.troubles]
        counts = f"{found.finished} seeds are finished in the clone, {len(found.lacking)} of them not collected yet"
        return [*lines, counts + (f"; {found.failed} failed" if found.failed else "")]

    def pause(self) -> list[str]:
        """Halt the workers."""
        return self._tell(signal.SIGSTOP, "paused")

    def resume(self) -> list[str]:
        """Let paused workers go on."""
        return self._tell(signal.SIGCONT, "running")

    def stop(self) -> list[str]:
        """Ask the workers to end, and wait up to a minute; `alive` is what still runs then."""
        asked = self.alive()
        if not asked:
            return ["nothing is running"]
        for number in (signal.SIGCONT, signal.SIGTERM):
            _signal(asked, number)
        deadline = time.monotonic() + STOP_SECONDS
        while (left := self.alive()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return [
            *(
                f"worker {worker.number} (process {worker.pid}) still runs: it ends after its epoch; `retable "
                "background stop` once more ends it at once"
                for worker in left
            ),
            f"{len(asked) - len(left)} of {len(asked)} workers ended; the same `retable background start` goes on",
        ]

    def collect(self) -> list[str]:
        """Copy finished seeds into the checkout's results where it has none or an older one."""
        with self._alone():
            return self._collect()

    def alive(self) -> list[Worker]:
        """The workers that run or are paused."""
        state = self._state()
        return [worker for worker in state.workers if worker.condition != "ended"] if state else []

    # Processes

    def _launch(self, state: State, number: int, jobs: int) -> Worker:
        command = [sys.executable, "-m", "retable", "run", *state.arguments, "--no-wait"]
        places = {
            name: str(Path(os.environ[name]).resolve())
            for name in PLACES
            if os.environ.get(name) and Path(os.environ[name]).exists()
        }
        changed = {"PYTHONPATH": str(self.clone), "OMP_NUM_THREADS": "1", TURN: f"{number}/{jobs}"}
        with self._log(number).open("ab") as log:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            log.write(f"{now} started at {state.commit[:12]}: {_call(state.arguments)}\n".encode())
            log.flush()
            process = subprocess.Popen(
                command,
                cwd=self.clone,
                env=os.environ | places | changed,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(os.nice, 19),
            )
        # Where Linux shares the processor among sessions first, niceness alone counts inside the session only.
        with contextlib.suppress(OSError):
            Path(f"/proc/{process.pid}/autogroup").write_text("19")
        if ionice := shutil.which("ionice"):
            # Some containers forbid it; the priority of the processor is what counts.
            subprocess.run([ionice, "-c", "3", "-p", str(process.pid)], capture_output=True, check=False)
        found = _process(process.pid)
        return Worker(
            number=number, pid=process.pid, group=process.pid, started=None if found is None else found.started
        )

    def _tell(self, number: signal.Signals, said: str) -> list[str]:
        told = _signal(self.alive(), number)
        return [f"{told} process{'es are' if told > 1 else ' is'} {said}" if told else "nothing is running"]

    # The clone

    def _commit(self, name: str) -> str:
        try:
            commit = git(self.root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except CardError:
            raise CardError(f"{name!r} is no commit of {self.root}") from None
        commit = commit.strip()
        try:
            # Its `retable run` must know how workers share seeds.
            git(self.root, "cat-file", "-e", f"{commit}:retable/background.py")
        except CardError:
            raise CardError(
                f"{commit[:12]} is older than `retable background`; name a newer commit with --at"
            ) from None
        return commit

    def _left_out(self) -> list[str]:
        changed = git(self.root, "status", "--porcelain", "--untracked-files=all").splitlines()
        names = [line[3:] for line in changed]
        if not names:
            return []
        more = f" and {len(names) - FILES_NAMED} more" if len(names) > FILES_NAMED else ""
        return [f"not committed, so not as they are here in the clone: {', '.join(names[:FILES_NAMED])}{more}"]

    def _check_out(self, commit: str) -> list[str]:
        """Make the clone, or move the one that is there, to the commit."""
        lines = []
        if not self.clone.exists():
            # A clone that was cut short never gets the name.
            new = self.folder / "clone.new"
            shutil.rmtree(new, ignore_errors=True)
            git(self.root, "clone", "--quiet", "--local", "--no-checkout", str(self.root), str(new))
            with (new / ".git" / "info" / "exclude").open("a", encoding="utf-8") as exclude:
                # A link is not excluded as the folder in its place is, and no record would be of a clean tree.
                exclude.write("/datasets/raw\n__pycache__/\n")
            git(new, "fetch", "--quiet", str(self.root), commit)
            git(new, "checkout", "--quiet", "--detach", commit)
            new.rename(self.clone)
        tree = tree_of(self.clone)
        if tree.commit is None:
            raise CardError(f"{self.clone} is no git repository; collect its results and delete it")
        if tree.changed:
            raise CardError(
                f"{self.clone}: {tree.changed[0]} differs from the commit, so records would not say what ran; "
                f"`git -C {self.clone} stash --include-untracked` puts it aside"
            )
        if tree.commit != commit:
            lines = self._collect()
            git(self.clone, "fetch", "--quiet", str(self.root), commit)
            git(self.clone, "checkout", "--quiet", "--detach", commit)
        return lines

    def _link_data(self) -> list[str]:
        """Let the clone read and fetch into the checkout's data."""
        here, there = self.root / "datasets" / "raw", self.clone / "datasets" / "raw"
        here.mkdir(parents=True, exist_ok=True)
        if there.is_symlink():
            there.unlink()
        elif there.is_dir():
            try:
                there.rmdir()
            except OSError:
                return [f"{there} holds data, so it is not linked to {here}"]
        there.symlink_to(here)
        return []

    # Results

    def _survey(self) -> Survey:
        renames = load_renames(self.root / "results")
        found = Survey()
        # A record that cannot be read here is replaced.
        here: dict[tuple[str, int], list[tuple[Path, datetime.datetime]]] = {}
        for path, record, key in _records(self.root, renames, []):
            here.setdefault(key, []).append((path, _ended(record)))
        for path, record, key in _records(self.clone, renames, found.troubles):
            if record.state not in FINISHED:
                found.failed += 1
                continue
            found.finished += 1
            others = here.get(key, [])
            if all(ended < _ended(record) for _, ended in others):
                found.lacking.append((path, record, [other for other, _ in others]))
        return found

    def _collect(self) -> list[str]:
        found = self._survey()
        copied = replaced = 0
        for path, record, others in found.lacking:
            target = self.root / path.relative_to(self.clone)
            beside = {other.name: other for other in _beside(path)}
            for name, other in beside.items():
                write_atomically(target.with_name(name), other.read_bytes())
            for other in _beside(target):
                if other.name not in beside:
                    other.unlink()
            data = path.read_bytes()
            if read_record(path) != record:
                continue  # measured again meanwhile; the next call takes it
            write_atomically(target, data)
            # Under its older names a row would be there twice.
            for other in others:
                if other != target:
                    for file in (other, *_beside(other)):
                        file.unlink(missing_ok=True)
            copied += 1
            replaced += bool(others)
        return [
            *(str(trouble) for trouble in found.troubles),
            f"{copied} seeds collected"
            + (f", {replaced} of them in place of older ones" if replaced else "")
            + (f"; {found.failed} that failed stay in the clone" if found.failed else ""),
        ]

    # Files

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder, and keep git from seeing it at commits that do not ignore it yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / ".gitignore").exists():
            write_atomically(self.folder / ".gitignore", b"*\n")
        try:
            with FileLock(self.folder / "lock", timeout=0):
                yield
        except Timeout:
            raise CardError("another `retable background` starts or collects; try again when it is done") from None

    @property
    def _state_path(self) -> Path:
        return self.folder / "state.json"

    def _state(self) -> State | None:
        try:
            return State.model_validate_json(self._state_path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise CardError(
                f"{self._state_path} is damaged: end what runs in {self.clone} by hand, then delete the file"
            ) from None

    def _log(self, number: int) -> Path:
        return self.folder / f"worker-{number}.log"


@dataclass(frozen=True)
class _Process:
    pid: int
    state: str
    group: int
    started: int

    @property
    def ended(self) -> bool:
        return self.state in "ZXx"


def _has_proc() -> bool:
    return (PROC / "self" / "stat").exists()


def _process(pid: int) -> _Process | None:
    """What /proc says of a process; None where there is none."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, in brackets, may hold spaces and brackets; the fields after it are counted from 3.
    fields = text[text.rindex(")") + 2 :].split()
    return _Process(pid, fields[0], int(fields[2]), int(fields[19]))


def _signal(workers: Sequence[Worker], number: signal.Signals) -> int:
    """Send a signal to the workers' process groups; how many processes those have."""
    groups = {worker.group for worker in workers}
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
    if not _has_proc():
        return len(groups)
    every = (_process(int(path.name)) for path in PROC.iterdir() if path.name.isdecimal())
    return sum(found is not None and found.group in groups and not found.ended for found in every)


def _records(
    root: Path, renames: Renames, troubles: list[Trouble]
) -> Iterator[tuple[Path, RunRecord, tuple[str, int]]]:
    """The records that were measured in a checkout, as they are, each with cell and seed under today's names."""
    for scale in SCALES:
        for path in sorted((root / "results" / scale).glob("*/*/*/*/seed-*.json")):
            try:
                record = read_record(path)
                key = renames.apply(record).identity, record.seed
                _ended(record)
            except (CardError, OSError, ValueError) as error:
                troubles.append(Trouble(str(path), str(error).removeprefix(f"{path}: ")))
            else:
                yield path, record, key


def _ended(record: RunRecord) -> datetime.datetime:
    ended = datetime.datetime.fromisoformat(record.ended)
    return ended if ended.tzinfo else ended.replace(tzinfo=datetime.UTC)


def _beside(record: Path) -> list[Path]:
    """A seed's other files: curve, pictures, their list."""
    found = record.parent.glob(f"{record.stem}.*")
    return sorted(path for path in found if path != record and path.suffix != ".tmp" and path.is_file())


def _call(arguments: Sequence[str]) -> str:
    return shlex.join(["retable", "run", *arguments])


def _last_line(log: Path) -> str:
    try:
        lines = log.read_bytes()[-4096:].decode(errors="replace").replace("\r", "\n").split("\n")
    except OSError:
        return "no log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing said yet")
