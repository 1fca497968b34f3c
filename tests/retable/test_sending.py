"""Results are sent, checked, imported and shown apart; what was altered or cannot be believed is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from retable.cards import CardError
from retable.compare import compare
from retable.config import Workspace
from retable.currency import RecordStore
from retable.plan import Cell
from retable.records import publish
from retable.report import build_site
from retable.run import run_cell
from retable.sending import MANIFEST, Submission, _sha256, of_others, send, take_in, verify
from retable.whatif import explore


@pytest.fixture
def sent(workspace: Workspace, cell: Cell, tmp_path: Path) -> Path:
    run_cell(workspace, cell)
    lines = send(RecordStore.open(workspace), [cell], tmp_path / "sent", "Ada L.")
    assert "2 records of Ada-L" in lines[-1]
    return tmp_path / "sent"


def resign(folder: Path) -> None:
    """As a sender would who alters his own records: the hashes are right."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {name: _sha256(folder / name) for name in manifest["files"]}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def alter(folder: Path, change) -> None:
    (path,) = folder.glob("published/*/*.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        change(record)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_a_folder_is_sent_imported_and_shown_beside_ours_only(
    sent: Path, workspace: Workspace, cell: Cell, tmp_path: Path
) -> None:
    said = (sent / "README.md").read_text()
    assert "FILL IN" in said
    submission, records, doubts = verify(RecordStore.open(workspace), sent)
    assert (submission.sender, len(records), doubts) == ("Ada-L", 2, [])
    assert "results/others/Ada-L" in take_in(workspace, sent)[0]
    assert [record.seed for record in of_others(workspace.results)["Ada-L"]] == [0, 1]
    store = RecordStore.open(workspace)
    assert store.published.records == []
    index = build_site(workspace)
    page = (index.parent / "others.html").read_text()
    assert "Ada-L" in page
    assert 'href="others.html"' in index.read_text()
    pages = [path for path in index.parent.rglob("*.html") if path.name != "others.html"]
    assert not [path for path in pages if "Ada-L" in path.read_text()]
    text = "\n".join(compare(workspace, f"{cell.identity}@here", f"{cell.identity}@{sent}"))
    assert "equal to the last bit" in text
    with pytest.raises(CardError, match="is there already"):
        send(store, [cell], sent, None)
    with pytest.raises(CardError, match="explorations are not the paper's"):
        send(store, explore([cell], workspace.papers, {"lr": [0.5]}), tmp_path / "x", None)
    with pytest.raises(CardError, match="nothing to send"):
        send(store, [replace(cell, split="other")], tmp_path / "x", None)


def test_what_was_damaged_on_its_way_is_refused(sent: Path, workspace: Workspace) -> None:
    store = RecordStore.open(workspace)
    (path,) = sent.glob("published/*/*.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"seed": 1', b'"seed": 7'))
    with pytest.raises(CardError, match=r"is not what submission\.json says"):
        verify(store, sent)
    resign(sent)
    verify(store, sent)
    (path.parent / "more.jsonl").touch()
    with pytest.raises(CardError, match=r"is not in submission\.json"):
        verify(store, sent)
    (path.parent / "more.jsonl").unlink()
    (sent / MANIFEST).write_text('{"schema_version": 2}')
    with pytest.raises(CardError, match="schema_version"):
        verify(store, sent)
    (sent / MANIFEST).unlink()
    with pytest.raises(CardError, match=r"no submission\.json"):
        take_in(workspace, sent)
    assert not (workspace.results / "others").exists()


DOUBTS = {
    "is 140 %": lambda r: r["metrics"].update({"last_test_accuracy": 140.0}),
    "the data or its split changed": lambda r: r.update(data_sha256="f" * 64),
    "it ended before it began": lambda r: r.update(ended="2020-01-01T00:00:00+00:00"),
    "s passed between its start and its end": lambda r: r["cost"].update(wall_s=9e5),
    "the numbers and the cost of seed 0 again": lambda r: [r["metrics"].update(x=1.0), r["cost"].update(cpu_s=3.0)]
    and r.update(metrics=dict.fromkeys(r["metrics"], 50.0)),
}  # fmt: skip


@pytest.mark.parametrize("said", DOUBTS)
def test_what_cannot_be_believed_is_refused(said: str, sent: Path, workspace: Workspace) -> None:
    alter(sent, DOUBTS[said])
    resign(sent)
    _, _, doubts = verify(RecordStore.open(workspace), sent)
    assert any(said in line for line in doubts), doubts
    with pytest.raises(CardError, match="not imported: "):
        take_in(workspace, sent)
    assert not (workspace.results / "others").exists()


def test_far_too_fast_is_implausible(sent: Path, workspace: Workspace, cell: Cell) -> None:
    slow = [
        record.model_copy(update={"cost": record.cost.model_copy(update={"cpu_s": 1000.0})})
        for record in RecordStore.open(workspace).own.records
    ]
    for path in cell.folder(workspace.results).glob("seed-*.json"):
        path.unlink()
    publish(slow, workspace.results)
    _, _, doubts = verify(RecordStore.open(workspace), sent)
    assert "processor-seconds, where such runs took 1e+03" in doubts[0]


def test_an_identity_that_is_not_its_settings_is_refused(sent: Path, workspace: Workspace) -> None:
    alter(sent, lambda record: record["settings"].update(lr=9.0))
    resign(sent)
    with pytest.raises(CardError, match="its settings are those of"):
        verify(RecordStore.open(workspace), sent)


def test_a_sender_is_no_path() -> None:
    fields = {"made": "x", "retable": "1", "commit": None, "clean": None, "system": "x", "files": {}}
    for sender in ("../x", "", "a/b", ".hidden"):
        with pytest.raises(ValueError, match="sender"):
            Submission(sender=sender, **fields)
