"""Files are hashed against their card once, and again after any change."""

import hashlib
import os

import pytest

from retable.data import verified
from retable.data.containers import DataError
from retable.data.fetch import fetch
from retable.data.verified import is_marked, mark, problem, require_verified, sha256_of

CONTENT = bytes(range(256)) * 4000
PATH = "made/up/file.bin"


@pytest.fixture
def card(make_card, entry, server):
    server.files["/file.bin"] = CONTENT
    return make_card(entry(PATH, CONTENT, url=f"{server.address}/file.bin"))


def test_a_verified_file_is_hashed_again_only_after_a_change(card, server, tmp_path, monkeypatch):
    fetch(card, tmp_path)
    hashed = []
    monkeypatch.setattr(verified, "sha256_of", lambda path: hashed.append(path) or "changed")
    require_verified(card, tmp_path)
    assert hashed == []
    os.utime(tmp_path / PATH, ns=(1, 1))
    with pytest.raises(DataError, match="has sha256 changed"):
        require_verified(card, tmp_path)


def test_a_missing_file_says_which_command_brings_it(card, server, tmp_path):
    with pytest.raises(DataError, match=r"file\.bin is missing; run `retable data fetch made-up`"):
        require_verified(card, tmp_path)


@pytest.fixture
def file(entry, tmp_path):
    """A file's entry in a card, and the file."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_bytes(b"content")
    return entry("a/b.txt", b"content", url="https://example.org"), tmp_path / "a" / "b.txt"


def test_size_comes_before_hash_and_each_is_told_with_what_was_expected(file):
    entry, path = file
    right = hashlib.sha256(b"content").hexdigest()
    assert sha256_of(path) == right
    assert problem(entry, path) is None
    path.write_bytes(b"contents")
    assert problem(entry, path) == "has 8 bytes, expected 7"
    path.write_bytes(b"CONTENT")
    assert problem(entry, path) == f"has sha256 {hashlib.sha256(b'CONTENT').hexdigest()}, expected {right}"
    path.unlink()
    assert problem(entry, path) == "is missing"


def test_a_mark_ends_with_the_size_the_time_of_change_or_the_cards_hash(file, tmp_path):
    entry, path = file
    assert not is_marked(entry, tmp_path)
    mark(entry, tmp_path)
    assert is_marked(entry, tmp_path)
    assert not is_marked(entry.model_copy(update={"sha256": "0" * 64}), tmp_path)
    status = path.stat()
    path.write_bytes(b"longer than before")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not is_marked(entry, tmp_path)
    path.write_bytes(b"content")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert is_marked(entry, tmp_path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert not is_marked(entry, tmp_path)


def test_where_no_mark_can_be_written_the_file_is_hashed_each_time(file, make_card, tmp_path, monkeypatch):
    entry, _ = file
    (tmp_path / verified.MARKERS / entry.path).mkdir(parents=True)  # where the mark should be
    hashed = []
    monkeypatch.setattr(verified, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    for _ in range(2):
        require_verified(make_card(entry), tmp_path)
    assert len(hashed) == 2
    assert [path.name for path in (tmp_path / verified.MARKERS).rglob("*")] == ["a", "b.txt"]
