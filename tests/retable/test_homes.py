import importlib
import sys
from pathlib import Path

from retable.homes import FOLDERS, home, is_checkout, lend, place_of


def test_the_suite_of_a_checkout_is_the_checkout(root: Path) -> None:
    assert home() == root
    assert is_checkout(root)
    assert not is_checkout(root / "docs")


def test_a_lent_folder_is_imported_when_asked_for_and_another_takes_its_place(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / str(number) / "lent_paper"
        folder.mkdir(parents=True)
        (folder / "heart.py").write_text(f"from .other import VALUE\n\nOF = {number}\n")
        (folder / "other.py").write_text("VALUE = 3\n")
        assert lend("lent_paper", folder)
        assert not lend("lent_paper", folder)
        assert "methods.lent_paper" not in sys.modules
        found = importlib.import_module("methods.lent_paper.heart").OF
        assert found == number
    del FOLDERS["lent_paper"]


def test_places_of_modules(root: Path, tmp_path: Path) -> None:
    lend("lent_paper", tmp_path / "lent_paper")
    try:
        assert place_of(root, "methods.lent_paper.run") == tmp_path / "lent_paper" / "run"
        assert place_of(root, "methods.contranorm.run") == root / "methods" / "contranorm" / "run"
        assert place_of(root, "torch.nn") is None
        # A folder of runs has no code of the suite: it is where this package lies.
        assert place_of(tmp_path, "retable.plan") == root / "retable" / "plan"
        assert place_of(tmp_path, "methods.contranorm.run") == root / "methods" / "contranorm" / "run"
    finally:
        del FOLDERS["lent_paper"]
