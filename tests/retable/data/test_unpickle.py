import collections
import io
import os
import pickle
import struct
import subprocess
import tracemalloc

import numpy as np
import pytest
import scipy.sparse

from retable.data import unpickle
from retable.data.containers import DataError
from retable.data.unpickle import restricted_loads


class Calls:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


MATRIX = scipy.sparse.random(7, 5, density=0.4, format="csr", dtype=np.float32, random_state=0)


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.int32).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(5, dtype=">f4"),
        np.array([True, False]),
        np.zeros((0, 4)),
    ],
)
def test_arrays_come_back(array, protocol):
    got = restricted_loads(pickle.dumps(array, protocol), "file")
    np.testing.assert_array_equal(got, array)
    assert got.shape == array.shape
    assert got.dtype == array.dtype
    assert got.flags.writeable


def test_matrices_and_adjacency_lists_come_back():
    got = restricted_loads(pickle.dumps(MATRIX, 4), "file")
    assert (got != MATRIX).nnz == 0
    assert got.dtype == MATRIX.dtype
    lists = collections.defaultdict(list, {0: [1, 2], 1: [0], 2: [0, 0]})
    assert restricted_loads(pickle.dumps(lists, 2), "file") == lists


def test_names_of_python_2_and_old_libraries_are_known():
    lists = b"\x80\x02ccollections\ndefaultdict\nc__builtin__\nlist\n\x85RK\x00]K\x01as."
    assert restricted_loads(lists, "file") == {0: [1]}
    array = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02i4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x08\x01\x00\x00\x00\xff\xff\xff\xfftb."
    )
    assert restricted_loads(array, "file").tolist() == [1, -1]


MALICIOUS = {
    "os.system": Calls(os.system, "touch hacked"),
    "builtins.eval": Calls(eval, "open('hacked', 'w')"),
    "builtins.exec": Calls(exec, "open('hacked', 'w')"),
    "builtins.getattr": Calls(getattr, "text", "upper"),
    "builtins.__import__": Calls(__import__, "os"),
    "subprocess.Popen": Calls(subprocess.Popen, ["touch", "hacked"]),
    "io.open": Calls(io.open, "hacked", "w"),
    "numpy.save": Calls(np.save, "hacked", np.zeros(1)),
    "numpy.load": Calls(np.load, "hacked", None, True),
    "numpy.fromfile": Calls(np.fromfile, "/etc/passwd"),
    "pickle.loads": Calls(pickle.loads, b"."),
    "collections.OrderedDict": collections.OrderedDict(a=1),
}


@pytest.mark.parametrize("nesting", ["bare", "list", "mapping", "object array", "call argument"])
@pytest.mark.parametrize("name", MALICIOUS)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_other_names_are_refused_and_not_called(name, nesting, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = MALICIOUS[name]
    hidden = {
        "bare": evil,
        "list": [1, [evil]],
        "mapping": {0: {1: evil}},
        "object array": np.array([evil, None], dtype=object),
        "call argument": Calls(collections.defaultdict, None, {1: evil}),
    }[nesting]
    with pytest.raises(DataError, match=r"^file: refused by the restricted pickle reader: "):
        restricted_loads(pickle.dumps(hidden, protocol), "file")
    assert list(tmp_path.iterdir()) == []


def test_the_refused_name_is_in_the_message():
    with pytest.raises(DataError, match=r"asks for (posix|nt)\.system, which is not allowed"):
        restricted_loads(pickle.dumps(MALICIOUS["os.system"]), "file")


@pytest.mark.parametrize(
    "name", ["numpy.core.multiarray\n_reconstruct", "numpy\ndtype", "scipy.sparse.csr\ncsr_matrix"]
)
@pytest.mark.parametrize("state", [b"}U\x04evilK\x01s", b"}}U\x0c__setstate__K\x01s\x86"])
def test_record_classes_cannot_be_patched(name, state):
    before = {record: dict(vars(record)) for record in (unpickle._Array, unpickle._Dtype, unpickle._Csr)}
    with pytest.raises(DataError):
        restricted_loads(b"\x80\x02c" + name.encode() + b"\n" + state + b"b.", "file")
    assert {record: dict(vars(record)) for record in before} == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a pickle",
        pickle.dumps(np.arange(100), 4)[:-30],
        b"\x80\x02Pname\n.",
        b"\x80\x02" + b"\x82\x01.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
        b"\x80\x02" + b"(" * 10,
        b"\x80\x02cnumpy\nndarray\n.",
        b"\x80\x04\x8c\x03n\nm\x8c\x06system\x93.",
    ],
)
def test_broken_pickles_are_refused_in_one_line(data):
    with pytest.raises(DataError) as caught:
        restricted_loads(data, "file")
    assert "\n" not in str(caught.value)


def array_of(shape: bytes, raw: bytes) -> bytes:
    """A Python 2 pickle of an int32 array, its shape and content as the instructions given."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01"
        + shape
        + b"cnumpy\ndtype\nU\x02i4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89" + raw + b"tb."
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x80\x02Nr" + struct.pack("<I", 2**24) + b".", "a memo index of 16777216"),
        (b"Np16777216\n.", "a memo index of 16777216"),
        (b"\x80\x03B" + struct.pack("<I", 2**31) + b"x.", "only 2 remain"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.", "only 2 remain"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**31) + b"x.", "only 2 remain"),
        (array_of(b"K\x02\x85", b"J\x00\x00\x00\x7f"), "whose content is not bytes"),
        (b"\x80\x02cnumpy\ndtype\n)" + b"2\x86" * 40 + b"\x85R.", "arrays of type"),
        (array_of(b"U\x04abcdJ\x00\x00\x00\x01\x86", b"U\x08" + bytes(8)), "not a tuple of whole numbers"),
    ],
)
def test_a_small_file_is_never_answered_with_much_memory(data, said):
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=said):
            restricted_loads(data, "file")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", [object, "U5", "S5", "M8[s]", [("a", "i4")], complex])
def test_arrays_of_other_things_than_numbers_are_refused(dtype):
    with pytest.raises(DataError, match=r"only numbers|unknown byte order|not allowed"):
        restricted_loads(pickle.dumps(np.zeros(2, dtype=dtype), 4), "file")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("indices", [0, 5]),
        ("indices", [0, -1]),
        ("indptr", [0, 3, 2]),
        ("indptr", [0, 2]),
        ("indptr", [1, 1, 2]),
        ("data", [1.0]),
    ],
)
def test_a_matrix_whose_indices_do_not_fit_is_refused(part, value):
    matrix = scipy.sparse.csr_matrix(np.array([[1.0, 0, 0], [0, 2.0, 0]], dtype=np.float32))
    setattr(matrix, part, np.array(value, dtype=getattr(matrix, part).dtype))
    with pytest.raises(DataError, match="indices do not fit its shape"):
        restricted_loads(pickle.dumps(matrix, 4), "file")
