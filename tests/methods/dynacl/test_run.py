"""The story on digits and at the paper's size; every demo variant is in tests/methods/test_contract.py."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from methods.dynacl.data import Part, views
from methods.dynacl.run import build, evaluate, run
from methods.dynacl.schedules import Augmentation
from retable.cards import CardError, load_dataset, load_paper
from retable.plan import Cell, recipe_cells
from retable.run import make_deterministic
from retable.train.context import Context

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())
DATASETS = {name: load_dataset(ROOT / "datasets" / f"{name}.yaml") for name in ("digits-16", "cifar10")}
RECIPE = load_paper(ROOT / "methods" / "dynacl" / "card.yaml").recipe("pretrain")
SHORT = {"epochs": 2, "probe_epochs": 2, "aa_images": 10, "aa_iterations": 2, "attacked_images": 50, "pgd_iters": 3}


def cell(scale: str, variant: str, **settings) -> Cell:
    found = next(c for c in recipe_cells("dynacl", RECIPE, DATASETS, scale) if c.variant == variant)
    return dataclasses.replace(found, settings=found.settings | settings)


def context(cell: Cell, folder: Path, seed: int = 0) -> Context:
    make_deterministic(torch.device("cpu"))
    return Context(cell, seed, DATASETS[cell.dataset], folder, folder / f"state-{seed}", torch.device("cpu"), "f")


def test_all_evaluations_stand_side_by_side_and_come_back_from_kept_weights(tmp_path):
    short = {"aff_epochs": 1, "aff_batch": 500, "alf_iters": 1, "trades_iters": 1, "probe_batch": 500}
    asked = cell("demo", "dynacl", evaluations="slf+alf+aff", **SHORT | short)
    here = context(asked, tmp_path)
    measured = run(asked, here)
    for prefix in ("", "alf_", "aff_"):
        assert {f"{prefix}{name}" for name in ("accuracy", "pgd_accuracy", "aa_lite_accuracy")} <= set(measured.metrics)
    assert evaluate(asked, here).metrics == measured.metrics
    assert set(measured.series) == {curve.series for curve in RECIPE.curves}
    assert all(len(values) == len(curve.at) for curve in RECIPE.curves for values in [measured.series[curve.series]])
    assert here.pictures["adversarial-examples"].width == 2 * 8 * 16


def test_what_has_no_label_is_pretrained_on_and_what_has_one_is_classified(tmp_path, monkeypatch):
    """As with STL-10: DYNACL++ on digits of which most have lost their label."""
    asked = cell("demo", "dynacl-plus", **SHORT | {"lp_epochs": 1, "aft_epochs": 1})
    here = context(asked, tmp_path)
    images, split = here.data()
    images.labels.flags.writeable = True
    images.labels[split.train[200:]] = -1
    monkeypatch.setattr(here, "data", lambda: (images, split))
    story = build(asked, here)
    assert (len(story.task.unlabelled), len(story.task.train), len(story.labels.y)) == (800, 200, 800)
    assert {"accuracy", "pgd_accuracy"} <= set(run(asked, here).metrics)


def test_a_standard_autoattack_bears_its_own_name(tmp_path):
    asked = cell("demo", "untrained", aa_version="standard", **SHORT | {"aa_images": 2})
    metrics = run(asked, context(asked, tmp_path)).metrics
    assert "autoattack_accuracy" in metrics
    assert "aa_lite_accuracy" not in metrics


def test_the_answer_that_does_not_look_is_robust(tmp_path):
    asked = cell("demo", "majority", attacked_images=500)
    metrics = run(asked, context(asked, tmp_path)).metrics
    assert metrics["accuracy"] == metrics["pgd_accuracy"] == pytest.approx(10, abs=1)


@pytest.mark.parametrize(
    ("variant", "settings", "message"),
    [
        ("dynacl", {"method": "contrastiv"}, "unknown method 'contrastiv'; did you mean 'contrastive'"),
        ("dynacl", {"evaluations": "slf+afl"}, "unknown evaluation 'afl'"),
        ("dynacl", {"optimiser": "adam"}, "unknown optimiser 'adam'"),
        ("dynacl", {"arch": "huge"}, "unknown arch 'huge'"),
        ("dynacl", {"aa_version": "light"}, "unknown aa_version 'light'; did you mean 'lite'"),
        ("dynacl-plus", {"clusters": 11, "epochs": 1}, "clusters is 11; expected 2 to the number of classes, 10"),
        ("dynacl", {"eps": 8.0}, r"eps is 8\.0"),
    ],
)
def test_bad_settings_are_one_line(variant, settings, message, tmp_path):
    asked = cell("demo", variant, **SHORT | {"lp_epochs": 1, "aft_epochs": 1} | settings)
    with pytest.raises((CardError, ValueError), match=message) as caught:
        run(asked, context(asked, tmp_path))
    assert "\n" not in str(caught.value)


def test_settings_are_refused_before_anything_is_trained(tmp_path):
    for settings in ({"aa_version": "light"}, {"clusters": 11}):
        asked = cell("demo", "dynacl-plus", **settings)
        with pytest.raises(CardError):
            build(asked, context(asked, tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"eps": 8.0}, r"eps is 8\.0; expected above 0 and at most 1"), ({"pgd_iters": 0}, "the attack has 0 iterations")],
)
def test_attacks_that_come_only_after_training_are_refused_before_it(settings, message, tmp_path):
    asked = cell("demo", "simclr", **settings)
    with pytest.raises(ValueError, match=message):
        build(asked, context(asked, tmp_path))


def test_pseudo_labels_are_learned_from_a_linear_layer_of_zeros(tmp_path):
    asked = cell("demo", "dynacl-plus", epochs=1)
    story = build(asked, context(asked, tmp_path))
    story.phases()[1].begin()
    assert not story.tuned.linear.weight.any()
    assert not story.tuned.linear.bias.any()
    assert len(story.labels.y.unique()) == 10
    assert torch.equal(story.tuned.encoder.stem.layer.weight, story.pretraining.pair.result.stem.layer.weight)


@pytest.mark.slow
def test_attacks_fell_simclr_and_not_adversarial_pretraining(tmp_path):
    """The trend that is reliable at this size: robustness of SimCLR, ACL and DYNACL, mean of two seeds."""
    robust = {}
    for variant in ("simclr", "acl", "dynacl"):
        asked = cell("demo", variant, eps=0.1, step_size=0.025, epochs=20, attack_iters=5)
        runs = [run(asked, context(asked, tmp_path / variant, seed)).metrics for seed in (0, 1)]
        robust[variant] = sum(metrics["pgd_accuracy"] for metrics in runs) / 2
        assert all(metrics["pgd_accuracy"] <= metrics["accuracy"] + 5 for metrics in runs)
    assert robust["acl"] > robust["simclr"]
    assert robust["dynacl"] > robust["simclr"]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["resnet18", "resnet18-stl"])
def test_two_steps_of_the_full_recipe(arch, tmp_path, monkeypatch):
    """ResNet-18 at its image size, LARS at the paper's rate, the momentum pair, five attack steps."""
    asked = cell("full", "dynacl", arch=arch)
    digits = dataclasses.replace(cell("demo", "dynacl"), settings=asked.settings)
    pretraining = build(digits, context(digits, tmp_path)).pretraining
    size = 96 if arch.endswith("stl") else 32
    torch.manual_seed(0)
    images = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    before = [parameter.detach().clone() for parameter in pretraining.pair.q.parameters()]
    slow = [parameter.detach().clone() for parameter in pretraining.pair.k.parameters()]
    strength, weight = pretraining.schedule(500)
    assert (strength, weight) == (pytest.approx(0.55), pytest.approx(4 / 3))
    pretraining.pair.train()
    for _ in range(2):
        loss = pretraining.step(views(images, Augmentation.of_strength(strength), digits.settings), weight)
        assert loss.isfinite()
    with torch.no_grad():
        q, k = (
            [float((new - old).norm()) for new, old in zip(network.parameters(), start, strict=True)]
            for network, start in ((pretraining.pair.q, before), (pretraining.pair.k, slow))
        )
        moved = [far / float(old.norm()) for far, old in zip(q, before, strict=True) if old.ndim > 1]
    assert all(1e-3 < share < 0.1 for share in moved)
    assert 0 < sum(k) < 0.05 * sum(q)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_steps_of_every_full_evaluation(tmp_path):
    """ResNet-18 at 32 pixels: LP-AFT on pseudo-labels, SLF, ALF, AFF, each with the authors' attacks and rates."""
    asked = cell("full", "dynacl-plus", tune_batch=4, probe_batch=4, aff_batch=4)
    digits = dataclasses.replace(cell("demo", "dynacl-plus"), settings=asked.settings)
    story = build(digits, context(digits, tmp_path))
    torch.manual_seed(0)
    data = Part(torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8))
    rates = {"lp": 0.01, "aft": 0.1, "slf": 0.01, "alf": 0.01, "aff": 0.1}
    trainings = dict(zip(("lp", "aft"), story.tunings, strict=True)) | story.trainings
    assert set(trainings) == set(rates)
    for name, training in trainings.items():
        before = {key: p.detach().clone() for key, p in training.classifier.named_parameters()}
        assert math.isfinite(training.epoch(1, data, seed=0))
        assert training.optimiser.param_groups[0]["lr"] == rates[name]
        moved = {key for key, p in training.classifier.named_parameters() if not torch.equal(p, before[key])}
        linear = {"linear.weight", "linear.bias"}
        assert moved == linear if training.plan.what != "trades" else moved > linear
