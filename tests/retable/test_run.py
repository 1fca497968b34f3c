import dataclasses
import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from methods.contranorm import run as method
from retable.cards import CardError
from retable.checkout import running_tree
from retable.config import Workspace
from retable.currency import RecordStore
from retable.plan import Cell, find_cell
from retable.records import load_records, read_record
from retable.run import make_context, out_of_memory, peak_bytes, run_cell
from retable.train.context import Context, Result


def is_current(workspace: Workspace, path: Path) -> bool:
    return RecordStore.open(workspace).currency.reason(read_record(path)) is None


def test_a_finished_seed_is_not_measured_again(
    workspace: Workspace, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_cell(workspace, cell).folder
    before = (folder / "seed-0.json").read_bytes()
    monkeypatch.setattr(method.NodeClassification, "train", lambda *_: pytest.fail("measured again"))
    run_cell(workspace, cell)
    assert (folder / "seed-0.json").read_bytes() == before


def test_a_record_of_other_sources_is_measured_again(workspace: Workspace, cell: Cell) -> None:
    path = run_cell(workspace, cell).folder / "seed-0.json"
    record = read_record(path)
    assert is_current(workspace, path)
    path.write_text(path.read_text().replace(record.source_sha256, "0" * 64))
    assert not is_current(workspace, path)
    run_cell(workspace, cell)
    assert is_current(workspace, path)


def test_the_code_is_named_as_it_was_before_the_run(
    workspace: Workspace, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git may be ended by the stop that ends the run, and its answer is another one once files are edited."""
    running_tree.cache_clear()
    train, known = method.NodeClassification.train, []

    def asked_already(*given: object) -> object:
        known.append(running_tree.cache_info().currsize)
        return train(*given)

    monkeypatch.setattr(method.NodeClassification, "train", asked_already)
    run_cell(workspace, cell, seeds=[0])
    assert known == [1]


def test_a_loss_that_is_no_number_makes_a_record_and_the_next_seed_goes_on(
    workspace: Workspace, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = method.Task.loss

    def loss(self: method.Task, model: torch.nn.Module) -> torch.Tensor:
        return original(self, model) * (float("nan") if torch.initial_seed() == second_epoch else 1.0)

    monkeypatch.setattr(method.Task, "loss", loss)
    context = Context.__new__(Context)
    context.seed = 0
    second_epoch = context.derive("epoch", 2)
    folder = run_cell(workspace, cell).folder
    diverged, other = (read_record(folder / f"seed-{seed}.json") for seed in (0, 1))
    assert diverged.state == "diverged"
    assert diverged.error == "loss is nan at epoch 2 (lr 0.005, seed 0)"
    assert diverged.metrics == {}
    assert other.state == "ok"


def test_an_exception_makes_a_failed_record_that_the_next_call_tries_again(
    workspace: Workspace, cell: Cell, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(method, "make_model", lambda *_: (_ for _ in ()).throw(ValueError("no\nsuch layer")))
        folder = run_cell(workspace, cell).folder
    record = read_record(folder / "seed-0.json")
    assert (record.state, record.error) == ("failed", "ValueError: no such layer")
    assert "Traceback" in capfd.readouterr().err
    run_cell(workspace, cell)
    assert read_record(folder / "seed-0.json").state == "ok"


def test_a_full_disk_leaves_no_record(workspace: Workspace, cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run_cell(workspace, cell)
    monkeypatch.undo()
    left = [path for path in workspace.results.rglob("*") if path.is_file()]
    assert not [path for path in left if path.suffix not in (".jsonl", ".lock")]


def test_an_unknown_identity_gets_one_line(workspace: Workspace) -> None:
    with pytest.raises(CardError, match="0 planned cells have an identity that begins with 'zz'"):
        find_cell(workspace.cells, "zz")


def test_pictures_lie_beside_the_record_and_a_new_run_replaces_them(
    workspace: Workspace, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, pixels = method.NodeClassification.measure, np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    names = ["before", "after"]

    def measure(self: method.NodeClassification) -> Result:
        measured = original(self)
        self.context.picture(names.pop(0), pixels, "A caption\nof two lines.")
        return measured

    monkeypatch.setattr(method.NodeClassification, "measure", measure)
    cell = dataclasses.replace(cell, seeds=(0,))
    folder = run_cell(workspace, cell).folder
    assert np.array_equal(np.asarray(Image.open(folder / "seed-0.before.png")), pixels)
    entry = {"name": "before", "caption": "A caption\nof two lines.", "width": 4, "height": 2}
    assert json.loads((folder / "seed-0.pictures.jsonl").read_text()) == entry
    (folder / "seed-0.json").unlink()
    run_cell(workspace, cell)
    assert [path.name for path in folder.glob("*.png")] == ["seed-0.after.png"]
    assert [record.seed for record in load_records(workspace.results).records] == [0]


@pytest.mark.parametrize(
    ("name", "pixels", "words"),
    [
        ("../up", np.zeros((2, 2, 3), np.uint8), "lower-case letters"),
        ("fine", np.zeros((2, 2, 3), np.float32), "expected uint8"),
        ("fine", np.zeros((3, 2, 2), np.uint8), "expected uint8"),
    ],
)
def test_what_is_no_picture_gets_one_line(
    workspace: Workspace, cell: Cell, name: str, pixels: np.ndarray, words: str
) -> None:
    context = make_context(workspace, cell, 0, torch.device("cpu"))
    with pytest.raises(ValueError, match=words):
        context.picture(name, pixels, "")


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_in_the_platforms_unit(platform: str, unit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    monkeypatch.setattr("sys.platform", platform)
    assert peak_bytes(used) == used.ru_maxrss * unit


# Out of memory


GPU_SAYS = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.80 GiB."


@pytest.mark.parametrize(
    ("problem", "runs", "said"),
    [
        (torch.OutOfMemoryError(GPU_SAYS), 1, "out of GPU memory when 2.00 GiB more were asked for; lower batch_size"),
        (torch.OutOfMemoryError(GPU_SAYS), 4, "lower runs_per_gpu (now 4) or batch_size (now 128)"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."),
            1,
            "out of memory",
        ),
        (MemoryError(), 1, "out of memory; lower batch_size (now 128)"),
        (RuntimeError("shapes do not fit"), 1, None),
    ],
)
def test_out_of_memory_is_one_line_that_says_what_to_lower(cell, problem, runs, said):
    cell = dataclasses.replace(cell, settings=cell.settings | {"batch_size": 128, "probe_block": 1})
    found = out_of_memory(problem, cell, runs)
    assert found is None if said is None else said in found
    assert found is None or "\n" not in found


def test_a_seed_without_memory_is_a_failed_record_and_where_nothing_is_to_lower_a_larger_machine_is_named(
    workspace, cell, monkeypatch
):
    def no_memory(*_):
        raise torch.OutOfMemoryError(GPU_SAYS)

    monkeypatch.setattr("retable.run.measure", no_memory)
    record = run_cell(workspace, dataclasses.replace(cell, seeds=(0,))).records[0]
    assert record.state == "failed"
    assert record.error == ("out of GPU memory when 2.00 GiB more were asked for; take a machine that has more")
