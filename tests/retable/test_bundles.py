import dataclasses
import json
import os
import time
from pathlib import Path

import pytest

from retable.bundles import (
    SECONDS,
    Bundle,
    fix_bundles,
    list_path,
    make_bundles,
    marker_path,
    mend_markers,
    mend_times,
    needs_of,
    read_bundles,
    split,
    write_marker,
)
from retable.cards import CardError
from retable.config import Config, Workspace
from retable.currency import RecordStore, provenance_of
from retable.records import Cost, RunRecord, write_record


def open_at(workspace: Workspace, **config) -> Workspace:
    return Workspace(workspace.root, Config.model_validate({"device": "cpu"} | config))


def pairs(bundles: list[Bundle]) -> list[tuple[str, int]]:
    return sorted((cell, seed) for bundle in bundles for cell, seeds in bundle.seeds.items() for seed in seeds)


def write(workspace: Workspace, cell, seed: int, **change) -> None:
    fields = {name: getattr(cell, name) for name in cell.__dataclass_fields__ if name != "seeds"}
    fields |= dataclasses.asdict(provenance_of(workspace, cell)) | {"identity": cell.identity, "seed": seed}
    fields |= {"state": "ok", "cost": Cost(wall_s=8.0, cpu_s=4.0, peak_memory_bytes=1)}
    fields |= {"environment": {"device": "cpu: x"}, "started": "then", "ended": "later"}
    record = RunRecord(**(fields | change))
    write_record(cell.folder(workspace.results) / f"seed-{seed}.json", record)


# Which seeds are together


@pytest.mark.parametrize(
    ("costs", "limit", "parts"),
    [
        ([1.0, 1.0, 1.0, 1.0], 2.0, [[0, 1], [2, 3]]),
        ([1.0, 1.0, 1.0, 1.0], 4.0, [[0, 1, 2, 3]]),
        ([9.0, 1.0, 1.0, 1.0], 3.0, [[0], [1, 2, 3]]),
        ([1.0, 5.0, 5.0], 5.0, [[0, 1], [2]]),
        ([0.0, 0.0], 5.0, [[0, 1]]),
        ([], 5.0, []),
    ],
)
def test_costs_are_split_into_parts_of_about_the_same_sum(costs, limit, parts):
    assert split(costs, limit) == parts


def test_a_part_is_never_much_above_the_limit():
    costs = [0.3 + (7 * number % 11) for number in range(200)]
    parts = split(costs, 60.0)
    assert [place for part in parts for place in part] == list(range(200))
    assert max(sum(costs[place] for place in part) for part in parts) <= 60.0 + max(costs)
    assert len(parts) == -(-int(sum(costs) + 1) // 60)


@pytest.mark.parametrize("scale", ["demo", "reduced", "full"])
def test_every_seed_of_a_plan_is_in_one_bundle(workspace, scale):
    workspace = open_at(workspace, scale=scale)
    bundles = make_bundles(workspace, RecordStore.open(workspace))
    assert pairs(bundles) == sorted((cell.identity, seed) for cell in workspace.cells for seed in cell.seeds)
    assert len({(bundle.paper, bundle.name) for bundle in bundles}) == len(bundles)
    papers = {cell.identity: cell.paper for cell in workspace.cells}
    assert all(papers[identity] == bundle.paper for bundle in bundles for identity in bundle.seeds)


def test_a_fresh_clone_knows_what_the_demo_costs_and_needs_few_jobs(workspace):
    workspace = open_at(workspace)
    bundles = make_bundles(workspace, RecordStore.open(workspace))
    assert len(bundles) <= 12
    assert all(bundle.seconds <= 1.25 * SECONDS["demo"] for bundle in bundles)


def test_known_costs_replace_the_cards_and_seeds_of_a_long_cell_are_jobs_of_their_own(workspace):
    workspace = open_at(workspace, papers=["contranorm"], recipes=["node-depth"])
    first = workspace.cells[0]
    write(workspace, first, 0, cost=Cost(wall_s=1.0, cpu_s=500.0, peak_memory_bytes=1))
    bundles = make_bundles(workspace, RecordStore.open(workspace))
    long = [bundle for bundle in bundles if first.identity in bundle.seeds and bundle.seconds >= 500]
    assert sorted(seed for bundle in long for seed in bundle.seeds[first.identity]) == list(first.seeds)
    assert all(len(bundle.seeds[first.identity]) == 1 for bundle in long)


def test_data_that_must_be_fetched_hold_up_their_own_seeds_only(workspace):
    workspace = open_at(workspace, scale="full", papers=["gcl"])
    datasets = {cell.identity: cell.dataset for cell in workspace.cells}
    for bundle in make_bundles(workspace, RecordStore.open(workspace)):
        assert len({datasets[identity] for identity in bundle.seeds}) == 1


# The list


def test_the_list_stays_as_it_is_when_seeds_are_measured_and_costs_known(workspace):
    with pytest.raises(CardError, match="no list of bundles"):
        read_bundles(workspace)
    first = fix_bundles(workspace, RecordStore.open(workspace))
    write(workspace, workspace.cells[0], 0, cost=Cost(wall_s=1.0, cpu_s=500.0, peak_memory_bytes=1))
    store = RecordStore.open(workspace)
    assert make_bundles(workspace, store) != first
    assert fix_bundles(workspace, store) == first == read_bundles(workspace)


def test_another_plan_has_another_list(workspace):
    more = open_at(workspace, papers=["contranorm"], seeds=7)
    assert list_path(more) != list_path(workspace)


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"bundles": [1]}', '{"bundles": [{"paper": "x"}]}', "\x00"])
def test_a_damaged_list_is_made_again_by_the_head_and_refused_by_a_job(workspace, damage):
    bundles = fix_bundles(workspace, RecordStore.open(workspace))
    list_path(workspace).write_text(damage)
    with pytest.raises(CardError, match="start the run again"):
        read_bundles(workspace)
    assert fix_bundles(workspace, RecordStore.open(workspace)) == bundles


