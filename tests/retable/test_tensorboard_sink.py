from dataclasses import replace

import pytest

from retable.config import Workspace
from retable.plan import Cell
from retable.run import run_cell
from retable.tensorboard_sink import replay


def test_curves_and_metrics_are_in_event_files_written_once(workspace: Workspace, cell: Cell) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    (record,) = run_cell(workspace, replace(cell, seeds=(0,))).records.values()
    planned = replace(workspace, config=workspace.config.model_copy(update={"recipes": ["node-depth"]}))
    planned.__dict__["cells"] = [cell]
    assert replay(planned) == 1
    assert replay(planned) == 0
    (file,) = (workspace.results / "tensorboard").rglob("events.*")
    events = accumulator.EventAccumulator(str(file.parent)).Reload()
    for name, value in record.metrics.items():
        assert events.Scalars(f"metrics/{name}")[0].value == pytest.approx(value)
    assert [event.step for event in events.Scalars("loss")][-1] == 4
