"""The adapters of the graph-contrastive arrays look at every array of this folder, and need no optional output."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
FILES = list(csv.DictReader((HERE / "gcl" / "index.csv").open(newline="")))
# How many anchors the authors take at once: it changes no number.
UNUSED = {"batch_size"}


def adapters() -> tuple[dict, dict]:
    spec = importlib.util.spec_from_file_location("gcl_adapters", HERE / "adapters" / "gcl.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ADAPTERS, module.KINDS


class Watched(dict):
    """Arrays that note which of them were read."""

    def __init__(self, arrays) -> None:
        super().__init__(arrays)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> np.ndarray:
        self.read.add(key)
        return super().__getitem__(key)

    def items(self):
        return [(key, self[key]) for key in self]


@pytest.mark.parametrize("row", FILES, ids=[row["kind"] for row in FILES])
def test_every_stored_array_is_an_input_or_compared(row):
    arrays = Watched(np.load(HERE / "gcl" / row["file"]))
    compared = {key for key, *rest in adapters()[0][row["kind"]](arrays) if "expected" not in dict(*rest[1:])}
    assert compared - set(arrays) == set()
    assert set(arrays) - arrays.read - compared <= UNUSED


@pytest.mark.parametrize("row", FILES, ids=[row["kind"] for row in FILES])
def test_outputs_that_a_file_leaves_out_are_left_out(row):
    arrays = Watched(np.load(HERE / "gcl" / row["file"]))
    raw, kept = (kinds[row["kind"]] for kinds in adapters())
    outputs = [key for key, *_ in raw(arrays) if key in arrays and key not in arrays.read]
    gone = set(outputs[::2])
    compared = {key for key, *_ in kept({key: array for key, array in arrays.items() if key not in gone})}
    assert compared & set(outputs)
    assert not compared & gone
