from pathlib import Path

import torch

from retable.train.checkpoint import load_states, save_state


def newest_state(folder: Path, fingerprint: str = "now") -> dict | None:
    return next((state for _, state in load_states(folder, {"fingerprint": fingerprint})), None)


def state(epoch: int, fingerprint: str = "now") -> dict:
    return {"fingerprint": fingerprint, "epoch": epoch, "parts": {"w": torch.arange(epoch)}}


def test_the_newest_state_comes_back(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        save_state(tmp_path, epoch, state(epoch))
    loaded = newest_state(tmp_path)
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
    assert newest_state(tmp_path)["epoch"] == 1
    newest.write_bytes(data[:50])
    assert newest_state(tmp_path)["epoch"] == 1


def test_a_state_of_other_sources_or_data_is_not_resumed(tmp_path: Path) -> None:
    save_state(tmp_path, 1, state(1, fingerprint="then"))
    assert newest_state(tmp_path) is None


def test_no_state_is_none(tmp_path: Path) -> None:
    assert newest_state(tmp_path / "absent") is None
