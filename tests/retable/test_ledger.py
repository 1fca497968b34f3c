from pathlib import Path

import pytest

from retable.cards import CardError
from retable.ledger import LEDGER, Entry, Ledger, append, load_ledger

A, B, C, D, END = (letter * 64 for letter in "abcde")


@pytest.fixture
def entries(world) -> list[Entry]:
    """A to B with two cells, and C to B with one of them."""
    plain, ours = world.cell("plain", depth=2), world.cell("ours", depth=2, s=0.5)
    return [world.proof(A, B, plain, ours), world.proof(C, B, plain)]


def test_equal_bytes_lead_over_several_entries_either_way(world, entries):
    ledger, identity = Ledger(tuple(entries)), world.cell("plain", depth=2).identity
    assert ledger.path(identity, A, B) == entries[:1]
    assert ledger.path(identity, B, A) == entries[:1]
    assert ledger.path(identity, A, C) == entries
    assert ledger.path(identity, C, A) == entries[::-1]


def test_the_shortest_way_is_taken(world):
    cell = world.cell("plain", depth=2)
    first, long, longer, last, second = (
        world.proof(*ends, cell) for ends in ((A, B), (A, C), (C, D), (D, END), (B, END))
    )
    assert Ledger((first, long, longer, last, second)).path(cell.identity, A, END) == [first, second]


def test_an_entry_speaks_for_the_cells_that_it_ran_only(world, entries):
    ledger = Ledger(tuple(entries))
    assert ledger.path(world.cell("ours", depth=2, s=0.5).identity, A, B) == entries[:1]
    assert ledger.path(world.cell("ours", depth=2, s=0.5).identity, A, C) is None
    assert ledger.path(world.cell("plain", depth=4).identity, A, B) is None


def test_unknown_sources_lead_nowhere_but_to_themselves(world, entries):
    ledger, identity = Ledger(tuple(entries)), world.cell("plain", depth=2).identity
    assert ledger.path(identity, A, D) is None
    assert ledger.path(identity, D, A) is None
    assert ledger.path(identity, D, D) == []
    assert ledger.path(world.cell("plain", depth=4).identity, A, A) == []


def test_what_was_appended_comes_back_in_its_order(tmp_path: Path, entries):
    assert load_ledger(tmp_path) == Ledger()
    path = append(tmp_path, entries[:1])
    assert path == tmp_path.joinpath(*Path(LEDGER).parts[1:])
    before = path.read_bytes()
    append(tmp_path, entries[1:])
    assert path.read_bytes().startswith(before)
    assert load_ledger(tmp_path).entries == tuple(entries)
    assert load_ledger(tmp_path).troubles == ()


def test_an_entry_is_appended_on_a_line_of_its_own(tmp_path: Path, entries):
    path = append(tmp_path, entries[:1])
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    append(tmp_path, entries[1:])
    assert load_ledger(tmp_path).entries == tuple(entries)


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (b"{", "no ledger entry (line: Invalid JSON"),
        (b"\xff\xfe", "no ledger entry (line: Invalid JSON"),
        (b'{"paper": "toy"}', "no ledger entry (recipe: Field required); restore the line from git or prove again"),
        (b"<<<<<<< HEAD", "no ledger entry (line: Invalid JSON"),
    ],
    ids=["cut", "bytes", "fields", "conflict"],
)
def test_a_damaged_line_costs_its_own_proof_only(tmp_path: Path, entries, damaged: bytes, words: str):
    path = append(tmp_path, entries)
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, damaged, second, b""]))
    ledger = load_ledger(tmp_path)
    assert ledger.entries == tuple(entries)
    (trouble,) = ledger.troubles
    assert trouble.where == f"{path}:2"
    assert words in trouble.what
    assert "\n" not in str(trouble)


def test_nothing_is_appended_to_a_damaged_ledger(tmp_path: Path, entries):
    path = append(tmp_path, entries[:1])
    path.write_bytes(path.read_bytes() + b"{\n")
    before = path.read_bytes()
    with pytest.raises(CardError) as caught:
        append(tmp_path, entries[1:])
    assert str(caught.value).startswith(f"{path}:2: no ledger entry")
    assert path.read_bytes() == before


def test_a_hash_of_another_form_is_refused(world):
    with pytest.raises(ValueError, match=r"base\.source_sha256"):
        world.proof("a" * 12, B, world.cell("plain", depth=2))
