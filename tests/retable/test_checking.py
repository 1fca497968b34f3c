"""`retable check` outside of a checkout: a new paper passes, and each part that is taken out or broken is missed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from retable.checking import Failed, check
from retable.homes import FOLDERS
from retable.scaffold import new_paper


@pytest.fixture
def folder(tmp_path: Path):
    new_paper(tmp_path / "checked")
    yield tmp_path / "checked"
    FOLDERS.pop("checked", None)
    for module in [module for module in sys.modules if module.startswith("methods.checked")]:
        del sys.modules[module]


def retable_check(folder: Path, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "retable", "check", str(folder)],
        cwd=folder.parent,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_new_paper_passes_everything(folder: Path, root: Path) -> None:
    done = retable_check(folder, root)
    assert done.returncode == 0, done.stderr
    for said in (
        "2 recipes, 1 statements; 1 claims",
        "ends in the same bytes",
        "tests: pass",
        "demo: 15 seeds",
        "page: ",
    ):
        assert said in done.stdout
    page = (folder / ".check" / "site" / "papers" / "checked.html").read_text()
    assert "Digits, 20 labels a class" in page
    assert "FILL IN" in done.stdout


REMOVED = ["README.md", "card.yaml", "claims.csv", "heart.py", "run.py", "settings.py", "tests", "tests/test_heart.py"]


@pytest.mark.parametrize("part", REMOVED)
def test_it_fails_without_a_part(part: str, folder: Path) -> None:
    path = folder / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(Failed) as failed:
        list(check(folder))
    assert Path(part).name.partition("_heart")[0] in str(failed.value)
    assert "\n" not in str(failed.value)


PARTS_OF_CARD = {
    "statements": "needs `statements`",
    "variants": "recipes.0.variants: Field required",
    "scales": "recipes.0.scales: Field required",
    "protocol": "recipes.0.protocol: Field required",
    "tables": "tables: Field required",
}


@pytest.mark.parametrize("part", PARTS_OF_CARD)
def test_it_fails_without_a_part_of_the_card(part: str, folder: Path) -> None:
    import yaml

    card = yaml.safe_load((folder / "card.yaml").read_text())
    where = card if part in card else card["recipes"][0]
    del where[part]
    (folder / "card.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(Failed, match=PARTS_OF_CARD[part]):
        list(check(folder))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


BROKEN = {
    "claims.csv": (
        "FILL IN: where you read the number; evidence is then source, digitised or second-hand",
        "",
        "source",
    ),
    "settings.py": ("    lr: float\n", "", "unknown setting 'lr'"),
    "card.yaml": ("digits-knn: default", "digits: default", "unknown data set 'digits'"),
    "run.py": ('        context.seed_torch("weights")', "        #", "other bytes|gives another|the same curve"),
    "heart.py": ("def normalise", "def normalize", "run.py:.*ImportError"),
}


@pytest.mark.parametrize("file", BROKEN)
def test_it_says_where_the_fault_is(file: str, folder: Path) -> None:
    old, new, said = BROKEN[file]
    edit(folder / file, old, new)
    with pytest.raises(Failed, match=said):
        list(check(folder))


def test_its_own_tests_count(folder: Path, root: Path) -> None:
    edit(folder / "tests" / "test_heart.py", "normalise(x, 0.0), x)", "normalise(x, 0.0), 2 * x)")
    done = retable_check(folder, root)
    assert done.returncode == 1
    assert "its tests fail" in done.stderr
