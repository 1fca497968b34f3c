"""Prove that a change of code changes no number: run the base's tree and this one side by side and compare bytes.

Every published cell of an experiment whose sources differ is run by both trees, cut to a few epochs of every phase at
its real settings, with schedules scaled along, through to its metrics; one whole seed of the cheapest trained cell of
every recipe too. Metrics, series, curves and kept weights must be equal to the last bit; what the new tree adds is
listed. What was proved is appended to the ledger.

A recipe with a cell that differs is not proved by short runs, which may have missed the difference in its other cells.
Whole seeds prove each cell for itself.
"""

import datetime
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retable.cards import SCALES, CardError, Scale, unknown
from retable.checkout import CODE_ROOT, git, require_clean, running_tree
from retable.config import Workspace
from retable.equivalence import EPOCHS, compare, cut, digest, stretch
from retable.ledger import Entry, ProvedCell, Side, append, load_ledger
from retable.plan import names_of
from retable.records import RunRecord, load_published
from retable.renames import Renames, load_renames
from retable.replay import ENDED
from retable.report.words import plural

SEED = 0
KILLED = ENDED.format(-signal.SIGKILL)


class Tree:
    """A checkout whose code runs cells in a process of its own."""

    def __init__(self, root: Path, commit: str, log: Path) -> None:
        self.root, self.commit = root.resolve(), commit
        own = self.root / "retable" / "replay.py"
        script = own if own.exists() else CODE_ROOT / "retable" / "replay.py"
        environment = os.environ | {"PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(script), str(self.root)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self.root,
                env=environment,
                text=True,
            )

    def ask(self, ask: str, **more: Any) -> dict[str, Any]:
        """The answer to a request of `retable.replay`; it holds `error` where that failed."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"ask": ask, **more}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def check_imports(self) -> None:
        """Raises CardError where the code that runs is not this checkout's: a tree would be compared with itself."""
        for name, path in self.ask("where").items():
            expected = self.root / name / "__init__.py"
            if Path(path) != expected:
                raise CardError(f"{self.root}: `{name}` was imported from {path} instead; nothing is proved")

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def checked_out(root: Path, commit: str) -> Iterator[Path]:
    """The files of a commit in a temporary folder."""
    command = ["git", "-c", f"safe.directory={root}", "-C", str(root), "archive", "--format=tar", commit]
    with tempfile.TemporaryDirectory(prefix="retable-base-") as folder:
        done = subprocess.run(command, capture_output=True, check=True)
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


@dataclass(frozen=True)
class Subject:
    """A published cell, as the base's cards name it and as this tree's do."""

    scale: Scale
    base: dict[str, Any]
    tree: dict[str, Any]
    base_identity: str
    identity: str
    records: tuple[RunRecord, ...]

    @property
    def recipe(self) -> tuple[str, str]:
        return self.tree["fields"]["paper"], self.tree["fields"]["recipe"]

    @property
    def name(self) -> str:
        fields = self.tree["fields"]
        axes = "".join(f" {key}={value}" for key, value in fields["axes"].items())
        return f"{fields['paper']}/{fields['recipe']} {fields['dataset']} {fields['variant']}{axes} ({self.identity})"

    @property
    def trained(self) -> bool:
        return not self.tree["control"]

    @property
    def settings(self) -> dict[str, Any]:
        return self.tree["fields"]["settings"]


@dataclass
class Report:
    """What came of one recipe: proved cells, or what differs."""

    paper: str
    recipe: str
    cells: dict[str, list[ProvedCell]] = field(default_factory=lambda: defaultdict(list))
    added: dict[str, None] = field(default_factory=dict)
    reference: dict[str, str] = field(default_factory=dict)
    differing: set[str] = field(default_factory=set)
    cpu_s: float = 0.0


