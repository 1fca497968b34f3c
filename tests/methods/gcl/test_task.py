import pytest
import torch

from methods.gcl.task import Task, controls


class Sums(Task):
    """Scores a sum, and has features whose sum is 6."""

    def scores(self, z):
        return {"score": float(z.sum()), "both": 1.0}

    def geometry(self, z):
        return {"rows": float(len(z)), "both": 2.0}

    def majority_scores(self):
        return {"score": 50.0}

    def raw_features(self):
        return torch.tensor([[1.0], [2.0], [3.0]])


def test_all_metrics_are_scores_and_geometry():
    assert Sums().evaluate(torch.ones(2, 3)) == {"score": 6, "both": 2, "rows": 2}


def test_controls_load_the_task_of_their_cell_and_train_nothing():
    loaded = []
    made = controls(lambda *cell: loaded.append(cell) or Sums())
    assert list(made) == ["majority", "raw-features"]
    assert loaded == []
    assert made["majority"]("settings", "context").metrics == {"score": 50}
    assert made["raw-features"]("settings", "context").metrics == {"score": 6, "both": 2, "rows": 3}
    assert loaded == [("settings", "context")] * 2


def test_a_task_has_to_say_what_its_scores_are():
    for ask in (Task().scores, Task().geometry):
        with pytest.raises(NotImplementedError):
            ask(torch.ones(2, 1))
