import pytest
import torch

from methods.gcl import node_ogb
from methods.gcl.nodes import ogb
from methods.gcl.nodes.learner import Learner
from methods.gcl.nodes.task import NodeTask
from methods.gcl.settings import NodeSettings
from retable.evaluate.probes import chosen_accuracy, probe
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
    on_test, on_val = chosen_accuracy(probe(z, task.y, task.train), val, test)
    got = task.scores(z)
    assert got == pytest.approx({"ogb_test_accuracy": on_test.item(), "ogb_val_accuracy": on_val.item()})


def test_geometry_in_parts_is_that_of_the_other_recipes(untrained, monkeypatch):
    task, learner = untrained
    z = learner.embed().detach()
    monkeypatch.setattr(ogb, "EDGES_AT_ONCE", 7)
    assert task.geometry(z) == pytest.approx(NodeTask.geometry(task, z), rel=1e-5)