def prove(
    workspace: Workspace,
    base: str,
    selection: str | None = None,
    epochs: int = EPOCHS,
    datasets: Collection[str] = (),
    variants: Collection[str] = (),
    whole: bool = False,
) -> int:
    """Prove the recipes of a paper (`paper`, `paper/recipe`; None: all) whose sources differ between `base` and HEAD.

    With `datasets` or `variants` only their cells: what takes long can be proved in parts. With `whole` a whole seed of
    each cell.

    Prints a line a cell and appends an entry for each recipe that is equal, with `whole` for the cells that are.
    Returns how many recipes are not. Raises CardError for a tree with changes, a base that is no commit or this one, an
    unknown selection, and nothing to prove.
    """
    commit = require_clean(running_tree(), "prove")
    base_commit = _commit(workspace.root, base)
    if base_commit == commit:
        raise CardError(f"{base} is the commit that is checked out; a tree compared with itself proves nothing")
    paper, recipe = ("", "") if selection is None else names_of(selection)
    if paper and paper not in workspace.papers:
        raise CardError(unknown("paper", paper, list(workspace.papers)))
    if recipe:
        workspace.papers[paper].recipe(recipe)
    for name in datasets:
        if name not in workspace.datasets:
            raise CardError(unknown("data set", name, list(workspace.datasets)))
    papers = [workspace.papers[paper]] if paper else workspace.papers.values()
    known = {name for card in papers for r in card.recipes if recipe in ("", r.name) for name in r.variants}
    for name in variants:
        if name not in known:
            raise CardError(unknown("variant", name, sorted(known)))
    with ExitStack() as stack:
        folder = stack.enter_context(checked_out(workspace.root, base_commit))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="retable-proof-")))
        log = workspace.root / "logs" / "prove.log"
        log.parent.mkdir(exist_ok=True)
        trees = [Tree(folder, base_commit, log), Tree(workspace.root, commit, log)]
        for tree in trees:
            stack.callback(tree.close)
            tree.check_imports()
        if trees[0].root == trees[1].root:
            raise CardError(f"both trees lie at {trees[0].root}; a tree compared with itself proves nothing")
        print(f"base {base_commit} at {trees[0].root}\ntree {commit} at {trees[1].root}\nwhat runs print: {log}")
        subjects = find_subjects(workspace, trees, paper, recipe, datasets, variants)
        _fetch(workspace, subjects)
        reports = [
            _prove_recipe(workspace, trees, name, group, scratch, None if whole else epochs)
            for name, group in _grouped(subjects).items()
        ]
        proved = [report for report in reports if report.cells and (whole or not report.differing)]
        entries = [_entry(trees, report, subjects, epochs) for report in proved]
    for report in reports:
        said = f"{plural(len(report.cells), 'cell')} equal"
        said += f", {len(report.differing)} not" if report.differing else ""
        print(f"{report.paper}/{report.recipe}: {said}, {report.cpu_s:.0f} processor seconds")
        if report.cells and report.differing and not whole:
            print("  none is proved, since short runs may miss a difference: --whole proves each by a whole seed")
    if entries:
        print(f"{plural(len(entries), 'entry', 'entries')} appended to {append(workspace.results, entries)}; commit it")
    return sum(bool(report.differing) for report in reports)


def _commit(root: Path, name: str) -> str:
    try:
        return git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
    except CardError:
        raise CardError(f"--base {name}: no commit of {root} has that name; `git log --oneline` lists them") from None


def find_subjects(
    workspace: Workspace,
    trees: list[Tree],
    paper: str = "",
    recipe: str = "",
    datasets: Collection[str] = (),
    variants: Collection[str] = (),
) -> list[Subject]:
    """Published cells that are current at the base and not yet here. Raises CardError where there are none."""
    base_names, names = load_renames(trees[0].root / "results"), load_renames(workspace.results)
    published = load_published(workspace.results, Renames()).records
    ledger = load_ledger(workspace.results)
    plans = [{scale: _plan(tree, scale, published) for scale in SCALES} for tree in trees]
    for tree, plan in zip(trees, plans, strict=True):
        found = [cell["fields"] for cells in plan.values() for cell in cells.values()]
        if not any(paper in ("", f["paper"]) and recipe in ("", f["recipe"]) for f in found):
            raise CardError(f"commit {tree.commit[:12]} has no experiment {paper}{recipe and '/'}{recipe}")
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for record in published:
        groups[record.identity].append(record)
    subjects, stale, current = [], 0, 0
    for records in groups.values():
        old, new = base_names.apply(records[0]), names.apply(records[0])
        if (paper and new.paper != paper) or (recipe and new.recipe != recipe):
            continue
        if (datasets and new.dataset not in datasets) or (variants and new.variant not in variants):
            continue
        before, now = (plans[side][new.scale].get(record.identity) for side, record in enumerate((old, new)))
        if before is None or now is None:
            stale += 1
        elif all(ledger.path(new.identity, r.source_sha256, now["source_sha256"]) is not None for r in records):
            current += 1
        elif any(ledger.path(new.identity, r.source_sha256, before["source_sha256"]) is None for r in records):
            stale += 1
        else:
            subjects.append(
                Subject(new.scale, before, now, old.identity, new.identity, tuple(map(names.apply, records)))
            )
    print(f"{len(subjects)} published cells to prove; {current} are already current, {stale} not current at the base")
    if not subjects:
        raise CardError(
            f"nothing to prove: of the published cells {current} are already current here, {stale} are not current at "
            "the base"
        )
    return subjects


def _plan(tree: Tree, scale: Scale, published: list[RunRecord]) -> dict[str, Any]:
    if not any(record.scale == scale for record in published):
        return {}
    answer = tree.ask("plan", scale=scale)
    if "error" in answer:
        raise CardError(f"{tree.root}: its cells cannot be planned: {answer['error']}")
    return answer


def _fetch(workspace: Workspace, subjects: list[Subject]) -> None:
    from retable.data.fetch import fetch

    for name in sorted({subject.tree["fields"]["dataset"] for subject in subjects}):
        fetch(workspace.datasets[name], workspace.raw, workspace.mirror, progress=sys.stderr.isatty())


