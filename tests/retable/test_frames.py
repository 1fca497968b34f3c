"""Records, rows and verdicts as pandas frames."""

import re
from pathlib import Path

import pandas
import pytest

import retable
from retable.frames import (
    RECORD_COLUMNS,
    ROW_COLUMNS,
    VERDICT_COLUMNS,
    load,
    records_frame,
    rows_frame,
    verdict_lines,
    verdicts_frame,
)
from retable.frames import _rows as row_lines

VALUES = [80.0, 80.1, 79.9, 80.05, 79.95]


def test_a_line_a_metric_of_a_seed_with_the_reason_why_it_is_stale(world):
    world.measure(world.cell("plain", depth=2), VALUES)
    world.measure(world.cell("plain", depth=4), [1.0], state="failed", error="no memory", metrics={})
    frame = records_frame((record, "old" if record.seed == 3 else None) for record in world.records)
    assert list(frame.columns) == list(RECORD_COLUMNS)
    assert len(frame) == 2 * 5 + 1
    assert frame[frame.metric == "accuracy"].value.tolist() == VALUES
    assert set(frame[frame.reason == "old"].seed) == {3}
    assert frame[frame.state == "failed"].value.isna().all()


def test_rows_have_mean_interval_and_state(world):
    world.measure(world.cell("plain", depth=2), VALUES)
    frame = rows_frame(row_lines(world.assess("full"), {"cora": world.dataset}))
    assert list(frame.columns) == list(ROW_COLUMNS)
    (row,) = frame[(frame.state == "measured") & (frame.metric == "accuracy")].itertuples()
    assert (row.dataset, row.method, row.n, row.low < row.mean < row.high) == ("Cora", "plain", 5, True)
    assert set(frame[frame.state != "measured"].state) == {"not run"}


def test_verdicts_are_numbers_orderings_and_statements(world):
    world.claim("plain", 2, 80.1)
    world.measure(world.cell("plain", depth=2), VALUES)
    frame = verdicts_frame(verdict_lines(world.assess("full", "demo"), {"cora": world.dataset}))
    assert list(frame.columns) == list(VERDICT_COLUMNS)
    assert frame.groupby("kind").size().to_dict() == {"number": 2, "ordering": 3, "statement": 2}


def test_load_is_a_name_of_the_package_that_imports_nothing_before():
    assert retable.load is load
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        _ = retable.lode


def test_the_documented_example_runs_and_its_columns_are_those_that_stay(root, monkeypatch, capsys):
    text = (Path(root) / "docs" / "frames.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(example.strip().splitlines()) == 10
    monkeypatch.chdir(root)
    known = {}
    exec(example, known)
    assert isinstance(known["frames"].records, pandas.DataFrame)
    assert capsys.readouterr().out.strip()
    for columns in (RECORD_COLUMNS, ROW_COLUMNS, VERDICT_COLUMNS):
        for name in columns:
            assert f"`{name}`" in text, name
