import pytest
import torch

from methods.gcl import node_ogb
from methods.gcl.nodes import ogb
from methods.gcl.nodes.learner import Learner
from methods.gcl.nodes.task import NodeTask
from methods.gcl.settings import NodeSettings
from retable.evaluate.probes import chosen_accuracy, chosen_answers, probe
from retable.run import make_context


@pytest.fixture
def untrained(arxiv) -> tuple[ogb.OgbTask, Learner]:
    """The task of an archive of one's own and an encoder with its first weights."""
    workspace, cells = arxiv
    settings = NodeSettings.parse(cells["untrained"].settings, "gcl/node-ogb")
    context = make_context(workspace, cells["untrained"], 0, torch.device("cpu"))
    experiment = node_ogb.NodeOgb(settings, context)
    return experiment.task, experiment.model


def test_ogbs_score_is_the_accuracy_of_the_probe(untrained):
    task, learner = untrained
    z = learner.embed().detach()
    ((val, test),) = task.protocols.values()
    probed = probe(z, task.y, task.train)
    on_test, on_val = chosen_accuracy(probed.right, val, test)
    expected = {"ogb_test_accuracy": on_test.item(), "ogb_val_accuracy": on_val.item()}
    assert task.scores(z) == pytest.approx(expected | chosen_answers("ogb_test_accuracy", probed, val, test))


def test_geometry_in_parts_is_that_of_the_other_recipes(untrained, monkeypatch):
    task, learner = untrained
    z = learner.embed().detach()
    monkeypatch.setattr(ogb, "EDGES_AT_ONCE", 7)
    assert task.geometry(z) == pytest.approx(NodeTask.geometry(task, z), rel=1e-5)
