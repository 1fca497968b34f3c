import subprocess
import sys
from pathlib import Path

import pytest

from retable.cards import CardError
from retable.records import (
    Cost,
    RunRecord,
    load_records,
    publish,
    read_record,
    write_atomically,
    write_record,
)


def record(**changes) -> RunRecord:
    fields = {
        "paper": "contranorm", "recipe": "node-depth", "dataset": "cora",
        "split": "public-rest", "variant": "none", "axes": {"depth": 2}, "settings": {"depth": 2, "lr": 0.1},
        "scale": "full", "protocol": "last-epoch v1", "seed": 0, "state": "ok",
        "metrics": {"last_test_accuracy": 81.23456789012345}, "source_sha256": "a", "data_sha256": "b",
        "split_sha256": "c", "cost": Cost(wall_s=1.0, cpu_s=1.0, peak_memory_bytes=1), "environment": {},
        "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:00:01+00:00",
    }  # fmt: skip
    draft = RunRecord(**{"identity": "", **fields, **changes})
    return draft.model_copy(update={"identity": changes.get("identity", draft.cell.identity)})


def place(results: Path, of: RunRecord) -> Path:
    return of.cell.folder(results) / f"seed-{of.seed}.json"


def test_a_record_survives_the_round_trip_at_full_precision(tmp_path: Path) -> None:
    path = place(tmp_path, record())
    write_record(path, record())
    assert read_record(path) == record()


def test_a_damaged_record_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "seed-0.json").write_text('{"schema_version": 1')
    with pytest.raises(CardError, match=r"seed-0\.json: not a run record .*measure again") as caught:
        read_record(tmp_path / "seed-0.json")
    assert "\n" not in str(caught.value)


def test_a_record_of_another_schema_is_refused(tmp_path: Path) -> None:
    write_record(tmp_path / "a.json", record())
    text = (tmp_path / "a.json").read_text().replace('"schema_version": 1', '"schema_version": 2')
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CardError, match="schema_version"):
        read_record(tmp_path / "a.json")


def test_published_records_are_merged_and_give_way_to_local_ones(tmp_path: Path) -> None:
    publish([record(), record(seed=1)], tmp_path)
    (path,) = publish([record(seed=1, metrics={"last_test_accuracy": 80.0}), record(seed=2)], tmp_path)
    assert path == tmp_path / "published/contranorm/node-depth-full-cora.jsonl"
    loaded = {r.seed: r.metrics["last_test_accuracy"] for r in load_records(tmp_path).records}
    assert loaded == {0: 81.23456789012345, 1: 80.0, 2: 81.23456789012345}
    local = record(seed=2, metrics={"last_test_accuracy": 1.0})
    write_record(place(tmp_path, local), local)
    assert {r.seed: r.metrics["last_test_accuracy"] for r in load_records(tmp_path).records}[2] == 1.0


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "file", b"data")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    script = (
        "import resource, signal, sys; from pathlib import Path; from retable.records import write_atomically;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        f"write_atomically(Path({str(path)!r}), b'x' * 5000)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "OSError" in done.stderr
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
