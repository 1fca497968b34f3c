"""Published numbers measured again, and a proof of the ledger run again: the records are what they say, here and now.

Bytes must be equal where instruction set, torch and threads are those of the record; elsewhere a stated tolerance
holds.
"""

import json
from pathlib import Path

import pytest
import torch

from retable.cards import CardError
from retable.checkout import git
from retable.config import Config, Workspace
from retable.currency import RecordStore
from retable.data.fetch import fetch
from retable.equivalence import compare, cut, digest
from retable.plan import Cell
from retable.prove import Tree, checked_out
from retable.records import RunRecord
from retable.run import environment, run_cell
from retable.train.determinism import threads

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SAME = ("instruction_set", "torch", "threads", "numpy", "scipy")
# In the metric's unit, where the machine or the versions differ: training magnifies rounding.
TOLERANCE = {"tricl": 1e-6, "contranorm": 4.0}
CANARIES = (
    ("tricl", "identifiability", "word-pairs-equal", "two-factor", {}),
    pytest.param("contranorm", "node-depth", "cora", "none", {"depth": 2}, marks=pytest.mark.mirror),
)


def published(root: Path, paper: str, recipe: str, dataset: str, variant: str, axes: dict) -> tuple[Cell, RunRecord]:
    """A planned cell and the published record of its first seed."""
    workspace = Workspace(root, Config(scale="full", papers=[paper], recipes=[recipe], datasets=[dataset]))
    (cell,) = (c for c in workspace.cells if c.variant == variant and axes.items() <= c.axes.items())
    (record,) = (r for r in RecordStore.open(workspace).published.records if (r.identity, r.seed) == (cell.identity, 0))
    return cell, record


@pytest.mark.parametrize(("paper", "recipe", "dataset", "variant", "axes"), CANARIES)
def test_a_published_number_comes_out_again(
    root: Path, tmp_path: Path, request: pytest.FixtureRequest, paper, recipe, dataset, variant, axes
) -> None:
    cell, record = published(root, paper, recipe, dataset, variant, axes)
    for name in ("methods", "datasets", "retable"):
        (tmp_path / name).symlink_to(root / name)
    workspace = Workspace(tmp_path, Config(scale="full", device="cpu"))
    card = workspace.datasets[dataset]
    if not card.embedded:
        # The checkout's own downloads stay as they are.
        (tmp_path / "datasets").unlink()
        (tmp_path / "datasets").mkdir()
        for path in (root / "datasets").glob("*.yaml"):
            (tmp_path / "datasets" / path.name).symlink_to(path)
        fetch(card, workspace.raw, str(request.getfixturevalue("mirror")))
    with threads(1):
        again = run_cell(workspace, cell, seeds=[0]).records[0]
    assert again.state == record.state
    assert record.metrics.keys() <= again.metrics.keys()
    if all(record.environment.get(name) == again.environment[name] for name in SAME):
        assert {name: again.metrics[name] for name in record.metrics} == record.metrics
    else:
        assert {name: again.metrics[name] for name in record.metrics} == pytest.approx(
            record.metrics, rel=0, abs=TOLERANCE[paper]
        )


def has_commit(root: Path, commit: str) -> bool:
    try:
        return git(root, "cat-file", "-t", commit).strip() == "commit"
    except CardError:
        return False


def test_a_proof_of_the_ledger_holds_here(root: Path, tmp_path: Path) -> None:
    """The last entry about embedded data: both of its commits run one of its cells again, and agree."""
    workspace = Workspace(root, Config(scale="full", device="cpu"))
    planned = {cell.identity: cell for cell in workspace.cells}
    entries = [
        entry
        for entry in RecordStore.open(workspace).currency.ledger.entries
        if any(
            identity in planned and workspace.datasets[planned[identity].dataset].embedded for identity in entry.cells
        )
    ]
    assert entries, "no entry of the ledger is about data that every machine has"
    entry = entries[-1]
    identity, proofs = next((i, p) for i, p in entry.cells.items() if i in planned)
    proof = next(proof for proof in proofs if not proof.whole)
    answers = []
    for side in (entry.base, entry.tree):
        if not has_commit(root, side.commit):
            pytest.skip(f"a shallow clone without commit {side.commit}")
        with checked_out(root, side.commit) as folder:
            tree = Tree(folder, side.commit, tmp_path / "log")
            try:
                tree.check_imports()
                plan = tree.ask("plan", scale="full")[identity]
                assert plan["source_sha256"] == side.source_sha256
                settings = cut(plan["fields"]["settings"], entry.epochs)
                where = {"raw": str(workspace.raw), "folder": str(tmp_path / "run")}
                answers.append(
                    tree.ask("run", scale="full", identity=identity, seed=proof.seed, settings=settings, **where)
                )
            finally:
                tree.close()
    assert compare(*answers)[0] == []
    with threads(1):
        here = environment(torch.device("cpu"))
    if all(entry.environment.get(name) == here[name] for name in SAME):
        assert digest(answers[0]) == proof.sha256, json.dumps(answers[0])[:500]
