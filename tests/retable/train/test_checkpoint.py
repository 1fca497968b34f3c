from pathlib import Path

import torch

from retable.train.checkpoint import load_state, save_state


def state(epoch: int, fingerprint: str = "now") -> dict:
    return {"fingerprint": fingerprint, "epoch": epoch, "parts": {"w": torch.arange(epoch)}}


def test_the_newest_state_comes_back(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        save_state(tmp_path, epoch, state(epoch))
    loaded = load_state(tmp_path, "now")
    assert loaded is not None
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["parts"]["w"], torch.arange(3))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_state_gives_way_to_the_one_before(tmp_path: Path) -> None:
    save_state(tmp_path, 1, state(1))
    newest = save_state(tmp_path, 2, state(2))
    data = bytearray(newest.read_bytes())
    data[-20] ^= 1
    newest.write_bytes(data)
    assert load_state(tmp_path, "now")["epoch"] == 1
    newest.write_bytes(data[:50])
    assert load_state(tmp_path, "now")["epoch"] == 1


def test_a_state_of_other_sources_or_data_is_not_resumed(tmp_path: Path) -> None:
    save_state(tmp_path, 1, state(1, fingerprint="then"))
    assert load_state(tmp_path, "now") is None


def test_no_state_is_none(tmp_path: Path) -> None:
    assert load_state(tmp_path / "absent", "now") is None