def test_a_list_that_lacks_a_seed_is_refused(workspace):
    fix_bundles(workspace, RecordStore.open(workspace))
    kept = json.loads(list_path(workspace).read_text())
    next(iter(kept["bundles"][0]["seeds"].values())).pop()
    list_path(workspace).write_text(json.dumps(kept))
    with pytest.raises(CardError, match="not the seeds of this plan"):
        read_bundles(workspace)


# Markers


def test_a_marker_is_there_while_all_seeds_have_finished(workspace):
    (cell,) = cells = workspace.cells[:1]
    workspace.__dict__["cells"] = cells
    bundle = Bundle.of("contranorm", [(cell, 0), (cell, 1)], 2.0)
    path = marker_path(workspace, bundle)

    def mend() -> bool:
        mend_markers(workspace, RecordStore.open(workspace), [bundle])
        return path.exists()

    assert not mend()
    write(workspace, cell, 0)
    assert not mend()
    write(workspace, cell, 1, state="diverged", error="loss is nan")
    assert mend()
    before = path.stat().st_mtime_ns
    assert json.loads(path.read_text()) == {cell.identity: {"0": "ok", "1": "diverged"}}
    assert mend()
    assert path.stat().st_mtime_ns == before
    Path(cell.folder(workspace.results) / "seed-0.json").unlink()
    assert not mend()


def test_a_bundle_with_a_failed_seed_ends_with_a_marker_that_the_next_call_takes_away(workspace):
    (cell,) = workspace.__dict__["cells"] = workspace.cells[:1]
    bundle = Bundle.of("contranorm", [(cell, 0)], 2.0)
    write(workspace, cell, 0, state="failed", error="ValueError")
    store = RecordStore.open(workspace)
    write_marker(workspace, store, bundle)
    assert json.loads(marker_path(workspace, bundle).read_text()) == {cell.identity: {"0": "failed"}}
    mend_markers(workspace, store, [bundle])
    assert not marker_path(workspace, bundle).exists()


# What a job needs


def needs(workspace: Workspace, recipe: str, seeds: int = 1, **config):
    chosen = open_at(workspace, **config)
    cell = next(cell for cell in chosen.cells if cell.recipe == recipe)
    return cell, needs_of(chosen, Bundle.of(cell.paper, [(cell, seed) for seed in range(seeds)], 10.0))


def test_a_job_needs_what_the_card_says(workspace):
    cell, one = needs(workspace, "imagenet-probe", scale="full", papers=["umae"])
    _, three = needs(workspace, "imagenet-probe", 3, scale="full", papers=["umae"])
    at_scale = open_at(workspace).papers["umae"].recipe("imagenet-probe").scales["full"]
    assert (at_scale.memory_gb, cell.settings["workers"] > 1) == (32.0, True)
    assert one.memory_mb == three.memory_mb == 32000
    # A folder of images has loaders, each on a processor; torch has the one beside them.
    assert one.processors == 1 + cell.settings["workers"]
    assert three.hours == pytest.approx(3 * one.hours, rel=0.01)
    assert one.hours > at_scale.hours


def test_where_no_card_says_it_a_job_has_the_time_of_its_scale_and_data_in_memory_have_no_loaders(workspace):
    cell, found = needs(workspace, "transfer", scale="demo", papers=["umae"])
    assert cell.settings["workers"] > 1
    assert (found.memory_mb, found.processors, found.hours) == (4000, 1, 0.5)


def test_times_that_lie_ahead_are_set_to_now(tmp_path):
    ahead, sound = tmp_path / "ahead", tmp_path / "sound"
    for path in (ahead, sound):
        path.touch()
    os.utime(ahead, (time.time() + 7200,) * 2)
    before = sound.stat().st_mtime_ns
    assert mend_times([ahead, sound, tmp_path / "gone"]) == [ahead]
    assert abs(ahead.stat().st_mtime - time.time()) < 60
    assert sound.stat().st_mtime_ns == before
