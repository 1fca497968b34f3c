import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from retable.config import Workspace
from retable.currency import (
    RecordStore,
    SourceHashes,
    index_path,
    mend_indices,
    provenance_of,
    write_index,
)
from retable.ledger import Ledger, append
from retable.plan import Cell
from retable.records import RunRecord, publish, write_record
from retable.sources import source_sha256

OLD, OLDER = "d" * 64, "e" * 64


# Reasons --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"source_sha256": OLD}, "the code changed since it ran"),
        ({"data_sha256": OLD}, "the data or its split changed since it ran"),
        ({"split_sha256": OLD}, "the data or its split changed since it ran"),
        ({"recipe": "width"}, "no card has the recipe toy/width"),
        ({"paper": "other"}, "no card has the recipe other/depth"),
        ({"dataset": "citeseer"}, "no card has the data set 'citeseer' with the split 'public'"),
        ({"split": "random"}, "no card has the data set 'cora' with the split 'random'"),
    ],
)
def test_a_record_speaks_for_the_tree_or_says_why_not(world, change: dict, reason: str | None):
    (record,) = world.measure(world.cell("plain", depth=2), [80.0], **change)
    assert world.currency.reason(record) == reason
    assert world.currency.proof(record) == []


def test_a_proof_makes_a_record_of_other_sources_current(world):
    cell, other = world.cell("plain", depth=2), world.cell("plain", depth=4)
    proofs = [world.proof(OLDER, OLD, cell), world.proof(OLD, world.currency.sources["toy", "depth"], cell)]
    currency = replace(world.currency, ledger=Ledger(tuple(proofs)))
    (record,) = world.measure(cell, [80.0], source_sha256=OLDER)
    assert currency.reason(record) is None
    assert currency.proof(record) == proofs
    # What was judged before is not believed of another ledger.
    assert replace(currency, ledger=Ledger()).reason(record) == "the code changed since it ran"
    # It speaks of no other cell, nor of other data.
    (unproved,) = world.measure(other, [80.0], source_sha256=OLDER)
    assert currency.reason(unproved) == "the code changed since it ran"
    (moved,) = world.measure(cell, [80.0], source_sha256=OLDER, data_sha256=OLD)
    assert currency.reason(moved) == "the data or its split changed since it ran"
    assert currency.proof(moved) == []


def test_sources_are_those_of_the_recipes_own_module(workspace: Workspace, root: Path) -> None:
    hashes = SourceHashes(workspace)
    assert hashes["contranorm", "node-depth"] == source_sha256(root, "contranorm", "run")
    assert hashes["contranorm", "vision"] == source_sha256(root, "contranorm", "vision")
    for absent in (("contranorm", "absent"), ("absent", "node-depth")):
        with pytest.raises(KeyError):
            hashes[absent]


# The records of a workspace -------------------------------------------------------------------------------------------


def measure(world, workspace: Workspace, cell: Cell, *seeds: int, **change) -> list[RunRecord]:
    """Records of today's tree, written where runs write them."""
    provenance = asdict(provenance_of(workspace, cell))
    records = [world.measure(cell, [80.0], first_seed=seed, **(provenance | change))[0] for seed in seeds]
    for record in records:
        write_record(cell.folder(workspace.results) / f"seed-{record.seed}.json", record)
    return records


def index(workspace: Workspace, cell: Cell) -> dict | None:
    path = index_path(workspace, cell)
    return json.loads(path.read_text()) if path.exists() else None


def test_states_are_those_of_the_planned_seeds(world, workspace: Workspace, cell: Cell) -> None:
    cell = replace(cell, seeds=(0, 1, 2, 3))
    measure(world, workspace, cell, 0, 9)
    measure(world, workspace, cell, 1, source_sha256=OLD)
    measure(world, workspace, cell, 2, state="failed", error="no", metrics={})
    store = RecordStore.open(workspace)
    expected = {
        0: ("ok", ""),
        1: ("stale", "the code changed since it ran"),
        2: ("failed", "no"),
        3: ("not run", ""),
    }
    assert store.states(cell) == expected
    assert store.unfinished(cell) == [1, 2, 3]
    assert len(store.own.records) == 4
    # As above, now that all records are read.
    assert store.states(cell) == expected


def test_a_diverged_seed_is_finished(world, workspace: Workspace, cell: Cell) -> None:
    measure(world, workspace, cell, 0, state="diverged", error="loss is nan", metrics={})
    measure(world, workspace, cell, 1)
    assert RecordStore.open(workspace).unfinished(cell) == []


