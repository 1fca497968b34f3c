"""Papers from outside: found, run and shown like the suite's; what is broken costs itself only."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from retable.assessments import inputs
from retable.cards import CardError
from retable.config import Config, Workspace
from retable.homes import FOLDERS
from retable.outside import VARIABLE, offered, teach_readers
from retable.sources import source_sha256

FENCE = re.compile(r"```\w+\n# methods/toy/(\S+)\n(.*?)```", re.DOTALL)


@pytest.fixture(autouse=True)
def _nothing_stays_lent():
    before = dict(FOLDERS)
    yield
    for name in set(FOLDERS) - set(before):
        del FOLDERS[name]
        for module in [module for module in sys.modules if module.startswith(f"methods.{name}")]:
            del sys.modules[module]


@pytest.fixture
def paper(root: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the paper that CONTRIBUTING.md shows into a folder of its own, under an id."""

    def write(name: str = "outsider", below: str = "elsewhere") -> Path:
        folder = tmp_path / below / name
        folder.mkdir(parents=True)
        for file, text in FENCE.findall((root / "CONTRIBUTING.md").read_text(encoding="utf-8")):
            (folder / file).write_text(text.replace("id: toy", f"id: {name}"), encoding="utf-8")
        return folder

    return write


def at(place: Path, *folders: Path, **config) -> Workspace:
    return Workspace(place, Config(device="cpu", papers_from=[str(folder) for folder in folders] or None, **config))


def test_a_paper_from_outside_is_planned_hashed_and_assessed(paper, root: Path, tmp_path: Path) -> None:
    folder = paper()
    workspace = at(root, folder)
    assert not [name for name in sys.modules if name.startswith("methods.outsider")]
    papers, claims, cells, _ = inputs(workspace)
    assert "outsider" in papers
    assert claims["outsider"] == []
    assert [cell.variant for cell in cells["demo"] if cell.paper == "outsider"] == ["plain", "unit", "majority"]
    # Cards and hashes need no import.
    first = source_sha256(root, "outsider", "run")
    assert not [name for name in sys.modules if name.startswith("methods.outsider")]
    assert {cell.paper for cell in at(root, folder, papers=["outsider"]).cells} == {"outsider"}
    assert workspace.outside.troubles == []
    # The same code gives the same hash at another place, another code another one.
    other = paper("outsider", "moved")
    assert at(root, other).papers["outsider"]
    assert source_sha256(root, "outsider", "run") == first
    (other / "run.py").write_text((other / "run.py").read_text().replace("100 *", "200 *", 1))
    at(root, folder).papers, at(root, other).papers
    assert source_sha256(root, "outsider", "run") != first


