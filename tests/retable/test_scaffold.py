import subprocess
import sys
from pathlib import Path

import pytest

from retable.cards import CardError, load_claims, load_paper
from retable.scaffold import MARK, new_dataset, new_paper, places_to_fill


def test_a_new_paper_is_whole_and_says_what_to_fill_in(tmp_path: Path) -> None:
    written = new_paper(tmp_path / "mine")
    assert {path.relative_to(tmp_path / "mine").as_posix() for path in written} == {
        ".gitignore", "README.md", "card.yaml", "claims.csv", "heart.py", "run.py", "settings.py",
        "tests/conftest.py", "tests/test_heart.py",
    }  # fmt: skip
    card = load_paper(tmp_path / "mine" / "card.yaml")
    assert (card.id, len(card.recipes), len(card.statements)) == ("mine", 2, 1)
    assert [claim.paper for claim in load_claims(tmp_path / "mine" / "claims.csv")] == ["mine"]
    assert not [path for path in written if "@ID@" in path.read_text()]
    for name in ("card.yaml", "claims.csv", "README.md", "heart.py", "run.py", "settings.py", "tests/test_heart.py"):
        assert MARK in (tmp_path / "mine" / name).read_text(), name
    assert "card.yaml:4" in places_to_fill(tmp_path / "mine")


def test_a_new_data_set_is_read_as_its_card_says(tmp_path: Path) -> None:
    new_dataset(tmp_path / "rings")
    done = subprocess.run(
        [sys.executable, "-m", "retable", "check", "rings"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "data set rings: card, files and hashes agree" in done.stdout
    reader = tmp_path / "rings" / "datasets" / "rings_reader.py"
    reader.write_text(reader.read_text().replace("place % 2", "place % 3 % 2"))
    done = subprocess.run(
        [sys.executable, "-m", "retable", "check", "rings"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "the parsed arrays hash to" in done.stderr


@pytest.mark.parametrize("name", ["gcl", "My", "a-b", "1st", "_x", "a.b"])
def test_an_id_that_is_taken_or_none_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CardError, match="already" if name == "gcl" else "cannot be the id"):
        new_paper(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").touch()
    with pytest.raises(CardError, match="is there already"):
        new_paper(tmp_path / "mine")
