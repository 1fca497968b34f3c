import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from retable.cards import CardError
from retable.compare import compare
from retable.config import Config, Workspace, parse_config
from retable.currency import RecordStore
from retable.plan import Cell
from retable.publishing import publish_finished
from retable.report import build_site
from retable.run import run_cell
from retable.whatif import explore, parse_values, varied


@pytest.fixture
def recipe(workspace: Workspace) -> Workspace:
    return replace(workspace, config=Config(device="cpu", papers=["contranorm"], recipes=["node-depth"], seeds=2))


def with_config(workspace: Workspace, **change) -> Workspace:
    return Workspace(workspace.root, parse_config(workspace.config.model_dump(exclude_unset=True) | change))


def test_values_are_read_as_yaml_reads_them() -> None:
    assert parse_values(["lr=0.01,5e-3", "name=adam", "flag=true", "n=3"], "--set") == {
        "lr": [0.01, 0.005],
        "name": ["adam"],
        "flag": [True],
        "n": [3],
    }
    for text in ("lr", "lr=", "=1", "lr=1,,2", "lr={a: 1}"):
        with pytest.raises(CardError, match="--set"):
            parse_values([text], "--set")


def test_variants_and_axes_are_selected(recipe: Workspace) -> None:
    cells = with_config(recipe, variants="contranorm", axes={"depth": 8}).cells
    assert {(cell.variant, cell.axes["depth"]) for cell in cells} == {("contranorm", 8)}
    planned = {cell.identity for cell in recipe.cells}
    assert {cell.identity for cell in cells} <= planned
    with pytest.raises(CardError, match="unknown variant 'contranrom'; did you mean 'contranorm'"):
        len(with_config(recipe, variants="contranrom").cells)
    with pytest.raises(CardError, match="no cell has depth=9; there are: "):
        len(with_config(recipe, axes={"depth": 9}).cells)
    with pytest.raises(CardError, match="unknown axis 'deep'"):
        len(with_config(recipe, axes="deep=2").cells)


def test_an_exploration_is_a_cell_of_its_own(recipe: Workspace) -> None:
    planned = recipe.cells
    what_if = with_config(recipe, variants="contranorm", axes={"depth": 8}, set={"lr": [0.02, 0.03]}).cells
    assert {cell.settings["lr"] for cell in what_if} == {0.02, 0.03}
    assert not {cell.identity for cell in what_if} & {cell.identity for cell in planned}
    assert all("explorations" in cell.folder(Path()).parts for cell in what_if)
    base, changes = varied(what_if[0], planned)
    assert base in planned
    assert changes == {"lr": (base.settings["lr"], what_if[0].settings["lr"])}
    # With the card's own values it is still nobody's result.
    same = explore(planned[:1], recipe.papers, {"lr": [planned[0].settings["lr"]]})
    assert same[0].identity != planned[0].identity
    # Its command gives the same cell.
    assert f"--set lr={what_if[0].settings['lr']}" in what_if[0].command
    told = {part.split("=")[0]: part.split("=")[1] for part in what_if[0].command.split() if "=" in part}
    texts = [f"{name}={value}" for name, value in told.items()]
    again = with_config(recipe, variants="contranorm", set=parse_values(texts, "--set")).cells
    assert what_if[0].identity in {cell.identity for cell in again}


def test_controls_are_left_out_and_settings_are_typed(recipe: Workspace) -> None:
    assert "majority" not in {cell.variant for cell in with_config(recipe, set={"lr": [0.02]}).cells}
    with pytest.raises(CardError, match="has only controls"):
        len(with_config(recipe, variants="majority", set={"lr": [0.02]}).cells)
    with pytest.raises(CardError, match="unknown setting 'rl'"):
        len(with_config(recipe, set={"rl": [0.02]}).cells)
    with pytest.raises(CardError, match="setting 'lr' is 'fast'"):
        len(with_config(recipe, set="lr=fast").cells)


@pytest.fixture
def explored(recipe: Workspace, cell: Cell) -> tuple[Workspace, Cell, Cell]:
    """The paper's cell of two seeds and one that varies it, both measured."""
    run_cell(recipe, cell)
    (other,) = explore([cell], recipe.papers, {"lr": [0.5]})
    run_cell(recipe, other)
    return recipe, cell, other


def test_its_records_are_on_a_page_of_their_own_only(explored: tuple[Workspace, Cell, Cell]) -> None:
    workspace, cell, other = explored
    store = RecordStore.open(workspace)
    assert {record.identity for record in store.explorations.records} == {other.identity}
    assert cell.identity in {record.identity for record in store.own.records}
    assert other.identity not in {record.identity for record in (*store.own.records, *store.records)}
    assert store.unfinished(other) == []
    with pytest.raises(CardError, match="explorations are not the paper's"):
        publish_finished(store, [other])
    index = build_site(workspace)
    page = (index.parent / "explorations.html").read_text()
    assert "lr: " in page
    assert " → 0.5" in page
    assert "contranorm/node-depth --scale demo --cell" in re.sub("<.*?>", "", page)
    assert 'href="explorations.html"' in index.read_text()
    others = [path for path in index.parent.rglob("*") if path.is_file() and path.name != "explorations.html"]
    assert not [path for path in others if other.identity in path.read_text(errors="ignore")]


def test_compare_names_difference_interval_cost_and_what_differs(explored: tuple[Workspace, Cell, Cell]) -> None:
    workspace, cell, other = explored
    text = "\n".join(compare(workspace, cell.identity, other.identity))
    assert "95 % interval" in text or "too few seeds" in text
    assert "B - A = " in text or "equal to the last bit" in text
    assert f"differs in setting lr: A {cell.settings['lr']}, B 0.5" in text
    assert "seconds a seed: A " in text
    text = "\n".join(compare(workspace, f"{cell.identity}@here", f"{cell.identity}@{workspace.root}"))
    assert "equal to the last bit" in text
    assert "settings, code, data and versions are the same" in text
    assert "\nB" in "\n".join(compare(workspace, "@here", f"@{workspace.root}"))
    for wrong in ("zz", "0" * 12, f"{cell.identity}@nowhere", "@", f"{cell.identity}@{'f' * 12}"):
        with pytest.raises(CardError, match="name a side by CELL"):
            list(compare(workspace, cell.identity, wrong))


def test_the_command_line_takes_all_three(root: Path) -> None:
    command = [sys.executable, "-m", "retable", "plan", "--papers", "contranorm", "--recipes", "node-depth"]
    options = ["--variants", "contranorm", "--axes", "depth=8", "--set", "lr=0.02,0.03"]
    done = subprocess.run(
        [*command, *options],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all("lr=0.02" in line or "lr=0.03" in line for line in done.stdout.splitlines())
