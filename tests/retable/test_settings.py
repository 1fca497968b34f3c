"""Settings are held against their experiment's class when the plan is made."""

import ast
from typing import Literal

import pytest

from retable.cards import CardError, Hyper
from retable.config import Config, Workspace
from retable.settings import Settings, load_paper_module, settings_class


class Sums(Settings):
    rule: Literal["mean", "median"]
    steps: int
    lr: float
    shuffle: bool = False


GOOD = {"rule": "mean", "steps": 3, "lr": 1}


def test_settings_are_read_by_name_and_a_whole_number_is_a_float():
    settings = Sums.parse(GOOD, "toy/sums")
    assert (settings.rule, settings.steps, settings.lr) == ("mean", 3, 1.0)
    assert type(settings.lr) is float


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"momentum": 0.9}, r"^toy/sums: unknown setting 'momentum'"),
        ({"lr": "0.1"}, r"^toy/sums: setting 'lr' is '0.1': Input should be a valid number$"),
        ({"steps": 3.0}, r"^toy/sums: setting 'steps' is 3.0: Input should be a valid integer$"),
        ({"steps": True}, r"^toy/sums: setting 'steps' is True: "),
        ({"shuffle": "no"}, r"^toy/sums: setting 'shuffle' is 'no': "),
        ({"rule": "mode"}, r"^toy/sums: setting 'rule' is 'mode': Input should be 'mean' or 'median'$"),
    ],
)
def test_an_unknown_or_wrongly_typed_setting_is_refused_in_one_line(change, said):
    with pytest.raises(CardError, match=said):
        Sums.parse(GOOD | change, "toy/sums")


def test_a_missing_setting_is_refused():
    with pytest.raises(CardError, match=r"^toy/sums: setting 'lr' is missing; the card's `hyper` must give it$"):
        Sums.parse({"rule": "mean", "steps": 3}, "toy/sums")


@pytest.mark.parametrize("scale", ["demo", "reduced", "full"])
def test_every_planned_cell_has_settings_that_its_experiment_takes(root, scale):
    assert Workspace(root, Config(scale=scale)).cells  # planning checks them


def test_a_cell_that_its_experiment_would_refuse_is_refused_by_the_plan(root):
    workspace = Workspace(root, Config(papers=["seqtopk"]))
    workspace.papers["seqtopk"].recipe("facts").hyper["weight_decay"] = Hyper(value="fast", source="ours")
    with pytest.raises(CardError, match=r"^seqtopk/facts facts-64 topk: setting 'weight_decay' is 'fast': "):
        _ = workspace.cells


def experiments(root) -> list[tuple[str, type[Settings]]]:
    papers = sorted(path.parent.name for path in (root / "methods").glob("*/settings.py"))
    kinds = {paper: set(load_paper_module(paper, "settings").EXPERIMENTS.values()) for paper in papers}
    return [(paper, kind) for paper in papers for kind in kinds[paper]]


def test_no_setting_is_never_read(root):
    for paper, kind in experiments(root):
        files = [path for path in (root / "methods" / paper).rglob("*.py") if path.name != "settings.py"]
        trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
        read = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not set(kind.model_fields) - read, f"{paper}: {kind.__name__}"


def test_a_paper_without_settings_or_an_unknown_experiment_gets_one_line():
    with pytest.raises(CardError, match=r"methods/no_such_paper/settings\.py is missing"):
        settings_class("no_such_paper", "run")
    with pytest.raises(CardError, match="no settings of 'walk', which the card names"):
        settings_class("seqtopk", "walk")