def _grouped(subjects: list[Subject]) -> dict[tuple[str, str], list[Subject]]:
    groups: dict[tuple[str, str], list[Subject]] = defaultdict(list)
    for subject in subjects:
        groups[subject.recipe].append(subject)
    return groups


def _prove_recipe(
    workspace: Workspace,
    trees: list[Tree],
    name: tuple[str, str],
    subjects: list[Subject],
    scratch: Path,
    epochs: int | None,
) -> Report:
    report = Report(*name)
    spent: dict[str, float] = {}
    for subject in subjects:
        before = report.cpu_s
        _compare_runs(workspace, trees, subject, scratch, report, epochs)
        spent[subject.identity] = report.cpu_s - before
    if epochs is None or report.differing:
        return report
    if trained := [s for s in subjects if s.trained]:
        # By what a whole seed would cost: the short run's time and what it was cut by.
        cheapest = min(trained, key=lambda s: spent[s.identity] * stretch(s.settings, cut(s.settings, epochs)))
        _compare_runs(workspace, trees, cheapest, scratch, report, None)
    return report


def _compare_runs(
    workspace: Workspace, trees: list[Tree], subject: Subject, scratch: Path, report: Report, epochs: int | None
) -> None:
    """Run a subject by both trees, at full length if `epochs` is None, and note what came of it.

    Both run at once; where one is killed, one after the other.
    """
    sides = ((subject.base_identity, subject.base), (subject.identity, subject.tree))

    def run(side: int) -> dict[str, Any]:
        identity, plan = sides[side]
        return trees[side].ask(
            "run",
            scale=subject.scale,
            identity=identity,
            seed=SEED,
            settings={} if epochs is None else cut(plan["fields"]["settings"], epochs),
            raw=str(workspace.raw),
            folder=str(scratch / f"side-{side}"),
        )

    with ThreadPoolExecutor(2) as pool:
        attempts = [list(pool.map(run, (0, 1)))]
    if any(answer.get("error") == KILLED for answer in attempts[0]):
        # Most likely both did not fit into memory together.
        attempts.append([run(0), run(1)])
    report.cpu_s += sum(answer.get("cpu_s", 0.0) for attempt in attempts for answer in attempt)
    base, tree = attempts[-1]
    base = _renamed(base, load_renames(workspace.results), subject)
    differences, added = compare(base, tree)
    whole = epochs is None
    what = f"{subject.name}{', whole' if whole else ''}"
    print(f"  {'DIFFERS' if differences else 'equal'}  {what}" + "".join(f"\n      {line}" for line in differences))
    sys.stdout.flush()
    report.added |= dict.fromkeys(added)
    if differences:
        report.differing.add(subject.identity)
    else:
        proved = ProvedCell(seed=SEED, sha256=digest(base), whole=whole)
        report.cells[subject.identity].append(proved)
        if whole:
            report.reference |= _beside_published(subject, tree)


def _renamed(answer: dict[str, Any], renames: Renames, subject: Subject) -> dict[str, Any]:
    """The base's answer under this tree's names of metrics."""
    if "error" in answer:
        return answer
    fields = subject.base["fields"]
    for entry in renames.entries:
        if entry.covers(fields["paper"], fields["recipe"]):
            answer = answer | {"metrics": entry.numbers(answer["metrics"]), "series": entry.numbers(answer["series"])}
            answer = answer | {"curve": [entry.numbers(row) for row in answer["curve"]]}
    return answer


def _beside_published(subject: Subject, answer: dict[str, Any]) -> dict[str, str]:
    """How the whole run compares with the published record of its seed."""
    for record in subject.records:
        if record.seed == SEED and record.state == "ok":
            gaps = {
                name: abs(float.fromhex(answer["metrics"][name]) - value)
                for name, value in record.metrics.items()
                if name in answer["metrics"]
            }
            worst = max(gaps, key=gaps.__getitem__)
            said = "the same bytes" if not gaps[worst] else f"{worst} {gaps[worst]:.3g} apart"
            return {f"{subject.identity} {SEED}": f"{said}; published from {record.environment.get('device')}"}
    return {}


def _entry(trees: list[Tree], report: Report, subjects: list[Subject], epochs: int) -> Entry:
    import torch

    from retable.run import environment

    first = next(s for s in subjects if s.recipe == (report.paper, report.recipe))
    sides = (
        Side(source_sha256=plan["source_sha256"], commit=tree.commit, path=str(tree.root))
        for tree, plan in zip(trees, (first.base, first.tree), strict=True)
    )
    base, tree = sides
    return Entry(
        paper=report.paper,
        recipe=report.recipe,
        base=base,
        tree=tree,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        epochs=epochs,
        cells=dict(report.cells),
        added=list(report.added),
        reference=report.reference,
        environment=environment(torch.device("cpu")) | {"threads": "1"},
        cpu_s=round(report.cpu_s, 1),
    )
