import contextlib
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest
import torch

from retable import devices
from retable.cards import CardError
from retable.devices import claim_device, lock_folder
from retable.train.context import StopRequest


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """Gives a process the GPUs of these names, numbered from 0 as CUDA_VISIBLE_DEVICES does."""

    def see(*uuids: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(uuids))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: types.SimpleNamespace(uuid=uuids[index]))

    see("a", "b")
    monkeypatch.setattr(devices, "POLL_SECONDS", 0.02)
    return see


def test_auto_means_the_cpu_where_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with claim_device("auto", locks=tmp_path) as device:
        assert device.type == "cpu"
    with pytest.raises(CardError, match="torch sees no GPU"), claim_device("cuda", locks=tmp_path):
        pass


@pytest.mark.usefixtures("gpus")
def test_runs_side_by_side_get_different_gpus(tmp_path: Path) -> None:
    with claim_device("auto", locks=tmp_path) as first:
        with claim_device("cuda", locks=tmp_path) as second:
            assert {first.index, second.index} == {0, 1}
        with claim_device("auto", locks=tmp_path) as third:
            assert third == second


@pytest.mark.usefixtures("gpus")
def test_runs_that_share_gpus_fill_them_evenly(tmp_path: Path) -> None:
    with contextlib.ExitStack() as held:
        found = [held.enter_context(claim_device("cuda", 2, locks=tmp_path)) for _ in range(4)]
        assert [device.index for device in found] == [0, 1, 0, 1]


@pytest.mark.usefixtures("gpus")
def test_the_cpu_needs_no_lock(tmp_path: Path) -> None:
    with claim_device("cpu", locks=tmp_path / "locks") as device:
        assert device.type == "cpu"
    assert not (tmp_path / "locks").exists()


def test_jobs_that_see_one_gpu_each_do_not_wait_for_each_other(gpus, tmp_path: Path) -> None:
    # As on a cluster: each job's GPU has the number 0.
    with contextlib.ExitStack() as held:
        for uuid in "abcd":
            gpus(uuid)
            assert held.enter_context(claim_device("cuda", locks=tmp_path)).index == 0
    assert len(list(tmp_path.iterdir())) == 4


def test_runs_inside_an_allocation_share_its_gpus_whatever_numbers_these_have(gpus, tmp_path: Path) -> None:
    gpus("a", "b", "c", "d")
    with contextlib.ExitStack() as held:
        for index in range(3):
            assert held.enter_context(claim_device("cuda", locks=tmp_path)).index == index
        gpus("d", "c", "b", "a")  # another process, to which they are named in another order
        assert held.enter_context(claim_device("cuda", locks=tmp_path)).index == 0


def test_a_machine_that_shares_its_temporary_folder_has_locks_of_its_own(gpus, tmp_path, monkeypatch) -> None:
    gpus("a")
    with contextlib.ExitStack() as held:
        for host in ("one.cluster", "two.cluster"):
            monkeypatch.setattr(devices.socket, "gethostname", lambda host=host: host)
            held.enter_context(claim_device("cuda", locks=tmp_path))


@pytest.mark.usefixtures("gpus")
def test_a_run_waits_for_the_first_of_all_places_that_frees(tmp_path: Path, capsys) -> None:
    # The second GPU's place comes free, not the first one's.
    first, second = claim_device("cuda", locks=tmp_path), claim_device("cuda", locks=tmp_path)
    with first:
        second.__enter__()
        got = []

        def third() -> None:
            with claim_device("cuda", locks=tmp_path) as device:
                got.append(device.index)

        waiting = threading.Thread(target=third)
        waiting.start()
        waiting.join(0.2)
        assert got == []
        second.__exit__(None, None, None)
        waiting.join(5)
        assert got == [1]
    assert capsys.readouterr().out.count("all 2 places on 2 GPUs are held") == 1


@pytest.mark.usefixtures("gpus")
def test_a_stop_ends_the_wait(tmp_path: Path) -> None:
    stop = StopRequest()
    stop.signal = 15
    with claim_device("cuda", locks=tmp_path), claim_device("cuda", locks=tmp_path):  # noqa: SIM117
        with pytest.raises(SystemExit) as ended, claim_device("cuda", 1, stop, tmp_path):
            pass
    assert ended.value.code == 143


def test_the_lock_of_a_killed_process_is_free_and_lies_on_the_machine_itself(gpus, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    gpus("a")
    with claim_device("cuda"):
        (path,) = lock_folder().iterdir()
    assert path.is_relative_to(tmp_path)
    code = "import os, sys; from filelock import FileLock; FileLock(sys.argv[1]).acquire(); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
    with claim_device("cuda") as device:
        assert device.index == 0
