import shutil
from pathlib import Path

import pytest

from retable.cards import load_paper
from retable.sources import NEUTRAL, imported_modules, source_sha256

RUN = '''"""The story."""

from methods.toy.heart import loss
from retable.plan import Cell


def run(cell: Cell) -> float:
    """Train."""
    from retable.evaluate.probe import accuracy

    return accuracy(loss(2.0))
'''
FILES = {
    "methods/__init__.py": "",
    "methods/toy/__init__.py": "",
    "methods/toy/run.py": RUN,
    "methods/toy/heart.py": 'def loss(x: float) -> float:\n    """A square."""\n    return x * x\n',
    "methods/toy/second.py": "from methods.toy.heart import loss\n\nRATE = 1\n",
    "methods/other/run.py": "RATE = 1\n",
    "retable/__init__.py": "",
    "retable/plan.py": "class Cell: ...\n",
    "retable/evaluate/__init__.py": "",
    "retable/evaluate/probe.py": "def accuracy(x: float) -> float:\n    return 100 * x\n",
}


@pytest.fixture
def project(tmp_path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "before" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "before"


def changed(project: Path, name: str, old: str, new: str, story: str = "run") -> bool:
    """Whether an edit of one file changes the meaning hash; hashes are cached by folder, so a copy is edited."""
    copy = project.with_name("after")
    shutil.copytree(project, copy)
    path = copy / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return source_sha256(project, "toy", story) != source_sha256(copy, "toy", story)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("methods/toy/heart.py", "return x * x", "return x * x  # the square"),
        ("methods/toy/heart.py", '"""A square."""', '"""The square of its argument."""'),
        ("methods/toy/heart.py", "x * x", "(x   *   x)"),
        ("methods/toy/run.py", '"""The story."""\n\n', ""),
        ("methods/other/run.py", "RATE = 1", "RATE = 2"),
        ("methods/toy/second.py", "RATE = 1", "RATE = 2"),
        ("retable/plan.py", "class Cell: ...", "class Cell:\n    seed = 0"),
    ],
    ids=["comment", "docstring", "spacing", "no docstring", "another paper", "another story", "neutral module"],
)
def test_cosmetic_edits_and_foreign_code_keep_the_hash(project, name, old, new):
    assert not changed(project, name, old, new)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("methods/toy/heart.py", "x * x", "x * x * x"),
        ("methods/toy/run.py", "loss(2.0)", "loss(3.0)"),
        ("retable/evaluate/probe.py", "100 *", "1000 *"),
    ],
    ids=["the heart", "the story", "an engine module imported inside a function"],
)
def test_real_edits_change_the_hash(project, name, old, new):
    assert changed(project, name, old, new)


@pytest.mark.parametrize("name", ["second", "heart"])
def test_a_story_has_a_hash_of_its_own_and_of_what_it_shares(project, name):
    old, new = {"second": ("RATE = 1", "RATE = 2"), "heart": ("x * x", "x * x * x")}[name]
    assert changed(project, f"methods/toy/{name}.py", old, new, "second")
    assert source_sha256(project, "toy", "second") != source_sha256(project, "toy")


def test_a_string_that_is_no_docstring_counts(project):
    assert changed(project, "methods/toy/heart.py", "return x * x", "'set aside'\n    return x * x")


@pytest.mark.parametrize("paper", ["contranorm"])
def test_a_papers_hashes_cover_its_folder_and_what_it_shares(root, paper):
    stories = {recipe.story for recipe in load_paper(root / "methods" / paper / "card.yaml").recipes}
    found = {name for story in stories for name in imported_modules(root, f"methods.{paper}.{story}")}
    own = {f"methods.{paper}.{path.stem}" for path in (root / "methods" / paper).glob("*.py")} - {
        f"methods.{paper}.__init__",
        f"methods.{paper}.operations",  # estimates from it, no results
    }
    assert own <= found
    assert any(name.startswith("retable.") for name in found)
    assert not found & set(NEUTRAL)


def test_neutral_modules_exist(root):
    for name in NEUTRAL:
        base = root.joinpath(*name.split("."))
        assert base.with_suffix(".py").is_file() or (base / "__init__.py").is_file(), name
