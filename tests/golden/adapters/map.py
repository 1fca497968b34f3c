"""Adapters of MAP's arrays; see ../test_golden.py."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from methods.map.canonize import Precision, canonize_basis, canonize_signs, projection_lengths
from methods.map.encoding import encode, normalised_adjacency, spectrum
from methods.map.transform import CanonicalEncoding

Arrays = dict[str, np.ndarray]

EXACT = Precision(exact=True)
DOUBLE = {"rtol": 1e-9, "atol": 1e-9}


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).double()


def signs(vectors: Tensor) -> Tensor:
    return canonize_signs(vectors, EXACT)[0]


def cases(arrays: Arrays, prefix: str) -> list[str]:
    return sorted(key.removeprefix(prefix) for key in arrays if key.startswith(prefix))


def sign(arrays: Arrays) -> Iterator[tuple]:
    for case in cases(arrays, "U_"):
        vectors = tensor(arrays[f"U_{case}"])
        yield f"out_{case}", signs(vectors), DOUBLE
        if f"out_perm_{case}" in arrays:
            perm = tensor(arrays[f"perm_{case}"])
            yield f"out_perm_{case}", signs(perm @ vectors * tensor(arrays[f"signs_{case}"])), DOUBLE
            yield f"out_perm_{case}", perm @ signs(vectors), DOUBLE


def basis(arrays: Arrays) -> Iterator[tuple]:
    for case in cases(arrays, "U_"):
        block = tensor(arrays[f"U_{case}"])
        yield f"projnorm_{case}", projection_lengths(block), DOUBLE
        yield f"out_{case}", canonize_basis(block, EXACT)[0], DOUBLE
        turned = tensor(arrays[f"perm_{case}"]) @ block @ tensor(arrays[f"Q_{case}"])
        yield f"out_rot_{case}", canonize_basis(turned, EXACT)[0], DOUBLE
    if "tie_U" in arrays:
        block = tensor(arrays["tie_U"])
        yield "tie_projnorm", projection_lengths(block), DOUBLE
        yield "tie_out", canonize_basis(block, EXACT)[0], DOUBLE
    if "cycle_A" in arrays:
        values, vectors = torch.linalg.eigh(tensor(arrays["cycle_A"]) / 2)
        yield "cycle_E", values, DOUBLE
        for precision in (EXACT, Precision()):
            done = canonize_basis(vectors[:, 1:3], precision)[1]
            yield "cycle_violates", float(not done), {"expected": arrays["cycle_violates"].astype(float)}


def pe(arrays: Arrays) -> Iterator[tuple]:
    """Columns that the authors' LAPACK decided (degenerate or not canonizable) are left out or compared up to sign."""
    for graph in cases({key.removesuffix("_A"): None for key in arrays if key.endswith("_A")}, ""):
        adjacency = tensor(arrays[f"{graph}_A"])
        pairs = spectrum(normalised_adjacency(adjacency))
        yield f"{graph}_eigval", torch.linalg.eigvalsh(normalised_adjacency(adjacency)), DOUBLE
        window = pairs.values[-8:]
        simple = (window[:, None] == window).sum(1) == 1
        padding = torch.ones(8 - len(window), dtype=torch.bool)
        simple, positive = torch.cat([simple, padding]), torch.cat([window > 0, padding])
        for key in [key for key in arrays if key.startswith(f"{graph}_pe_k8_s")]:
            sign, basis, scale = (key[-5] == "1", key[-3] == "1", key[-1] == "1")
            for precision in (EXACT, Precision()):
                found = encode(pairs, 8, precision, sign=sign, basis=basis, scale=scale)
                theirs = tensor(arrays[key])
                safe = encode(pairs, 8, Precision(), sign=sign, basis=basis, scale=scale).canonical
                fixed = found.canonical & (safe if scale else simple & positive)
                yield key, found.columns[:, fixed], {"expected": theirs[:, fixed]} | DOUBLE
                upto = simple & positive & ~found.canonical
                yield key, found.columns[:, upto].abs(), {"expected": theirs[:, upto].abs()} | DOUBLE
        if f"{graph}_pe_k8_perm" in arrays:
            perm = torch.from_numpy(arrays[f"{graph}_perm"])
            moved = encode(spectrum(normalised_adjacency(adjacency[perm][:, perm])), 8, EXACT)
            theirs = tensor(arrays[f"{graph}_pe_k8_perm"])
            fixed = moved.canonical & encode(pairs, 8, Precision()).canonical
            yield f"{graph}_pe_k8_perm", moved.columns[:, fixed], {"expected": theirs[:, fixed]} | DOUBLE
            still = encode(pairs, 8, EXACT).columns[perm]
            yield f"{graph}_pe_k8_perm", still[:, fixed], {"expected": theirs[:, fixed]} | DOUBLE


def transform(arrays: Arrays) -> Iterator[tuple]:
    from torch_geometric.data import Data

    for graph in sorted({key.split("_")[0] for key in arrays}):
        edges = torch.from_numpy(arrays[f"{graph}_edge_index"])
        for key in [key for key in arrays if key.startswith(f"{graph}_x_k")]:
            k, theirs = int(key.rpartition("k")[2]), tensor(arrays[key])
            # Where a summary vector's projection is spanned by those before it, the authors normalise rounding errors.
            fixed = torch.ones(2 + k, dtype=torch.bool)
            for exact in (False, True):
                data = Data(x=torch.ones(len(theirs), 2, dtype=torch.float64), edge_index=edges)
                made = CanonicalEncoding(k, exact=exact)(data)
                fixed[2:] &= made.canonical
                yield key, made.x[:, fixed], {"expected": theirs[:, fixed]} | DOUBLE
            assert fixed.sum() > 2 + k // 4


KINDS = {"sign": sign, "basis": basis, "pe": pe, "transform": transform}
