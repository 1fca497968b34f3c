import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retable.cards import SCALES, CardError, load_datasets, load_papers
from retable.looks import load_looks
from retable.plan import Cell, plan
from retable.records import (
    Cost,
    RunRecord,
    load_published,
    load_records,
    parse_record,
    publish,
    published_path,
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


def line(of: RunRecord, **changes: Any) -> str:
    """A record's JSON in one line, with fields changed that its identity is not told of."""
    return json.dumps(of.model_dump(mode="json") | changes, sort_keys=True)


def write(path: Path, *lines: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join((text.encode() if isinstance(text, str) else text) + b"\n" for text in lines))
    return path


def the_trouble(results: Path) -> tuple[str, str]:
    """Where the only trouble is, and what it is; no record beside it is used."""
    loaded = load_records(results)
    assert loaded.records == []
    (trouble,) = loaded.troubles
    assert "\n" not in str(trouble)
    return trouble.where, trouble.what


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


# What is not what it says is a trouble, never a result ----------------------------------------------------------------

OTHER_FIELDS = {
    "settings": {"settings": {"depth": 2, "lr": 0.2}},
    "axes": {"axes": {"depth": 4}},
    "variant": {"variant": "other"},
    "scale": {"scale": "demo"},
}


@pytest.mark.parametrize("change", OTHER_FIELDS.values(), ids=OTHER_FIELDS)
def test_a_record_that_disagrees_with_its_identity_is_no_result(tmp_path: Path, change: dict) -> None:
    path = write(place(tmp_path, record()), line(record(), **change))
    where, what = the_trouble(tmp_path)
    assert where == str(path)
    assert f"names the cell {record().identity}, but its settings are those of " in what
    assert what.endswith("; delete it to measure again")


@pytest.mark.parametrize("change", OTHER_FIELDS.values(), ids=OTHER_FIELDS)
def test_a_published_record_that_disagrees_with_its_identity_is_no_result(tmp_path: Path, change: dict) -> None:
    path = write(published_path(tmp_path, record()), line(record(), **change))
    where, what = the_trouble(tmp_path)
    assert where == f"{path}:1"
    assert f"names the cell {record().identity}, but its settings are those of " in what
    assert what.endswith("; restore that line from git, or delete it and measure its seed again")


@pytest.mark.parametrize("other", [record(axes={"depth": 4}), record(seed=1)], ids=["cell", "seed"])
def test_a_record_in_the_place_of_another_is_no_result(tmp_path: Path, other: RunRecord) -> None:
    path = write(place(tmp_path, record()), line(other))
    belongs = place(Path(), other)
    what = f"holds the record of {belongs}; move it there, or delete it to measure again"
    assert the_trouble(tmp_path) == (str(path), what)


def test_a_published_line_in_another_file_is_no_result(tmp_path: Path) -> None:
    path = write(published_path(tmp_path, record()).with_name("node-depth-full-citeseer.jsonl"), line(record()))
    what = "belongs into published/contranorm/node-depth-full-cora.jsonl; move it there"
    assert the_trouble(tmp_path) == (f"{path}:1", what)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("field", ['"last_test_accuracy": ', '"wall_s": ', '"rank": [', '"lr": '])
def test_a_number_that_is_none_is_refused(tmp_path: Path, number: str, field: str) -> None:
    good = line(record(series={"rank": [1.0]}))
    before, after = good.split(field)
    end = min(after.index(mark) for mark in ",}]" if mark in after)
    write(published_path(tmp_path, record()), f"{before}{field}{number}{after[end:]}")
    assert "not a run record" in the_trouble(tmp_path)[1]


@pytest.mark.parametrize(
    "damaged", ["{", "", b"\xff\xfe", line(record(seed=1))[:-9]], ids=["open", "empty", "bytes", "cut"]
)
def test_a_damaged_line_costs_itself_only(tmp_path: Path, damaged: str | bytes) -> None:
    path = write(published_path(tmp_path, record()), line(record()), damaged, line(record(seed=2)))
    loaded = load_records(tmp_path)
    assert [r.seed for r in loaded.records] == [0, 2]
    assert [trouble.where for trouble in loaded.troubles] == [f"{path}:2"]


def test_what_is_no_text_is_a_trouble(tmp_path: Path) -> None:
    path = place(tmp_path, record())
    path.parent.mkdir(parents=True)
    path.write_bytes(line(record()).encode("utf-16"))
    assert the_trouble(tmp_path)[0] == str(path)


def test_a_file_that_cannot_be_read_costs_itself_only(tmp_path: Path) -> None:
    publish([record()], tmp_path)
    folder = published_path(tmp_path, record()).with_name("other.jsonl")
    folder.mkdir()
    loaded = load_records(tmp_path)
    assert [r.seed for r in loaded.records] == [0]
    assert [trouble.where for trouble in loaded.troubles] == [str(folder)]


def test_of_two_records_of_a_cell_and_seed_the_first_counts_and_the_other_is_named(tmp_path: Path) -> None:
    path = published_path(tmp_path, record())
    write(path, line(record()), line(record(metrics={"last_test_accuracy": 1.0})))
    loaded = load_records(tmp_path)
    assert loaded.records == [record()]
    assert [str(t) for t in loaded.troubles] == [
        f"{path}:2: the cell and seed of {path}:1 again; delete one of the two"
    ]


# Publishing -----------------------------------------------------------------------------------------------------------


def test_published_records_are_merged_and_give_way_to_local_ones(tmp_path: Path) -> None:
    publish([record(), record(seed=1)], tmp_path)
    (path,) = publish([record(seed=1, metrics={"last_test_accuracy": 80.0}), record(seed=2)], tmp_path)
    assert path == tmp_path / "published/contranorm/node-depth-full-cora.jsonl"
    loaded = {r.seed: r.metrics["last_test_accuracy"] for r in load_records(tmp_path).records}
    assert loaded == {0: 81.23456789012345, 1: 80.0, 2: 81.23456789012345}
    local = record(seed=2, metrics={"last_test_accuracy": 1.0})
    write_record(place(tmp_path, local), local)
    assert {r.seed: r.metrics["last_test_accuracy"] for r in load_records(tmp_path).records}[2] == 1.0


def test_a_failed_seed_is_published_until_a_finished_one_takes_its_place(tmp_path: Path) -> None:
    failed = record(state="failed", error="no", metrics={})
    publish([failed], tmp_path)
    assert load_published(tmp_path).records == [failed]
    publish([record()], tmp_path)
    assert load_published(tmp_path).records == [record()]
    publish([failed], tmp_path)
    assert load_published(tmp_path).records == [record()]


def test_a_record_of_other_settings_takes_the_place_of_its_row_and_seed(tmp_path: Path) -> None:
    tuned = record(settings={"depth": 2, "lr": 0.2})
    publish([record(), record(seed=1)], tmp_path)
    publish([tuned], tmp_path)
    assert load_published(tmp_path).records == [tuned, record(seed=1)]


@pytest.mark.parametrize("damaged", ["{", b"\xff", line(record())], ids=["open", "bytes", "twice"])
def test_a_file_with_a_damaged_line_is_not_published_into(tmp_path: Path, damaged: str | bytes) -> None:
    path = write(published_path(tmp_path, record()), line(record()), damaged)
    other = record(dataset="citeseer")
    before = path.read_bytes()
    with pytest.raises(CardError) as caught:
        publish([other, record(seed=1)], tmp_path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert not published_path(tmp_path, other).exists()
    # What is damaged elsewhere is in nobody's way.
    publish([other], tmp_path)
    assert published_path(tmp_path, other).exists()
    assert path.read_bytes() == before


def test_the_published_records_are_whole_and_of_planned_rows(root: Path) -> None:
    loaded = load_published(root / "results")
    assert loaded.troubles == []
    lines = [row for path in (root / "results/published").rglob("*.jsonl") for row in path.read_text().splitlines()]
    assert len(loaded.records) == len(lines) > 0
    papers, datasets = load_papers(root), load_datasets(root)
    cells = [cell for scale in SCALES for cell in plan(papers, datasets, scale)]
    looks = load_looks(root / "results", {})
    # A record of a protocol's earlier version stays until its row is measured again.
    rows = {_row(cell, seed) for cell in cells for seed in range(max(len(cell.seeds), looks.of(cell)[-1]))}
    assert {_row(record, record.seed) for record in loaded.records} <= rows
    planned = {cell.identity: cell.protocol for cell in cells}
    names = {protocol.rpartition(" v")[0] for protocol in planned.values()}
    assert {record.protocol.rpartition(" v")[0] for record in loaded.records} <= names
    assert any(record.identity in planned for record in loaded.records)


def _row(of: Cell | RunRecord, seed: int) -> tuple:
    return of.paper, of.recipe, of.scale, of.dataset, of.variant, json.dumps(of.axes, sort_keys=True), seed


# Files ----------------------------------------------------------------------------------------------------------------


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


def test_seeds_of_a_cell_share_what_they_have_in_common_and_are_still_checked():
    first, second = record(), record(seed=1, metrics={"last_test_accuracy": 80.0})
    read = parse_record(second.model_dump_json(), "x", parse_record(first.model_dump_json(), "x"))
    alone = parse_record(second.model_dump_json(), "x")
    assert read == alone
    other = record(settings={"depth": 2, "lr": 0.2})
    assert parse_record(other.model_dump_json(), "x", first).settings == other.settings
    # 1 is not 1.0: a record whose settings only look alike has another identity.
    like = record(settings={"depth": 2, "lr": 1})
    with pytest.raises(CardError, match="its settings are those of"):
        parse_record(record(settings={"depth": 2, "lr": 1.0}, identity=like.identity).model_dump_json(), "x", like)


def test_records_of_one_paper_are_read_without_the_others(tmp_path):
    for paper in ("contranorm", "gcl"):
        publish([record(paper=paper)], tmp_path)
    assert [one.paper for one in load_published(tmp_path, paper="gcl").records] == ["gcl"]
    assert len(load_published(tmp_path).records) == 2
