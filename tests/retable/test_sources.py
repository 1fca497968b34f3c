import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from retable.cards import load_paper, load_papers
from retable.sources import ALWAYS, KEPT, NEUTRAL, imported_modules, source_sha256

RUN = '''"""The experiment."""

import math

from methods.toy.heart import loss
from methods.toy.norms import norm
from retable.data.containers import Graph, distinct_edges
from retable.plan import Cell

__all__ = ["run"]


def run(cell: Cell, graph: Graph | None = None) -> float:
    """Train."""
    from retable.evaluate.probe import accuracy

    rate: float = 2.0
    assert graph is not None, "no graph"
    if math.isnan(rate):
        raise ValueError("no rate")
    return accuracy(norm(loss(rate))) + distinct_edges(graph)
'''
HEART = '''from dataclasses import dataclass


@dataclass
class Settings:
    """What the card sets."""

    rate: float = 0.1


def loss(x: float) -> float:
    """A square."""
    if x < 0:
        raise ValueError(f"{x} is negative")
    return x * x


def other(x: float) -> float:
    return x
'''
FILES = {
    "methods/__init__.py": "",
    "methods/toy/__init__.py": "",
    "methods/toy/run.py": RUN,
    "methods/toy/heart.py": HEART,
    "methods/toy/norms/__init__.py": "from methods.toy.norms.kinds import first as norm\n",
    "methods/toy/norms/kinds.py": "def first(x):\n    return x + 1\n\n\ndef second(x):\n    return x + 2\n",
    "methods/toy/second.py": "from .heart import loss\n\nRATE = loss(1)\n",
    "methods/toy/third.py": "from methods.toy import norms\n\nRATE = norms.norm(1)\n",
    "methods/toy/fourth.py": "from retable.data import containers\n\nRATE = containers.distinct_edges(())\n",
    "methods/other/run.py": "RATE = 1\n",
    "retable/__init__.py": "",
    "retable/plan.py": "class Cell: ...\n",
    "retable/data/__init__.py": "",
    "retable/data/containers.py": "from retable.data.edges import distinct_edges\n\n\nclass Graph: ...\n",
    "retable/data/edges.py": "def distinct_edges(graph):\n    return len(graph)\n",
    "retable/evaluate/__init__.py": "",
    "retable/evaluate/probe.py": "def accuracy(x: float) -> float:\n    return 100 * x\n",
    "retable/train/__init__.py": "",
    "retable/train/randomness.py": "def derive(seed):\n    return seed + 1\n",
    "retable/train/determinism.py": "def threads(number):\n    return number\n",
}


