"""Tables of SMILES strings: against OGB's own function, and what happens to molecules and rows that it cannot take."""

import gzip
import subprocess
import sys

import numpy as np
import pytest

from retable.cards import load_datasets
from retable.data.containers import DataError, count
from retable.data.fetch import fetch
from retable.data.load import compare, parse
from retable.data.readers.moleculenet import moleculenet

TABLE = "smiles,activity,HIV_active\nCCO,CI,0\n[Na+],CM,1\nc1ccccc1N,CI,0\n"
LISTS = {"train": "2\n", "valid": "0\n", "test": "1\n"}
OPTIONS = {"smiles": "smiles", "label": "HIV_active", "split": "scaffold", "folder": "hiv_scaffold_split"}
# Aluminium with six bonds: RDKit refuses it.
REFUSED = "O=C1O[Al]23(OC1=O)(OC(=O)C(=O)O2)OC(=O)C(=O)O3"


@pytest.fixture
def read(tmp_path, make_card, entry):
    def read(table: str = TABLE, **lists: str):
        contents = {"m/HIV.csv": table.encode()}
        for part, text in (LISTS | lists).items():
            contents[f"m/derived/hiv_scaffold_split/{part}.csv.gz"] = gzip.compress(text.encode())
        for path, content in contents.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
        files = [entry(path, content, url="https://example.org") for path, content in contents.items()]
        return moleculenet(make_card(*files, options=OPTIONS), tmp_path)

    return read


@pytest.fixture
def rdkit():
    return pytest.importorskip("rdkit", reason="the extra `molecules` is not installed")


def test_graphs_are_those_of_ogb(read, rdkit):
    from ogb.utils import smiles2graph

    molecules = read()
    assert molecules.y.tolist() == [0, 1, 0]
    assert np.bincount(molecules.node_graph).tolist() == [3, 1, 7]
    first = 0
    for number, smiles in enumerate(("CCO", "[Na+]", "c1ccccc1N")):
        theirs = smiles2graph(smiles)
        last = first + theirs["num_nodes"]
        of_graph = molecules.node_graph[molecules.edge_index[0]] == number
        np.testing.assert_array_equal(molecules.node_features[first:last], theirs["node_feat"])
        np.testing.assert_array_equal(molecules.edge_index[:, of_graph] - first, theirs["edge_index"])
        np.testing.assert_array_equal(molecules.edge_features[of_graph], theirs["edge_feat"])
        first = last
    split = molecules.splits["scaffold"]
    assert [mask.nonzero()[0].tolist() for mask in (split.train, split.val, split.test)] == [[2], [0], [1]]


def test_a_molecule_that_rdkit_refuses_keeps_its_row(read, rdkit):
    from rdkit import Chem

    assert Chem.MolFromSmiles(REFUSED) is None
    molecules = read(TABLE.replace("CCO", REFUSED))
    assert np.bincount(molecules.node_graph).tolist() == [19, 1, 7]
    aluminium = molecules.node_features[3]
    assert aluminium.tolist()[:4] == [12, 0, 6, 5]  # the 13th element, six bonds, no charge
    assert (molecules.node_features[:, 8][:19] == 1).sum() == 13  # rings are found: all but the six outer oxygens


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.replace("CCO", "C(C"), r"HIV\.csv: row 0: 'C\(C' is no molecule"),
        (TABLE.replace("CCO", ""), r"row 0: '' is no molecule"),
    ],
)
def test_a_string_that_is_no_molecule_is_named(table, message, read, rdkit):
    with pytest.raises(DataError, match=message):
        read(table)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.replace("CCO,CI,0", "CCO,CI,yes"), "row 0: HIV_active is 'yes', not 0 or 1"),
        (TABLE.replace("smiles", "SMILES"), "has no rows with the columns 'smiles' and 'HIV_active'"),
        (TABLE.splitlines()[0], "has no rows with the columns"),
    ],
)
def test_a_table_of_something_else_is_refused(table, message, read):
    with pytest.raises(DataError, match=message):
        read(table)


def test_lists_that_do_not_fit_the_rows_are_refused(read, rdkit):
    with pytest.raises(DataError, match=r"test\.csv\.gz: a place outside of 0 to 2"):
        read(test="3\n")


def test_without_rdkit_one_line_says_what_to_install(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(DataError, match=r"RDKit, which is not installed: pip install -e '\.\[molecules\]'") as caught:
        read()
    assert "\n" not in str(caught.value)


def test_it_loads_neither_torch_nor_what_asks_a_package_index(root, rdkit):
    code = (
        "import sys\nfrom retable.data.readers.moleculenet import smiles_graphs\n"
        "smiles_graphs('x', ['CCO'])\nassert 'torch' not in sys.modules\nassert sys.modules['outdated'] is None"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_real_table_gives_what_the_card_and_ogb_say(root, mirror, rdkit, tmp_path):
    card = load_datasets(root)["molhiv-scaffold"]
    fetch(card, tmp_path, mirror=mirror)
    molecules = parse(card, tmp_path)
    assert compare(card, molecules, ["scaffold"]) == []
    assert count(molecules) == card.counts
    # ogbg-molhiv has as many graphs, atoms and bonds.
    assert (len(molecules.y), len(molecules.node_graph), molecules.edge_index.shape[1]) == (41127, 1049163, 2259376)
    split = molecules.splits["scaffold"]
    assert [int(molecules.y[mask].sum()) for mask in (split.train, split.val, split.test)] == [1232, 81, 130]
