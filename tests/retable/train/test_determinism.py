import os
from collections.abc import Iterator

import numpy  # noqa: F401  its BLAS is one of the pools
import pytest
import scipy.linalg  # noqa: F401  and so is this one
import torch
from threadpoolctl import threadpool_info

from retable.train.determinism import POOLS, make_deterministic, threads


def pools() -> dict[str, int]:
    return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}


@pytest.fixture
def two_threads() -> Iterator[dict[str, int]]:
    """What every pool has inside a block of two threads, so that one thread is fewer on any machine."""
    with threads(2):
        yield pools()


def test_a_number_of_threads_holds_for_every_pool_and_ends_with_the_block(two_threads: dict[str, int]) -> None:
    assert len(two_threads) >= 3  # torch's OpenMP, numpy's and scipy's BLAS
    assert set(two_threads.values()) == {2}
    with threads(1):
        assert set(pools().values()) == {1}
        assert torch.get_num_threads() == 1
    assert pools() == two_threads
    assert torch.get_num_threads() == 2


def test_pools_that_are_loaded_later_are_told_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(POOLS[0], "7")
    monkeypatch.delenv(POOLS[1], raising=False)
    with threads(1):
        assert [os.environ[name] for name in POOLS] == ["1"] * len(POOLS)
    assert os.environ[POOLS[0]] == "7"
    assert POOLS[1] not in os.environ


def test_the_threads_come_back_after_an_error() -> None:
    before = pools(), torch.get_num_threads()

    def fails() -> None:
        with threads(3):
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert (pools(), torch.get_num_threads()) == before


def test_operations_without_a_deterministic_form_are_refused_on_the_processor() -> None:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        torch.use_deterministic_algorithms(False)
        assert make_deterministic(torch.device("cpu")).startswith("bitwise")
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
