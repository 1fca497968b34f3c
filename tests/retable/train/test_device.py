import contextlib
from pathlib import Path

import pytest
import torch

from retable.cards import CardError
from retable.train.device import claim_device


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_auto_means_the_cpu_where_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with claim_device("auto", tmp_path) as device:
        assert device.type == "cpu"
    with pytest.raises(CardError, match="torch sees no GPU"), claim_device("cuda", tmp_path):
        pass


@pytest.mark.usefixtures("two_gpus")
def test_runs_side_by_side_get_different_gpus(tmp_path: Path) -> None:
    with claim_device("auto", tmp_path) as first:
        with claim_device("cuda", tmp_path) as second:
            assert {first.index, second.index} == {0, 1}
        with claim_device("auto", tmp_path) as third:
            assert third == second


@pytest.mark.usefixtures("two_gpus")
def test_runs_that_share_gpus_fill_them_evenly(tmp_path: Path) -> None:
    with contextlib.ExitStack() as held:
        devices = [held.enter_context(claim_device("cuda", tmp_path, runs_per_gpu=2)) for _ in range(4)]
        assert [device.index for device in devices] == [0, 1, 0, 1]


@pytest.mark.usefixtures("two_gpus")
def test_the_cpu_needs_no_lock(tmp_path: Path) -> None:
    with claim_device("cpu", tmp_path / "locks") as device:
        assert device.type == "cpu"
    assert not (tmp_path / "locks").exists()