@pytest.fixture
def project(tmp_path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "before" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "before"


def edited(project: Path, *edits: tuple[str, str, str]) -> Path:
    """A copy with some texts replaced: hashes are cached by folder."""
    copy = project.with_name("after")
    shutil.copytree(project, copy)
    for name, old, new in edits:
        text = (copy / name).read_text()
        assert old in text
        (copy / name).write_text(text.replace(old, new))
    return copy


def changed(project: Path, name: str, old: str, new: str, experiment: str = "run") -> bool:
    """Whether an edit of one file changes the meaning hash."""
    return source_sha256(project, "toy", experiment) != source_sha256(
        edited(project, (name, old, new)), "toy", experiment
    )


COSMETIC: Mapping[str, tuple[str, str, str]] = {
    "comment": ("heart.py", "return x * x", "return x * x  # the square"),
    "docstring": ("heart.py", '"""A square."""', '"""The square of its argument."""'),
    "docstring of a class": ("heart.py", '"""What the card sets."""', '"""Settings."""'),
    "spacing": ("heart.py", "x * x", "(x   *   x)"),
    "no docstring": ("run.py", '"""The experiment."""\n\n', ""),
    "annotation of an argument": ("heart.py", "loss(x: float)", "loss(x: int)"),
    "annotation of a result": ("heart.py", "def loss(x: float) -> float:", "def loss(x: float):"),
    "annotation by an imported name": ("run.py", "cell: Cell, graph: Graph | None", "cell, graph"),
    "annotation of a local variable": ("run.py", "rate: float = 2.0", "rate = 2.0"),
    "text of an error": ("run.py", '"no rate"', '"the rate is no number"'),
    "text of an error with a value": ("heart.py", '{x} is negative"', '{x:g} is below zero"'),
    "text of an error by an imported name": ("run.py", '"no rate"', 'f"no rate in {Cell}"'),
    "message of an assertion": ("run.py", '"no graph"', 'f"{graph} is none"'),
    "unused import": ("run.py", "import math\n", "import json\nimport math\n"),
    "unused import of what is reached": ("run.py", "import loss\n", "import loss, other\n"),
    "list of public names": ("run.py", '__all__ = ["run"]', '__all__ = ["run", "math"]'),
}


@pytest.mark.parametrize("edit", COSMETIC.values(), ids=COSMETIC)
def test_cosmetic_edits_keep_the_hash(project, edit):
    name, old, new = edit
    assert not changed(project, f"methods/toy/{name}", old, new)


def test_the_order_of_imports_is_free(project):
    lines = RUN.splitlines(keepends=True)
    block = "".join(lines[2:8])
    assert not changed(project, "methods/toy/run.py", block, "".join(reversed(lines[2:8])))


FOREIGN: Mapping[str, tuple[str, str, str]] = {
    "another paper": ("methods/other/run.py", "RATE = 1", "RATE = 2"),
    "another experiment": ("methods/toy/second.py", "loss(1)", "loss(2)"),
    "neutral module": ("retable/plan.py", "class Cell: ...", "class Cell:\n    seed = 0"),
    "neutral module that hands a name on": (
        "retable/data/containers.py",
        "class Graph: ...",
        "class Graph:\n    n = 0",
    ),
}


@pytest.mark.parametrize("edit", FOREIGN.values(), ids=FOREIGN)
def test_foreign_code_keeps_the_hash(project, edit):
    assert not changed(project, *edit)


@pytest.mark.parametrize("packaged", [True, False], ids=["with __init__", "without"])
def test_a_file_may_move(project, packaged):
    adapted = "from methods.toy.heart import loss", "from methods.toy.inner.core import loss"
    copy = edited(
        project, ("methods/toy/run.py", *adapted), ("methods/toy/second.py", "from .heart", "from .inner.core")
    )
    inner = copy / "methods/toy/inner"
    inner.mkdir()
    if packaged:
        (inner / "__init__.py").write_text('"""What is within."""\n')
    (copy / "methods/toy/heart.py").rename(inner / "core.py")
    for experiment in ("run", "second"):
        assert source_sha256(project, "toy", experiment) == source_sha256(copy, "toy", experiment)
    assert "methods.toy.inner.core" in imported_modules(copy, "methods.toy.second")


REAL: Mapping[str, tuple[str, str, str]] = {
    "constant in the heart": ("methods/toy/heart.py", "x < 0", "x < 1"),
    "the heart": ("methods/toy/heart.py", "x * x", "x * x * x"),
    "kind of an error": ("methods/toy/heart.py", "raise ValueError", "raise ArithmeticError"),
    "annotation of a field": ("methods/toy/heart.py", "rate: float = 0.1", "rate: int = 0.1"),
    "default of a field": ("methods/toy/heart.py", "rate: float = 0.1", "rate: float = 0.2"),
    "a string that is no docstring": ("methods/toy/heart.py", "    return x * x", "    'aside'\n    return x * x"),
    "the experiment": ("methods/toy/run.py", "rate: float = 2.0", "rate: float = 3.0"),
    "imported name that stands for another": ("methods/toy/run.py", "import loss", "import other as loss"),
    "foreign name that stands for another": ("methods/toy/run.py", "import math", "import cmath as math"),
    "name that a package hands on": ("methods/toy/norms/__init__.py", "first as norm", "second as norm"),
    "imported within a function": ("retable/evaluate/probe.py", "100 *", "1000 *"),
    "handed on by a neutral module": ("retable/data/edges.py", "len(graph)", "len(set(graph))"),
    "random streams": ("retable/train/randomness.py", "seed + 1", "seed + 2"),
    "threads": ("retable/train/determinism.py", "return number", "return 2 * number"),
}


@pytest.mark.parametrize("edit", REAL.values(), ids=REAL)
def test_real_edits_change_the_hash(project, edit):
    assert changed(project, *edit)


def test_a_relative_import_is_followed(project):
    assert changed(project, "methods/toy/heart.py", "x * x", "x * x * x", "second")
    assert source_sha256(project, "toy", "second") != source_sha256(project, "toy")


@pytest.mark.parametrize(
    ("experiment", "edit"),
    [
        ("third", ("methods/toy/norms/__init__.py", "first as norm", "second as norm")),
        ("fourth", ("retable/data/edges.py", "len(graph)", "len(set(graph))")),
    ],
)
def test_a_name_that_a_module_hands_on_counts_where_it_is_read_from_the_module(project, experiment, edit):
    assert changed(project, *edit, experiment)


@pytest.mark.parametrize("paper", ["contranorm"])
def test_a_papers_hashes_cover_its_folder_and_what_it_shares(root, paper):
    experiments = {recipe.experiment for recipe in load_paper(root / "methods" / paper / "card.yaml").recipes}
    found = {name for experiment in experiments for name in imported_modules(root, f"methods.{paper}.{experiment}")}
    own = {f"methods.{paper}.{path.stem}" for path in (root / "methods" / paper).glob("*.py")} - {
        f"methods.{paper}.__init__",
        f"methods.{paper}.operations",  # estimates from it, no results
    }
    assert own <= found
    assert not found & set(NEUTRAL)


def test_every_experiment_goes_through_the_random_streams_and_the_threads(root):
    for paper, card in load_papers(root).items():
        for experiment in {recipe.experiment for recipe in card.recipes}:
            found = imported_modules(root, f"methods.{paper}.{experiment}")
            assert {f"methods.{paper}.{experiment}", *ALWAYS} <= set(found), experiment
    assert ALWAYS == ("retable.train.randomness", "retable.train.determinism")
    # Its edges come through a neutral module.
    assert "retable.data.edges" in imported_modules(root, "methods.gcl.node")


def test_neutral_modules_exist(root):
    for name in NEUTRAL:
        base = root.joinpath(*name.split("."))
        assert base.with_suffix(".py").is_file() or (base / "__init__.py").is_file(), name


# What is kept between processes

HASH = "import sys; from pathlib import Path; from retable.sources import source_sha256; "
HASH += "print(source_sha256(Path(sys.argv[1]), 'toy'))"


def hash_of(project: Path, root: Path, code: str = HASH) -> str:
    """By a new process, since this one keeps what it has read."""
    command = [sys.executable, "-c", code, str(project)]
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_a_hash_is_kept_for_the_same_files_and_computed_again_for_others(project, root):
    expected = hash_of(project, root)
    assert not (project / KEPT).exists()  # no checkout that runs
    (project / "results").mkdir()
    assert hash_of(project, root) == expected
    kept = json.loads((project / KEPT).read_text())
    assert kept["hashes"] == {"methods.toy.run": expected}
    (project / KEPT).write_text(json.dumps(kept | {"hashes": {"methods.toy.run": "as kept"}}))
    assert hash_of(project, root) == "as kept"
    (project / "methods/toy/heart.py").write_text(HEART.replace("x * x", "x + x"))
    assert hash_of(project, root) not in ("as kept", expected)
    (project / "methods/toy/heart.py").write_text(HEART)
    assert hash_of(project, root) == expected


@pytest.mark.parametrize("damage", ["", "[]", '{"files": 1}', '{"files": "x", "hashes": 3}', "\x00\xff"])
def test_a_damaged_file_of_kept_hashes_is_no_matter(project, root, damage):
    expected = hash_of(project, root)
    (project / KEPT).parent.mkdir(parents=True)
    (project / KEPT).write_text(damage, encoding="latin-1")
    assert hash_of(project, root) == expected


def test_an_edit_while_a_process_runs_is_not_kept_under_the_digest_of_other_files(project, root):
    (project / "results").mkdir()
    edit = "heart = Path(sys.argv[1]) / 'methods/toy/heart.py'; old = heart.read_text(); "
    edit += "heart.write_text(old.replace('x * x', 'x + x')); print(source_sha256(Path(sys.argv[1]), 'toy')); "
    first = "import sys; from pathlib import Path; from retable.sources import _files_at_first, source_sha256; "
    first += "_files_at_first(Path(sys.argv[1])); "
    changed = hash_of(project, root, first + edit)
    assert not (project / KEPT).exists()
    assert hash_of(project, root) == changed
