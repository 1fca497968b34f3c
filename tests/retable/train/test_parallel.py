"""A run on two processes of torchrun's (gloo, CPU) leaves the record that one process leaves, up to rounding."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from retable.cards import CardError, Scalar
from retable.config import Config, Workspace
from retable.plan import Cell, recipe_cells
from retable.records import read_record
from retable.run import run_cell
from retable.train import parallel
from retable.train.distributed import process_group, rank
from tests.conftest import torchrun

ROOT = Path(__file__).resolve().parents[3]
WORLD = 2


def link_tree(folder: Path) -> None:
    for name in ("methods", "datasets", "retable"):
        (folder / name).symlink_to(ROOT / name)


def cell_of(paper: str, recipe: str, variant: str, **settings: Scalar) -> Cell:
    tree = Workspace(ROOT, Config())
    cells = recipe_cells(paper, tree.papers[paper].recipe(recipe), tree.datasets, "demo")
    cell = next(cell for cell in cells if cell.variant == variant)
    return dataclasses.replace(cell, settings=cell.settings | settings, seeds=(0,))


def cells() -> list[Cell]:
    short: dict[str, Scalar] = {"epochs": 2, "warmup": 1.0, "batch_size": 100}
    return [
        cell_of("umae", "pretrain", "umae-0.1", **short),
        cell_of("umae", "transfer", "umae-fine-tuned", **short, tune_epochs=2, mixup=0.0, cutmix=0.0),
        cell_of("umae", "transfer", "umae-probe", **short, tune_epochs=2),
    ]


def share_of_the_work(folder: Path) -> None:
    """What a process that torchrun started does. All look at one folder; the second must not write there."""
    with process_group():
        if parallel.is_main():
            link_tree(folder)
        torch.distributed.barrier()
        shared = Workspace(folder, Config(device="cpu"))
        for cell in cells():
            run_cell(shared, cell)
            run_cell(shared, cell)  # finds the record
        said = "nothing"
        try:
            run_cell(shared, cell_of("contranorm", "vision", "layernorm"))
        except CardError as error:
            said = str(error)
        found = {
            "refused": said,
            "broadcast": parallel.broadcast(rank()),
            "any": [parallel.any_rank(rank() == 1), parallel.any_rank(False)],
            "averaged": parallel.all_reduce_mean(torch.tensor([float(rank()), 4.0])).tolist(),
            "share": parallel.shard(torch.arange(6)).tolist(),
        }
        try:
            parallel.ddp(nn.Linear(1, 1), 3)
        except CardError as error:
            found["odd"] = str(error)
        (folder / f"{rank()}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> tuple[Path, list[dict], str]:
    """The folder of a run on two processes, what each found, and what they printed."""
    folder = tmp_path_factory.mktemp("torchrun")
    said = torchrun(__file__, folder, WORLD)
    return folder, [json.loads((folder / f"{number}.json").read_text()) for number in range(WORLD)], said


@pytest.mark.parametrize("cell", cells(), ids=[f"{cell.recipe}-{cell.variant}" for cell in cells()])
@pytest.mark.slow
def test_two_processes_leave_the_record_of_one(cell, shared, tmp_path):
    link_tree(tmp_path)
    alone = Workspace(tmp_path, Config(device="cpu"))
    run_cell(alone, cell)
    ours, theirs = (cell.folder(results) for results in (shared[0] / "results", alone.results))
    one, two = (read_record(folder / "seed-0.json") for folder in (theirs, ours))
    assert (one.state, two.state) == ("ok", "ok")
    assert two.environment["processes"] == "2"
    assert "processes" not in one.environment
    curves = [
        [json.loads(line) for line in (f / "seed-0.curve.jsonl").read_text().splitlines()] for f in (theirs, ours)
    ]
    assert [line["epoch"] for line in curves[1]] == [line["epoch"] for line in curves[0]]
    # A probe's BatchNorm sees a process's own share.
    within = 0.05 if cell.variant == "umae-probe" else 1e-3
    losses = [[line["loss"] for line in curve] for curve in curves]
    assert losses[1] == pytest.approx(losses[0], rel=within)
    if cell.recipe == "pretrain":
        assert two.metrics["test_reconstruction"] == pytest.approx(one.metrics["test_reconstruction"], rel=1e-3)
        assert two.metrics["cls_effective_rank"] == pytest.approx(one.metrics["cls_effective_rank"], rel=0.02)


@pytest.mark.slow
def test_processes_agree_average_and_share(shared):
    _, (first, second), printed = shared
    for found in (first, second):
        assert found["refused"].startswith("contranorm/vision does not share its work among processes: run it without")
        assert found["broadcast"] == 0
        assert found["any"] == [True, False]
        assert found["averaged"] == [0.5, 4.0]
        assert found["odd"] == "a batch of 3 cannot be shared equally by 2 processes"
    assert (first["share"], second["share"]) == ([0, 2, 4], [1, 3, 5])
    assert printed.count("seed 0: ok") == len(cells()), "each run is measured and announced once"


def test_a_process_that_is_alone_keeps_what_it_has():
    step = nn.Linear(1, 1)
    assert parallel.ddp(step, 3) is step
    batch = torch.arange(3.0)
    assert parallel.shard(batch) is parallel.all_reduce_mean(batch) is batch
    assert parallel.is_main()
    assert parallel.broadcast("x") == "x"
    assert parallel.any_rank(True)


if __name__ == "__main__":
    share_of_the_work(Path(sys.argv[1]))
