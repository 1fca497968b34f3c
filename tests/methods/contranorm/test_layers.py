"""Curves over the layers as numbers, on a small graph, and the recipe that asks them."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from methods.contranorm import layers, run
from retable.cards import load_claims, load_paper
from retable.data.containers import NodeGraph, NodeSplit
from retable.plan import Cell
from retable.run import measure
from retable.train.context import Context

FOLDER = next(f for f in Path(__file__).parents if (f / "datasets").is_dir()) / "methods" / "contranorm"


SETTINGS = {
    "model": "gcn", "depth": 4, "norm": "CN", "norm_scale": 0.5, "tau": 1.0, "dropout": 0.5, "hidden": 6, "residual": 0,
    "layer_norm": "none", "epochs": 2, "lr": 0.1, "weight_decay": 0.0, "eval_every": 1,
}  # fmt: skip


class Small(Context):
    """A context whose data is a graph of 24 nodes."""

    def data(self) -> tuple[NodeGraph, NodeSplit]:
        random = np.random.default_rng(0)
        x = scipy.sparse.csr_matrix((random.random((24, 9)) < 0.4).astype(np.float32))
        masks = [np.arange(24) % 3 == part for part in range(3)]
        return NodeGraph("made-up", x, random.integers(0, 24, (2, 60)), np.arange(24) % 4, {}), NodeSplit(*masks)


def test_each_curve_has_its_mean_beside_the_metrics_of_the_same_run(tmp_path: Path) -> None:
    cell = Cell("contranorm", "layer-statistics", "made-up", "none", "contranorm", {}, SETTINGS, "full", "p", (0,))
    contexts = [Small(cell, 0, None, tmp_path / n, tmp_path / n, torch.device("cpu"), "f") for n in "ab"]
    found, plain = measure(layers, cell, contexts[0]), measure(run, cell, contexts[1])
    assert found.series == plain.series
    means = {
        f"{statistic}_{place}": sum(plain.series[f"{statistic}/{place}"]) / 3
        for statistic in ("similarity", "effective_rank", "variance")
        for place in ("convolution", "norm", "activation")
    }
    assert found.metrics == pytest.approx(plain.metrics | means)


def test_a_claimed_curve_is_the_mean_of_its_layers_and_the_recipe_asks_all() -> None:
    recipe = load_paper(FOLDER / "card.yaml").recipe("layer-statistics")
    claims = {claim.id: claim for claim in load_claims(FOLDER / "claims.csv") if claim.table == "feature figure"}
    for claim in claims.values():
        values = [float(text) for text in claim.source.partition("layers' ")[2].split(", ")]
        assert len(values) == int(claim.setting["depth"]) - 1
        assert claim.mean == pytest.approx(sum(values) / len(values), abs=1e-4)
    asked = {
        answer.claim_id({"dataset": "cora", "variant": variant})
        for answer in recipe.answers
        for variant in recipe.variants
    }
    assert set(claims) <= asked
    assert len(claims) == 19
