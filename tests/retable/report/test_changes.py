"""What a site is drawn from, as digests."""

import pytest

from retable.config import Config, Workspace
from retable.report.changes import keys_of, strays


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setattr("retable.config.require_running", lambda root: None)
    for name in ("a", "b"):
        place = tmp_path / "methods" / name
        place.mkdir(parents=True)
        (place / "card.yaml").write_text("id: x")
        (place / "run.py").write_text("pass")
        published = tmp_path / "results" / "published" / name
        published.mkdir(parents=True)
        (published / "r-full-cora.jsonl").write_text("{}\n")
    (tmp_path / "retable").mkdir()
    (tmp_path / "retable" / "code.py").write_text("pass")
    (tmp_path / "datasets").mkdir()
    return Workspace(tmp_path, Config())


def changed(tree, path, text):
    """The names whose digest another content of a file changes."""
    before = keys_of(tree)
    place = tree.root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    after = keys_of(tree)
    assert keys_of(tree) == after
    return {name for name in after.of if after.of[name] != before.of.get(name)}, after.bases != before.bases


@pytest.mark.parametrize(
    ("path", "names", "of_bases"),
    [
        ("results/published/a/r-full-cora.jsonl", {"a", ""}, False),
        ("results/full/b/r/cora/cell/seed-0.json", {"b", ""}, False),
        ("results/full/b/r/cora/cell/seed-0.pictures.jsonl", {"b", ""}, False),
        ("methods/a/claims.csv", {"a", ""}, True),
        ("methods/a/run.py", {"a", "b", ""}, True),
        ("retable/code.py", {"a", "b", ""}, True),
        ("retable/report/static/style.css", {"a", "b", ""}, True),
        ("datasets/cora.yaml", {"a", "b", ""}, True),
        ("results/equivalence.jsonl", {"a", "b", ""}, True),
        ("results/published/gone/r-full-cora.jsonl", {""}, False),
        ("README.md", set(), False),
        ("retable/__pycache__/code.pyc", set(), False),
    ],
)
def test_a_change_reaches_the_papers_that_it_is_about(tree, path, names, of_bases):
    assert changed(tree, path, "another") == (names, of_bases)


def test_published_files_of_papers_without_a_card_are_named(tree):
    changed(tree, "results/published/gone/r-full-cora.jsonl", "{}")
    (stray,) = strays(tree.results, {"a", "b"})
    assert stray.parent.name == "gone"
