"""Our functions against stored arrays: every file that DIR/<paper>/index.csv lists (`--golden-root DIR`).

An index has the columns `file` and `kind`. The adapter of a kind, in adapters/<paper>.py under KINDS, takes
the file's arrays and yields what ours gives: (key, actual), compared with the array of that key, or
(key, actual, options) with `expected` in place of the array, `rtol` and `atol`. A kind without an adapter is
skipped by name.
"""

import csv
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

HERE = Path(__file__).parent
# |actual - expected| <= atol + rtol |expected|
TOLERANCE = {np.dtype("float64"): (1e-10, 1e-10), np.dtype("float32"): (1e-5, 1e-5)}

Arrays = dict[str, np.ndarray]
Adapter = Callable[[Arrays], Iterator[tuple]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    root = metafunc.config.getoption("--golden-root")
    cases = [
        pytest.param(
            index.parent.name,
            index.parent / row["file"],
            row["kind"],
            id=f"{index.parent.name}/{row['file']}",
        )
        for index in sorted(root.glob("*/index.csv"))
        for row in csv.DictReader(index.open(newline=""))
    ]
    if not cases:
        raise pytest.UsageError(f"--golden-root {root}: no <paper>/index.csv with files there")
    metafunc.parametrize(("paper", "path", "kind"), cases)


def test_golden(paper: str, path: Path, kind: str) -> None:
    adapter = _kinds(paper).get(kind)
    if adapter is None:
        pytest.skip(f"no adapter for kind {kind!r} of {paper}")
    with np.load(path) as stored:  # allow_pickle is off by default
        arrays = dict(stored)
    compared = 0
    for key, actual, *rest in adapter(arrays):
        options = dict(rest[0]) if rest else {}
        expected = _numpy(options.pop("expected", arrays.get(key)))
        if expected.dtype.kind == "f":
            atol, rtol = TOLERANCE[expected.dtype]
            options = {"atol": atol, "rtol": rtol} | options
        _compare(key, _numpy(actual), expected, **options)
        compared += 1
    assert compared, f"the adapter of {kind!r} compared nothing"


def _compare(key: str, actual: np.ndarray, expected: np.ndarray, atol: float = 0.0, rtol: float = 0.0) -> None:
    assert actual.shape == expected.shape, f"{key}: shape {actual.shape}, expected {expected.shape}"
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol, equal_nan=False, err_msg=key)


def _numpy(value: Any) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _kinds(paper: str) -> dict[str, Adapter]:
    path = HERE / "adapters" / f"{paper}.py"
    if not path.exists():
        return {}
    spec = importlib.util.spec_from_file_location(f"golden_adapters_{paper}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.KINDS
