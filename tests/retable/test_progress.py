import dataclasses
import os
import time
from pathlib import Path

import pytest

from retable.bundles import Bundle
from retable.currency import RecordStore
from retable.progress import Progress, duration, reasons


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (400, "7 min"), (7199, "120 min"), (7200, "2 h"), (86400, "24 h")],
)
def test_a_duration_is_said_for_people(seconds, said):
    assert duration(seconds) == said


def test_the_time_left_is_by_the_pace_so_far(workspace):
    first, second = workspace.__dict__["cells"] = workspace.cells[:2]
    bundles = [
        Bundle.of("contranorm", [(first, 0), (first, 1)], 20.0),
        Bundle.of("contranorm", [(second, 0)], 70.0),
    ]
    progress = Progress(workspace, RecordStore.open(workspace), bundles)
    assert progress.line() == "retable: 0 of 3 seeds"
    progress.started = time.time() - 30
    for seed in (0, 1):
        path = first.folder(workspace.results) / f"seed-{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    # 20 of 90 seconds' work in 30 seconds
    assert progress.line() == "retable: 2 of 3 seeds, about 105 s left"
    # A record of an earlier run counts as left.
    os.utime(path, (1, 1))
    assert progress.line().startswith("retable: 1 of 3 seeds, about ")


def test_a_run_is_watched_until_no_seed_is_left(workspace, monkeypatch, capsys):
    (cell,) = workspace.__dict__["cells"] = [dataclasses.replace(workspace.cells[0], seeds=(0, 1))]
    progress = Progress(workspace, RecordStore.open(workspace), [Bundle.of("contranorm", [(cell, 0), (cell, 1)], 20.0)])
    paths = [cell.folder(workspace.results) / f"seed-{seed}.json" for seed in (1, 0)]
    paths[0].parent.mkdir(parents=True)
    monkeypatch.setattr("retable.progress.time.sleep", lambda seconds: paths.pop().touch())
    progress.started -= 10
    progress.watch()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"retable: {number} of 2 seeds" for number in (0, 1, 2)]
    assert "about" in lines[1]


def test_reasons_are_the_lines_of_this_run_each_once(tmp_path: Path):
    for name, text in {
        "download/a.log": "x\nretable: a: no network\n",
        "download/b.log": "retable: a: no network\nTraceback\nretable: more\n",
        "tries/download/a.log": "retable: earlier\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert reasons(tmp_path, time.time() - 60) == ["retable: a: no network", "retable: more"]
    assert reasons(tmp_path, time.time() + 60) == []
    assert reasons(tmp_path / "none", 0) == []
