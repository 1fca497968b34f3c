"""GIND and its controls from settings."""

import pytest
import torch

from methods.gind.implicit import Diffusion, node_scale
from methods.gind.networks import make_model, make_optimiser
from methods.gind.settings import NodeSettings

EDGES = torch.tensor([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]])
FIELDS = {
    "channels": 6, "layers": 1, "alpha": 0.3, "steps": 4, "gradient_steps": 2, "double": False, "rescale": True,
    "dropout": 0.0, "implicit_dropout": 0.0, "implicit_lr": 0.001, "lr": 0.1, "implicit_weight_decay": 0.0,
    "weight_decay": 0.01, "epochs": 1, "self_loops": False, "symmetrise": True, "keep_loops": False,
    "regulariser": "Lap", "regulariser_rate": 0.1, "patience": 1,
}  # fmt: skip


@pytest.mark.parametrize("method", ["gind", "mlp", "explicit", "gcn"])
def test_each_method_gives_logits_and_one_learning_rate_for_each_part(method: str) -> None:
    torch.manual_seed(0)
    settings = NodeSettings(method=method, **FIELDS)
    model = make_model(settings, 4, 3)
    graph = Diffusion(EDGES, node_scale(EDGES, 5, self_loops=False))
    assert model(torch.rand(5, 4), graph).shape == (5, 3)
    rates = [group["lr"] for group in make_optimiser(model, settings).param_groups]
    assert rates == ([0.1, 0.001] if method in ("gind", "explicit") else [0.1])


def test_the_explicit_form_has_the_parameters_of_gind_and_one_undamped_step() -> None:
    gind, explicit = (make_model(NodeSettings(method=name, **FIELDS), 4, 3) for name in ("gind", "explicit"))
    assert {name: p.shape for name, p in gind.named_parameters()} == {
        name: p.shape for name, p in explicit.named_parameters()
    }
    assert (explicit.iterations.total, explicit.layers[0].alpha, explicit.regulariser) == (1, 1.0, "none")