def test_a_proof_in_the_ledger_spares_a_seed_its_measurement(world, workspace: Workspace, cell: Cell) -> None:
    measure(world, workspace, cell, 0, 1, source_sha256=OLD)
    assert RecordStore.open(workspace).unfinished(cell) == [0, 1]
    append(workspace.results, [world.proof(OLD, provenance_of(workspace, cell).source_sha256, cell)])
    assert RecordStore.open(workspace).unfinished(cell) == []


def test_what_was_run_here_counts_over_what_is_published(world, workspace: Workspace, cell: Cell) -> None:
    publish(measure(world, workspace, cell, 0, 1), workspace.results)
    measure(world, workspace, cell, 0, metrics={"accuracy": 90.0})
    (cell.folder(workspace.results) / "seed-1.json").unlink()
    store = RecordStore.open(workspace)
    assert {r.seed: r.metrics["accuracy"] for r in store.records} == {0: 90.0, 1: 80.0}
    assert list(store.of_cell(cell)) == [0]


def test_troubles_of_all_files_come_together(world, workspace: Workspace, cell: Cell) -> None:
    (record,) = measure(world, workspace, cell, 0)
    (published,) = publish([record], workspace.results)
    own, ledger = cell.folder(workspace.results) / "seed-0.json", workspace.results / "equivalence.jsonl"
    for path in (published, own, ledger):
        path.write_text("{")
    troubles = RecordStore.open(workspace).troubles
    assert [trouble.where for trouble in troubles] == [f"{published}:1", str(own), f"{ledger}:1"]


# Indices --------------------------------------------------------------------------------------------------------------


def test_a_cell_has_an_index_while_each_planned_seed_has_a_record(world, workspace: Workspace, cell: Cell) -> None:
    measure(world, workspace, cell, 0)
    write_index(RecordStore.open(workspace), cell)
    assert index(workspace, cell) is None
    measure(world, workspace, cell, 1, state="failed", error="no", metrics={})
    write_index(RecordStore.open(workspace), cell)
    seeds = {"0": "ok", "1": "failed"}
    assert index(workspace, cell) == {"identity": cell.identity, "command": cell.command, "seeds": seeds}
    (cell.folder(workspace.results) / "seed-0.json").unlink()
    write_index(RecordStore.open(workspace), cell)
    assert index(workspace, cell) is None


def test_further_seeds_are_in_the_index(world, workspace: Workspace, cell: Cell) -> None:
    measure(world, workspace, cell, 0, 1, 10)
    measure(world, workspace, cell, 2, source_sha256=OLD)
    store = RecordStore.open(workspace)
    write_index(store, cell)
    found = index(workspace, cell)
    assert found is not None
    assert found["seeds"] == {"0": "ok", "1": "ok", "2": "stale", "10": "ok"}
    assert list(store.states(cell)) == [0, 1]


def test_an_index_that_is_true_is_not_written_again(world, workspace: Workspace, cell: Cell) -> None:
    measure(world, workspace, cell, 0, 1)
    write_index(RecordStore.open(workspace), cell)
    before = index_path(workspace, cell).stat()
    write_index(RecordStore.open(workspace), cell)
    assert index_path(workspace, cell).stat() == before
    index_path(workspace, cell).write_text("{}")
    write_index(RecordStore.open(workspace), cell)
    assert index(workspace, cell) != {}


def test_mended_indices_stand_where_nothing_is_left_to_measure(world, workspace: Workspace, cell: Cell) -> None:
    done, stale, failed, gone, untouched = cells = [
        replace(cell, variant=name) for name in ("done", "stale", "failed", "gone", "untouched")
    ]
    for each in cells[:4]:
        measure(world, workspace, each, 0, 1)
    measure(world, workspace, failed, 1, state="failed", error="no", metrics={})
    for each in cells[1:4]:
        write_index(RecordStore.open(workspace), each)
        assert index(workspace, each) is not None
    measure(world, workspace, stale, 0, source_sha256=OLD)
    (gone.folder(workspace.results) / "seed-0.json").unlink()
    mend_indices(RecordStore.open(workspace), cells)
    assert [each.variant for each in cells if index(workspace, each)] == ["done"]
    assert not untouched.folder(workspace.results).exists()
    assert index(workspace, done)["seeds"] == {"0": "ok", "1": "ok"}


def test_a_published_record_that_was_run_here_too_is_replaced(world, workspace: Workspace, cell: Cell) -> None:
    measure(world, workspace, cell, 0)
    (record,) = RecordStore.open(workspace).own.records
    publish([record.model_copy(update={"metrics": {"accuracy": 1.0}})], workspace.results)
    store = RecordStore.open(workspace, "contranorm")
    assert [one.metrics for one in store.replaced] == [{"accuracy": 1.0}]
    assert store.records == [record]
    assert RecordStore.open(workspace, "gcl").records == []