def test_several_ways_to_name_a_folder(paper, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = paper()
    assert "outsider" in at(root, folder.parent).papers
    monkeypatch.setenv(VARIABLE, str(folder))
    assert "outsider" in at(root).papers
    monkeypatch.delenv(VARIABLE)
    assert "outsider" not in at(root).papers
    (tmp_path / "workspace" / "papers").mkdir(parents=True)
    shutil.copytree(folder, tmp_path / "workspace" / "papers" / "outsider")
    own = at(tmp_path / "workspace")
    assert {"outsider", "contranorm"} <= set(own.papers)
    assert own.outside.troubles == []


def test_an_installed_package_offers_papers_without_being_imported(
    paper, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "offering"
    paper("outsider", "site/offering/papers")
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    info = tmp_path / "site" / "offering-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offering\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[retable.papers]\nmine = offering.papers\nlost = offering.nowhere\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    offered.cache_clear()
    try:
        workspace = at(root)
        assert "outsider" in workspace.papers
        assert [line for line in workspace.outside.troubles if "'lost'" in line]
    finally:
        monkeypatch.undo()
        offered.cache_clear()


BROKEN = {
    "no card": (lambda f: (f / "card.yaml").unlink(), "no card.yaml in it"),
    "not there": (shutil.rmtree, "no such folder"),
    "newer schema": (lambda f: edit(f / "card.yaml", "id:", "schema_version: 2\nid:"), "a card of schema 2"),
    "an id that exists": (
        lambda f: [edit(f / "card.yaml", "id: broken", "id: gcl"), f.rename(f.with_name("gcl"))],
        "there is a paper 'gcl' already",
    ),
    "raises at import": (lambda f: edit(f / "settings.py", "\n\n\n", "\n\n\n1 / 0\n"), "settings.py:4: ZeroDivision"),
    "exits at import": (lambda f: edit(f / "settings.py", "\n\n\n", "\n\n\nraise SystemExit(3)\n"), "SystemExit: 3"),
    "no Python": (lambda f: edit(f / "run.py", "import torch\n", "import torch as\n"), "run.py:1: not Python"),
    "a setting's type": (lambda f: edit(f / "card.yaml", "value: 30", "value: many"), "setting 'epochs' is 'many'"),
    "a setting's name": (lambda f: edit(f / "card.yaml", "{epochs:", "{epoch:"), "unknown setting 'epoch'"),
    "no module": (lambda f: (f / "run.py").unlink(), "needs the module run.py"),
    "unknown data": (lambda f: edit(f / "card.yaml", "digits-knn:", "digits:"), "unknown data set 'digits'"),
    "claims": (lambda f: (f / "claims.csv").write_text("id,paper\n!,x\n"), "claims.csv:1"),
}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_paper_is_one_line_and_the_rest_goes_on(name: str, paper, root: Path) -> None:
    folder, (breaks, said) = paper("broken", "b"), BROKEN[name]
    breaks(folder)
    shown = folder if folder.exists() or name == "not there" else folder.with_name("gcl")
    workspace = at(root, shown, paper())
    assert {cell.paper for cell in workspace.cells} >= {"outsider", "contranorm"}
    assert "broken" not in {cell.paper for cell in workspace.cells}
    (line,) = workspace.outside.troubles
    assert said in line
    assert "\n" not in line
    assert str(shown) in line or "broken/digits" in line


def test_two_outsiders_of_one_id_are_refused(paper, root: Path) -> None:
    first, second = paper(), paper("outsider", "again")
    workspace = at(root, first, second)
    assert workspace.folder_of("outsider") == first
    assert workspace.outside.troubles[0].startswith(f"{second / 'card.yaml'}: there is a paper 'outsider' already")


READER = """
import numpy as np
import scipy.sparse

from retable.data.containers import NodeGraph, NodeSplit


def read(card, raw):
    y = np.arange(4) % 2
    parts = [np.arange(4) % 4 == k for k in range(3)]
    x = scipy.sparse.csr_matrix(np.eye(4, dtype=np.float32))
    return NodeGraph(card.name, x, np.zeros((2, 0), dtype=np.int64), y, {"default": NodeSplit(*parts)})
"""


def test_a_data_set_from_outside_is_read_by_the_module_beside_its_card(root: Path, tmp_path: Path) -> None:
    from retable.data.load import load
    from retable.data.pin import pin

    folder = tmp_path / "mine" / "datasets"
    folder.mkdir(parents=True)
    (folder / "four_reader.py").write_text(READER)
    card = """
        name: four
        title: Four
        task: node_classification
        homepage: https://example.org
        licence: none
        citation: nobody
        reader: four_reader
    """
    unknown = "f" * 64
    pins = f"counts: {{}}\ncontent_sha256: {unknown}\nsplits: {{default: {{sha256: {unknown}, note: ''}}}}\n"
    (folder / "four.yaml").write_text(textwrap.dedent(card) + pins)
    workspace = at(root, folder.parent)
    teach_readers(workspace.outside.readers)
    (folder / "four.yaml").write_text(textwrap.dedent(card) + pin(workspace.datasets["four"], workspace.raw))
    workspace = at(root, folder.parent)
    graph, _ = load(workspace.datasets["four"], None, workspace.raw)
    assert graph.y.tolist() == [0, 1, 0, 1]
    edit(folder / "four.yaml", "name: four", "name: cora")
    (folder / "four.yaml").rename(folder / "cora.yaml")
    (line,) = at(root, folder.parent).outside.troubles
    assert "there is a data set 'cora' already" in line


def test_the_command_line_runs_it_tells_troubles_and_ends_with_an_error(paper, root: Path, tmp_path: Path) -> None:
    folder, broken = paper(), paper("broken", "b")
    edit(broken / "run.py", "import torch\n", "import torch\n1 / 0\n")
    made = tmp_path / "workspace"
    (made / "config").mkdir(parents=True)
    (made / "Snakefile").touch()

    def retable(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "retable", *arguments],
            cwd=made,
            env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    places = f"{folder},{broken},../nowhere"
    done = retable("run", "--papers", "outsider,broken", "--papers-from", places, "--seeds", "1")
    assert done.returncode == 1
    assert re.search(r"outsider/digits digits-knn unit seed 0: ok, accuracy (\d+)", done.stdout)
    assert "nowhere: no such folder" in done.stderr
    done = retable("status", "--papers", "broken", "--papers-from", str(broken), "--seeds", "1")
    assert f"{broken / 'run.py'}:2: ZeroDivisionError" in done.stdout
    done = retable("run", "--papers", "outsider", "--papers-from", str(folder), "--seeds", "1")
    assert (done.returncode, done.stdout) == (0, "")
    done = retable("publish", "outsider/digits", "--papers-from", str(folder))
    assert done.returncode == 2 or "left out" in done.stdout
    assert retable("plan", "--papers", "outsider").returncode == 2


def test_nothing_left_to_run_is_an_error(paper, root: Path) -> None:
    folder = paper("broken", "b")
    edit(folder / "card.yaml", "value: 30", "value: many")
    with pytest.raises(CardError, match="nothing is left to run"):
        len(at(root, folder, papers=["broken"]).cells)
