import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from methods.contranorm import vision
from methods.contranorm.settings import VisionSettings
from methods.contranorm.token import TokenContraNorm
from methods.contranorm.vision import first_images, make_model, make_optimiser, spectra
from retable.cards import CardError
from retable.config import Config, Workspace
from retable.evaluate.spectra import effective_rank, mean_cosine_similarity
from retable.plan import Cell, recipe_cells
from retable.run import make_context, measure
from retable.train.context import Result


@pytest.fixture
def workspace(root, tmp_path) -> Workspace:
    for name in ("methods", "datasets", "retable"):
        (tmp_path / name).symlink_to(root / name)
    return Workspace(tmp_path, Config(device="cpu"))


def cell_of(workspace: Workspace, scale: str, variant: str, **settings) -> Cell:
    recipe = workspace.papers["contranorm"].recipe("vision")
    cells = recipe_cells("contranorm", recipe, workspace.datasets, scale)
    chosen = next(cell for cell in cells if cell.variant == variant)
    return dataclasses.replace(chosen, settings=chosen.settings | settings)


def settings_of(workspace: Workspace, scale: str, variant: str, **changes) -> VisionSettings:
    return VisionSettings.parse(cell_of(workspace, scale, variant, **changes).settings, "vision")


def result_of(workspace: Workspace, cell: Cell, seed: int = 0) -> Result:
    return measure(vision, cell, make_context(workspace, cell, seed, torch.device("cpu")))


def test_every_layer_norm_becomes_the_token_layer(workspace):
    settings = settings_of(workspace, "demo", "contranorm", depth=3)
    modules = list(make_model(settings, 10).modules())
    token_layers = [module for module in modules if isinstance(module, TokenContraNorm)]
    assert len(token_layers) == 2 * 3 + 1
    assert sum(isinstance(module, nn.LayerNorm) for module in modules) == len(token_layers)
    assert {(layer.scale, layer.layernorm.eps) for layer in token_layers} == {(0.5, 1e-6)}
    plain = make_model(settings_of(workspace, "demo", "contranorm", depth=3, norm="LN"), 10)
    assert not [module for module in plain.modules() if isinstance(module, TokenContraNorm)]


def test_both_variants_start_from_the_same_weights(workspace):
    weights = []
    for norm in ("LN", "CN"):
        torch.manual_seed(0)
        weights.append(list(make_model(settings_of(workspace, "demo", "contranorm", norm=norm), 10).parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize(("depth", "millions"), [(12, 5.7), (24, 11.1)])
def test_the_full_recipe_is_deit_tiny(workspace, depth, millions):
    settings = settings_of(workspace, "full", "layernorm", depth=depth)
    with torch.device("meta"):
        model = make_model(settings, 1000)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions
    assert {block.drop_path1.drop_prob for block in model.blocks if hasattr(block.drop_path1, "drop_prob")} <= {
        *torch.linspace(0, 0.1, depth).tolist()
    }


def test_an_unknown_norm_is_named(workspace):
    with pytest.raises(CardError, match=r"setting 'norm' is 'BN': .* 'LN' or 'CN'"):
        settings_of(workspace, "demo", "contranorm", norm="BN")


def test_weight_decay_spares_vectors_and_tokens(workspace):
    model = make_model(settings_of(workspace, "demo", "contranorm"), 10)
    groups = make_optimiser(model, lr=0.1, weight_decay=0.05).param_groups
    spared = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    decayed = {id(p) for group in groups if group["weight_decay"] == 0.05 for p in group["params"]}
    names = dict(model.named_parameters())
    assert {id(names["cls_token"]), id(names["pos_embed"]), id(names["norm.layernorm.weight"])} <= spared
    assert {id(p) for name, p in names.items() if p.ndim > 1 and "token" not in name and "pos" not in name} == decayed


def test_spectra_are_of_the_tokens_of_each_block(workspace):
    model = make_model(settings_of(workspace, "demo", "contranorm", depth=3), 10).eval()
    x = torch.randn(4, 3, 16, 16)
    series = spectra(model, x)
    assert set(series) == {
        f"{name}/{stage}" for name in ("similarity", "effective_rank") for stage in ("norm", "block")
    }
    with torch.no_grad():
        tokens = model._pos_embed(model.patch_embed(x))
        for index, block in enumerate(model.blocks):
            rank = effective_rank(block.norm1(tokens)).mean().item()
            tokens = block(tokens)
            similarity = mean_cosine_similarity(tokens).mean().item()
            assert series["effective_rank/norm"][index] == pytest.approx(rank)
            assert series["similarity/block"][index] == pytest.approx(similarity)
    assert not any(module._forward_hooks for module in model.modules())


def test_first_images_stop_at_the_number():
    batches = [(torch.full((3, 1, 1, 1), float(i)), torch.zeros(3)) for i in range(4)]
    assert first_images(iter(batches), 5).flatten().tolist() == [0, 0, 0, 1, 1]
    assert len(first_images(iter(batches), 50)) == 12


def test_a_short_training_learns_the_digits(workspace):
    measured = result_of(workspace, cell_of(workspace, "demo", "contranorm", epochs=8, depth=2))
    assert measured.metrics["last_test_accuracy"] > 40  # chance: 10
    assert 10 <= measured.metrics["last_test_largest_class_share"] < 100
    assert {len(series) for series in measured.series.values()} == {2}


def test_the_control_reads_pixels_alone(workspace):
    cell = cell_of(workspace, "demo", "ridge")
    metrics = [result_of(workspace, cell, seed).metrics for seed in (0, 1)]
    assert metrics[0] == metrics[1]
    assert 85 < metrics[0]["last_test_accuracy"] < 100
    assert np.isfinite(list(metrics[0].values())).all()


def test_the_example_of_the_readme_runs(root):
    readme = (root / "methods" / "contranorm" / "README.md").read_text(encoding="utf-8")
    section = readme.split("## In vision transformers\n", 1)[1]
    exec(section.split("```python\n", 1)[1].split("```", 1)[0], {})
