import pytest

from retable.config import Config, Workspace
from retable.equivalence import EPOCHS, compare, cut, digest, stretch
from retable.plan import Cell

ONE, TWO = (1.0).hex(), (2.0).hex()


def answer(**changes) -> dict:
    same = {"state": "ok", "metrics": {"a": ONE}, "series": {"s": [ONE, TWO]}, "weights": ["x", "y"]}
    return {**same, "curve": [{"epoch": ONE, "loss": TWO}], **changes}


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"epochs": 200, "eval_every": 5}, {"epochs": 3, "eval_every": 1}),
        ({"epochs": 100, "warmup": 10.0}, {"epochs": 3, "warmup": 0.3}),
        ({"epochs": 60, "warmup": 50, "steps_per_epoch": 10}, {"epochs": 3, "warmup": 2}),
        ({"epochs": 12, "lp_epochs": 10, "probe_epochs": 2}, {"epochs": 3, "lp_epochs": 3}),
        ({"epochs": 90, "tune_epochs": 30, "tune_warmup": 10}, {"epochs": 3, "tune_epochs": 3, "tune_warmup": 1}),
        ({"epochs": 16, "warmup_epochs": 8, "warmup_start": 3e-5}, {"epochs": 3, "warmup_epochs": 2}),
        ({"epochs": 3000, "patience": 20, "trained": True}, {"epochs": 3, "patience": 1}),
        ({"epochs": 0, "patience": 0, "warmup_share": 0.1}, {}),
        ({"divisions": 10, "pgd_iters": 20, "repeats": 3}, {"divisions": 1}),
    ],
)
def test_phases_are_cut_and_schedules_keep_their_shape(settings, changes):
    assert cut(settings, 3) == pytest.approx(changes)


def trained_cells(root) -> list[Cell]:
    scales = ("reduced", "full")
    return [
        cell for scale in scales for cell in Workspace(root, Config(scale=scale)).cells if "epochs" in cell.settings
    ]


def test_no_phase_of_any_real_cell_is_left_long(root):
    for cell in trained_cells(root):
        short = cell.settings | cut(cell.settings)
        phases = [key for key in short if key.split("_")[-1] == "epochs" and "warmup" not in key]
        assert all(short[key] <= EPOCHS for key in phases), cell


@pytest.mark.parametrize(
    ("settings", "times"),
    [
        ({"epochs": 100, "pretrain_epochs": 40, "warmup": 10}, 50.0),
        ({"epochs": 2, "lr": 0.1}, 1.0),
        ({"epochs": 0, "tune_epochs": 8, "patience": 4}, 4.0),
    ],
)
def test_a_whole_run_is_longer_by_its_longest_phase(settings, times):
    assert stretch(settings, cut(settings, 2)) == times


def test_equal_answers_have_no_differences_and_one_digest():
    assert compare(answer(), answer()) == ([], [])
    assert digest(answer()) == digest(answer())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metrics": {"a": TWO}}, "metrics a: 1 became 2"),
        ({"metrics": {}}, "metrics a: missing in the tree"),
        ({"series": {"s": [ONE, ONE]}}, "series s: other values became other values"),
        ({"curve": []}, "curve: 1 lines became 0"),
        ({"curve": [{"epoch": ONE, "loss": ONE}]}, "curve at epoch 1: loss 2 became 1"),
        ({"weights": ["x", "z"]}, "weights: tensor 2 of 2 differs"),
        ({"weights": ["y", "x"]}, "weights: tensor 2 of 2 differs"),
        ({"state": "diverged: loss is nan"}, "the base ended ok, the tree diverged: loss is nan"),
        ({"error": "KeyError: 'lr'"}, "the tree's run failed: KeyError: 'lr'"),
    ],
)
def test_each_difference_is_named(changes, said):
    differences, _ = compare(answer(), answer(**changes))
    assert said in differences
    if "error" not in changes:
        assert digest(answer()) != digest(answer(**changes))


def test_what_the_tree_adds_is_listed_and_no_difference():
    more = answer(
        metrics={"a": ONE, "b": TWO},
        series={"s": [ONE, TWO], "t": []},
        curve=[{"epoch": ONE, "loss": TWO, "phase": "probe"}],
        weights=["x", "between", "y"],
    )
    assert compare(answer(), more) == ([], ["metrics b", "series t", "curve phase", "1 tensors"])
