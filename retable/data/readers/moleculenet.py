"""MoleculeNet's tables of SMILES strings (Wu et al., 2018, https://arxiv.org/abs/1703.00564) as OGB's graphs.

OGB's ogbg-molhiv is MoleculeNet's table of HIV, turned into graphs by RDKit. Where OGB's archive cannot be had, this
makes the same kind of graphs from the table.
"""

import csv
import sys
from pathlib import Path

import numpy as np

from retable.cards import DatasetCard
from retable.data.containers import DataError
from retable.data.molecules import MoleculeSet
from retable.data.readers.ogb import GzipTables


def moleculenet(card: DatasetCard, raw: Path) -> MoleculeSet:
    """The molecules of a CSV file, in its order, with OGB's nine atom and three bond categories and a label, 0 or 1.

    Options: `smiles` and `label` name columns, `split` the division, `folder` where its three gzipped lists of row
    numbers are. Raises DataError, which says what to install where RDKit is missing, and names file and row for
    contents that do not fit together.
    """
    smiles, label, split, folder = (str(card.options[name]) for name in ("smiles", "label", "split", "folder"))
    table = next(file.path for file in card.files if file.path.endswith(".csv"))
    with (raw / table).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or not {smiles, label} <= set(rows[0]):
        raise DataError(f"{card.name}: {table} has no rows with the columns {smiles!r} and {label!r}")
    for number, row in enumerate(rows):
        if row[label] not in ("0", "1"):
            raise DataError(f"{card.name}: {table}: row {number}: {label} is {row[label]!r}, not 0 or 1")
    atoms, bonds, ends, sizes = smiles_graphs(f"{card.name}: {table}", [row[smiles] for row in rows])
    return MoleculeSet(
        card.name,
        ends,
        bonds,
        atoms,
        np.repeat(np.arange(len(rows)), sizes),
        np.array([int(row[label]) for row in rows], dtype=np.int64),
        {split: GzipTables(card, raw).division(folder, len(rows))},
    )


def smiles_graphs(where: str, smiles: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Atoms (N, 9), bonds (E, 3), their ends (2, E) in places of all atoms, and the atoms of each molecule (G,).

    As `ogb.utils.smiles2graph`: each bond in both directions, one after the other. That function fails on molecules
    that RDKit refuses, which have an atom of impossible valence; they are read without that one check, so that all rows
    stay. `where` begins the message of the DataError for a string that is no molecule.
    """
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        raise DataError(
            f"{where}: molecules are read with RDKit, which is not installed: pip install -e '.[molecules]' "
            "-c requirements.lock"
        ) from None
    # The package starts a thread that asks a package index for its newest version, if it finds this library.
    sys.modules.setdefault("outdated", None)  # type: ignore[arg-type]
    from ogb.utils.features import atom_to_feature_vector, bond_to_feature_vector

    checks = Chem.SanitizeFlags.SANITIZE_ALL ^ Chem.SanitizeFlags.SANITIZE_PROPERTIES
    atoms: list[list[int]] = []
    bonds: list[list[int]] = []
    ends: list[tuple[int, int]] = []
    sizes: list[int] = []
    with rdBase.BlockLogs():
        for number, text in enumerate(smiles):
            molecule = Chem.MolFromSmiles(text) or Chem.MolFromSmiles(text, sanitize=False)
            if molecule is None or molecule.GetNumAtoms() == 0:
                raise DataError(f"{where}: row {number}: {text!r} is no molecule")
            if molecule.NeedsUpdatePropertyCache():
                molecule.UpdatePropertyCache(strict=False)
                Chem.SanitizeMol(molecule, checks)
            first = len(atoms)
            atoms += [atom_to_feature_vector(atom) for atom in molecule.GetAtoms()]
            for bond in molecule.GetBonds():
                a, b = first + bond.GetBeginAtomIdx(), first + bond.GetEndAtomIdx()
                ends += [(a, b), (b, a)]
                bonds += [bond_to_feature_vector(bond)] * 2
            sizes.append(len(atoms) - first)
    return (
        np.array(atoms, dtype=np.int64),
        np.array(bonds, dtype=np.int64).reshape(-1, 3),
        np.ascontiguousarray(np.array(ends, dtype=np.int64).reshape(-1, 2).T),
        np.array(sizes, dtype=np.int64),
    )
