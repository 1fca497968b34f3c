"""The one place where a foreign pickle is read.

Planetoid's files are pickles of numpy arrays, scipy CSR matrices and adjacency lists. Nothing in them is
trusted: each class name that such a file may mention is answered with a passive record of this module, so no
numpy, scipy or other function ever runs with arguments from the file; any other name is refused. Arrays are
then built from the records' bytes; a matrix's indices are checked before scipy, whose C code trusts them,
sees them.
"""

import collections
import io
import pickle
import pickletools
import reprlib
from math import prod
from typing import Any

import numpy as np
import scipy.sparse

from retable.data.containers import DataError

_NUMERIC = {
    f"{kind}{size}" for kind, sizes in {"f": "248", "i": "1248", "u": "1248", "b": "1"}.items() for size in sizes
}

# What the C unpickler and the records below raise on bytes that are no sound pickle.
_BROKEN = (
    *(pickle.UnpicklingError, EOFError, ImportError, MemoryError, RecursionError),
    *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
)


class _Dtype:
    """Record of a numpy dtype. `__setstate__` also stops a file from patching the class: see _Restricted."""

    def __init__(self, code: str, *_flags: Any) -> None:
        if not isinstance(code, str) or code not in _NUMERIC:
            raise pickle.UnpicklingError(f"arrays of type {reprlib.repr(code)} are not read, only numbers")
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple) -> None:
        order = state[1]
        if not isinstance(order, str) or order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"unknown byte order {reprlib.repr(order)}")
        self.order = order

    def numpy(self) -> np.dtype:
        return np.dtype(self.order.replace("=", "<") + self.code)


class _Array:
    """Record of a numpy array: shape, type and raw bytes."""

    def __init__(self, *_prototype: Any) -> None:
        self.state: tuple | None = None

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def numpy(self) -> np.ndarray:
        if self.state is None:
            raise pickle.UnpicklingError("an array without content")
        _version, shape, dtype, column_major, raw = self.state
        kind = dtype.numpy()
        # `prod` would repeat a text in the shape, and `bytes` of a number makes as many zeros.
        if not (isinstance(shape, tuple) and all(type(length) is int for length in shape)):
            raise pickle.UnpicklingError("an array whose shape is not a tuple of whole numbers")
        if not isinstance(raw, str | bytes):
            raise pickle.UnpicklingError("an array whose content is not bytes")
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        if prod(shape) * kind.itemsize != len(data):
            raise pickle.UnpicklingError(f"an array of shape {shape} with {len(data)} bytes")
        return np.frombuffer(data, kind).reshape(shape, order="F" if column_major else "C").copy()


class _Csr:
    """Record of a scipy CSR matrix."""

    def __setstate__(self, state: dict) -> None:
        self.state = state

    def scipy(self) -> scipy.sparse.csr_matrix:
        rows, columns = self.state["_shape"]
        data, indices, indptr = (self.state[key].numpy() for key in ("data", "indices", "indptr"))
        sound = (
            data.ndim == indices.ndim == indptr.ndim == 1
            and indices.dtype.kind == indptr.dtype.kind == "i"
            and len(data) == len(indices)
            and len(indptr) == rows + 1
            and indptr[0] == 0
            and indptr[-1] == len(data)
            and (np.diff(indptr) >= 0).all()
            and (len(indices) == 0 or (indices.min() >= 0 and indices.max() < columns))
        )
        if not sound:
            raise pickle.UnpicklingError("a CSR matrix whose indices do not fit its shape")
        return scipy.sparse.csr_matrix((data, indices, indptr), shape=(rows, columns))


# Module paths of Python 2 and 3, of numpy before and after 2.0, of scipy before and after 1.8.
_ALLOWED: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("scipy.sparse.csr", "csr_matrix"): _Csr,
    ("scipy.sparse._csr", "csr_matrix"): _Csr,
    ("collections", "defaultdict"): collections.defaultdict,
    ("__builtin__", "list"): list,
    ("builtins", "list"): list,
}


class _Restricted(pickle.Unpickler):
    """An unpickler that knows nine names.

    A BUILD instruction aimed at a class instead of an instance would set attributes on it; every record class
    has a `__setstate__`, which fails when it is called on the class, and built-in classes cannot be changed.
    """

    def find_class(self, module: str, name: str) -> type:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, which is not allowed") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("the pickle refers to objects outside of it, which is not allowed")


def _check_memo(data: bytes) -> None:
    """Refuse a memo index that the file is too short to need: the C unpickler allocates 16 bytes for each below it."""
    for opcode, index, _position in pickletools.genops(data):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(index, int) and index >= len(data):
            raise pickle.UnpicklingError(f"a memo index of {index} in {len(data)} bytes")


def restricted_loads(data: bytes, source: str) -> Any:
    """Read a pickled array, CSR matrix, or plain container of numbers and strings.

    `source` names the file in the DataError that anything else raises. Python 2 strings are read as Latin-1,
    which maps bytes one to one.
    """
    try:
        _check_memo(data)
        value = _Restricted(io.BytesIO(data), encoding="latin1").load()
        if isinstance(value, _Array):
            return value.numpy()
        if isinstance(value, _Csr):
            return value.scipy()
    except _BROKEN as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{source}: refused by the restricted pickle reader: {reason}") from None
    if isinstance(value, (dict, list, tuple, str, bytes, int, float, type(None))):
        return value
    raise DataError(f"{source}: refused by the restricted pickle reader: holds neither an array nor a container")
