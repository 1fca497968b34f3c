import hashlib
from pathlib import Path

import pytest
import torch

from retable.train.checkpoint import load_states, save_state

OWNER = {"cell": "0123456789ab", "seed": 0, "fingerprint": "now"}


def newest_state(folder: Path) -> dict | None:
    return next((state for _, state in load_states(folder, OWNER)), None)


def state(epoch: int, **owner) -> dict:
    return {**OWNER, **owner, "epoch": epoch, "parts": {"w": torch.arange(epoch)}}


def test_the_newest_state_comes_back(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        save_state(tmp_path, epoch, state(epoch))
    loaded = newest_state(tmp_path)
    assert loaded is not None
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["parts"]["w"], torch.arange(3))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_state_gives_way_to_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save_state(tmp_path, 1, state(1))
    newest = save_state(tmp_path, 2, state(2))
    data = bytearray(newest.read_bytes())
    data[-20] ^= 1
    newest.write_bytes(data)
    assert newest_state(tmp_path)["epoch"] == 1
    newest.write_bytes(data[:50])
    assert newest_state(tmp_path)["epoch"] == 1
    assert capsys.readouterr().err == f"{newest}: not resumed from, it is damaged\n" * 2


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        ({"fingerprint": "then"}, "it is of another code or data"),
        ({"cell": "ba9876543210"}, "it is of another cell"),
        ({"seed": 1}, "it is of another seed"),
        ({"cell": "ba9876543210", "seed": 1, "fingerprint": "then"}, "it is of another cell and seed"),
    ],
    ids=["code", "cell", "seed", "all"],
)
def test_a_state_of_another_run_gives_way_to_the_one_before(
    owner: dict, words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    save_state(tmp_path, 1, state(1))
    newest = save_state(tmp_path, 2, state(2, **owner))
    assert newest_state(tmp_path)["epoch"] == 1
    assert capsys.readouterr().err == f"{newest}: not resumed from, {words}\n"


@pytest.mark.parametrize("payload", [b"no archive", b""], ids=["foreign", "empty"])
def test_what_torch_cannot_read_gives_way_though_its_hash_matches(
    payload: bytes, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    save_state(tmp_path, 1, state(1))
    newest = tmp_path / "state-000000002.pt"
    newest.write_bytes(hashlib.sha256(payload).hexdigest().encode() + payload)
    assert newest_state(tmp_path)["epoch"] == 1
    assert f"{newest}: not resumed from, torch cannot read it (" in capsys.readouterr().err


def test_a_file_that_holds_something_else_gives_way(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    newest = save_state(tmp_path, 2, [1, 2])  # type: ignore[arg-type]
    assert newest_state(tmp_path) is None
    assert capsys.readouterr().err == f"{newest}: not resumed from, it holds no state\n"


def test_no_state_is_none(tmp_path: Path) -> None:
    assert newest_state(tmp_path / "absent") is None
