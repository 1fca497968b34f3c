"""A new site takes the place of the one before, and of nothing else."""

import json

import pytest

from retable.cards import CardError
from retable.report.folder import MARKER, drawn, new_site


def draw(out, keys=None, **texts):
    with new_site(out, keys) as folder:
        for name, text in texts.items():
            folder.owner = name
            folder.write(f"{name}.html", text)
    return drawn(out)


def test_a_site_knows_its_files_and_what_they_were_drawn_from(tmp_path):
    site = draw(tmp_path / "site", {"a": "1", "b": "2"}, a="one", b="two")
    assert site.files == {"a": {"a.html": 3}, "b": {"b.html": 3}}
    assert site.is_of({"a": "1", "b": "2"})
    assert not site.is_of({"a": "1", "b": "3"})
    assert not site.is_of({})


def test_a_file_that_is_gone_or_cut_is_missed(tmp_path):
    site = draw(tmp_path / "site", {"a": "1"}, a="one")
    (tmp_path / "site" / "a.html").write_text("on")
    assert not site.whole("a")
    (tmp_path / "site" / "a.html").unlink()
    assert not site.is_of({"a": "1"})
    assert not site.whole("nobody")


def test_what_did_not_change_is_taken_over_and_the_rest_is_not(tmp_path):
    draw(tmp_path / "site", {"a": "1", "b": "1"}, a="one", b="two")
    with new_site(tmp_path / "site", {"a": "1", "b": "2"}) as folder:
        folder.take_over("a")
        folder.owner = "b"
        folder.write("c.html", "three")
    assert sorted(path.name for path in (tmp_path / "site").iterdir()) == [MARKER, "a.html", "c.html"]
    assert (tmp_path / "site" / "a.html").read_text() == "one"


def test_a_file_is_used_again_where_it_was_made_from_the_same(tmp_path):
    for key, expected in (("k", False), ("k", True), ("other", False)):
        with new_site(tmp_path / "site") as folder:
            found = folder.reuse("f.svg", key)
            if not found:
                folder.write("f.svg", key)
        assert found is expected
        assert (tmp_path / "site" / "f.svg").read_text() == key


def test_writing_into_a_new_site_leaves_the_one_before_alone(tmp_path):
    draw(tmp_path / "site", {"a": "1"}, a="one")

    def fails():
        with new_site(tmp_path / "site") as folder:
            folder.take_over("a")
            folder.write("a.html", "two")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert (tmp_path / "site" / "a.html").read_text() == "one"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".site.lock", "site"]


def test_an_older_sites_list_and_a_damaged_one_are_nothing(tmp_path):
    assert drawn(tmp_path).files == {}
    for text in ("A site drawn by retable.\n", "[]", json.dumps({"keys": {}})):
        (tmp_path / MARKER).write_text(text)
        assert drawn(tmp_path).keys == {}


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(CardError, match="is not a site that retable drew"), new_site(tmp_path):
        pass
