"""The suite from a notebook: one cell measured, somebody else's model under the papers' protocols."""

from pathlib import Path

import pytest
import torch

import retable
from retable.cards import CardError
from retable.config import Workspace
from retable.currency import RecordStore


def test_run_gives_record_curve_and_weights(workspace: Workspace) -> None:
    where = {"variant": "contranorm", "axes": {"depth": 2, "norm_scale": 1.0}, "root": workspace.root, "device": "cpu"}
    small = {"epochs": 4, "eval_every": 2}
    found = retable.run("contranorm/node-depth", settings=small, **where)
    assert found.record.state == "ok"
    assert "last_test_accuracy" in found.record.metrics
    assert [line["epoch"] for line in found.curve] == [2, 4] or len(found.curve) == 4
    assert set(found.weights) == {"best", "last"}
    assert all(isinstance(value, torch.Tensor) for value in found.weights["last"].values())
    # Settings that no card lists are an exploration, which is taken when it is asked for again.
    assert found.record.cell.is_exploration
    assert retable.run("contranorm/node-depth", settings=small, **where).record == found.record
    assert len(RecordStore.open(workspace).explorations.records) == 1


def test_a_selection_of_several_cells_is_refused(workspace: Workspace) -> None:
    with pytest.raises(CardError, match=r"contranorm/node-depth: \d+ cells; choose one by dataset, variant and axes"):
        retable.run("contranorm/node-depth", root=workspace.root)
    with pytest.raises(CardError, match="unknown data set 'core'"):
        retable.run("contranorm/node-depth", dataset="core", root=workspace.root)
    with pytest.raises(CardError, match="unknown setting 'rl'"):
        retable.run("contranorm/node-depth", variant="none", axes={"depth": 2}, settings={"rl": 1}, root=workspace.root)


def test_the_module_of_that_name_is_still_one() -> None:
    import retable.run
    from retable.run import run_cell

    assert callable(retable.run)
    assert retable.run.run_cell is run_cell


class Features(torch.nn.Module):
    """Mean pixels of blocks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, 4).flatten(1)


class Gnn(torch.nn.Module):
    """Two of torch-geometric's layers."""

    def __init__(self, features: int, pooled: bool = False) -> None:
        from torch_geometric.nn import GCNConv

        super().__init__()
        self.one, self.two, self.pooled = GCNConv(features, 16), GCNConv(16, 16), pooled

    def forward(self, data) -> torch.Tensor:
        from torch_geometric.nn import global_add_pool

        x = self.two(self.one(data.x, data.edge_index).relu(), data.edge_index)
        return global_add_pool(x, data.batch) if self.pooled else x


def test_a_pyg_model_under_the_node_protocol_stands_beside_the_suites_rows(workspace: Workspace) -> None:
    from dataclasses import replace

    from retable.config import Config
    from retable.run import run_cell

    gcl = Workspace(workspace.root, Config(device="cpu", papers=["gcl"], recipes=["node"]))
    control = next(cell for cell in gcl.cells if cell.variant == "raw-features")
    run_cell(gcl, replace(control, seeds=(0,)))
    torch.manual_seed(0)
    model = Gnn(64).train()
    found = retable.benchmark(
        model, protocol="gcl/node", dataset=control.dataset, scale="demo", root=gcl.root, device="cpu"
    )
    assert model.training
    assert found.metric == "test_accuracy_10_80_10"
    assert 50 < found.metrics[0][found.metric] <= 100
    assert [line.name for line in found.suite] == [gcl.papers["gcl"].recipe("node").variants["raw-features"].label]
    assert "yours" in str(found).splitlines()[1]
    # Features as the paper takes them are its control: the protocol is the paper's own.
    plain = retable.benchmark(
        lambda data: data.x / data.x.sum(1, keepdim=True),
        protocol="gcl/node",
        dataset=control.dataset,
        scale="demo",
        root=gcl.root,
    )
    assert plain.metrics[0][found.metric] == pytest.approx(found.suite[0].values[0], abs=0.2)


def test_graphs_images_and_attacks(workspace: Workspace) -> None:
    torch.manual_seed(0)
    where = {"scale": "demo", "root": workspace.root, "device": "cpu"}
    graphs = retable.benchmark(Gnn(1, pooled=True), protocol="gcl/graph", **where)
    assert 10 < graphs.metrics[0]["svm_accuracy"] <= 100
    images = retable.benchmark(Features(), protocol="umae/pretrain", **where)
    assert images.metrics[0]["cls_probe_accuracy"] > 60
    head = torch.nn.Sequential(Features(), torch.nn.LazyLinear(10))
    head(torch.rand(1, 3, 16, 16))
    attacked = retable.benchmark(head, protocol="dynacl/pretrain", **where)
    assert attacked.metrics[0]["pgd_accuracy"] <= attacked.metrics[0]["accuracy"]
    assert "the suite has no current record" in str(attacked)


def test_protocols_say_what_the_model_must_be(root: Path) -> None:
    offered = retable.protocols(root)
    assert {"gcl/node", "gcl/graph", "umae/pretrain", "dynacl/pretrain"} <= set(offered)
    assert all(text.startswith("From ") for text in offered.values())
    with pytest.raises(CardError, match="unknown protocol 'gcl/nodes'; did you mean 'gcl/node'"):
        retable.benchmark(lambda data: data.x, protocol="gcl/nodes", root=root)
    with pytest.raises(CardError, match="gcl/node: unknown data set 'corra'"):
        retable.benchmark(lambda data: data.x, protocol="gcl/node", dataset="corra", root=root)
