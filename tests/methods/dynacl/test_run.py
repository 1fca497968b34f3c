"""The experiment on digits and at the paper's size; every demo variant is in tests/methods/test_contract.py."""

import dataclasses
import json
import math
from functools import partial
from pathlib import Path

import pytest
import torch

from methods.dynacl import run as module
from methods.dynacl import tuning
from methods.dynacl.data import Part, views
from methods.dynacl.pretrain import make_optimiser, make_pair, schedule, step
from methods.dynacl.run import Dynacl
from methods.dynacl.schedules import Augmentation
from methods.dynacl.settings import PretrainSettings
from retable.cards import CardError, load_dataset, load_paper
from retable.plan import Cell, recipe_cells
from retable.run import evaluate, make_deterministic, measure
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


def parse(cell: Cell) -> PretrainSettings:
    return PretrainSettings.parse(cell.settings, "here")


def test_all_evaluations_stand_side_by_side_and_come_back_from_kept_weights(tmp_path):
    short = {"aff_epochs": 1, "aff_batch": 500, "alf_iters": 1, "trades_iters": 1, "probe_batch": 500}
    asked = cell("demo", "dynacl", evaluations="slf+alf+aff", **SHORT | short)
    here = context(asked, tmp_path)
    measured = measure(module, asked, here)
    for prefix in ("", "alf_", "aff_"):
        assert {f"{prefix}{name}" for name in ("accuracy", "pgd_accuracy", "aa_lite_accuracy")} <= set(measured.metrics)
    assert evaluate(module, asked, here).metrics == measured.metrics
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
    experiment, sizes = Dynacl(parse(asked), here), {}

    def sized(classifier, data, *rest, train):
        sizes[rest[-3].name] = len(data)
        return train(classifier, data, *rest)

    for name in ("train_linear", "finetune_trades"):
        train = partial(sized, train=getattr(tuning, name))
        monkeypatch.setattr(module, name, train)
        monkeypatch.setattr(f"methods.dynacl.lp_aft.{name}", train)
    assert (len(experiment.task.unlabelled), len(experiment.task.train)) == (800, 200)
    assert {"accuracy", "pgd_accuracy"} <= set(measure(module, asked, here).metrics)
    assert sizes == {"lp": 800, "aft": 800, "slf": 200}


def test_a_standard_autoattack_bears_its_own_name(tmp_path):
    asked = cell("demo", "untrained", aa_version="standard", **SHORT | {"aa_images": 2})
    metrics = measure(module, asked, context(asked, tmp_path)).metrics
    assert "autoattack_accuracy" in metrics
    assert "aa_lite_accuracy" not in metrics


def test_the_answer_that_does_not_look_is_robust(tmp_path):
    asked = cell("demo", "majority", attacked_images=500)
    metrics = measure(module, asked, context(asked, tmp_path)).metrics
    assert metrics["accuracy"] == metrics["pgd_accuracy"] == pytest.approx(10, abs=1)
    assert metrics["largest_class_share"] == metrics["pgd_largest_class_share"] == 100


def test_clusters_that_do_not_fit_the_data_are_refused_before_anything_is_trained(tmp_path):
    asked = cell("demo", "dynacl-plus", clusters=11)
    with pytest.raises(CardError, match="clusters is 11; expected 2 to the number of classes, 10"):
        Dynacl(parse(asked), context(asked, tmp_path))


def test_the_papers_phases_come_in_its_order(tmp_path):
    short = {"epochs": 1, "lp_epochs": 1, "aft_epochs": 1, "probe_epochs": 1, "aff_epochs": 1}
    asked = cell("demo", "dynacl-plus", evaluations="slf+alf+aff", **short)
    here = context(asked, tmp_path)
    Dynacl(parse(asked), here).train()
    lines = [json.loads(line) for line in here.curve.read_text().splitlines()]
    assert [line["phase"] for line in lines] == ["pretrain", "lp", "aft", "slf", "alf", "aff"]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("variant", ["dynacl", "dynacl-plus"])
def test_evaluations_keep_the_last_batch_and_are_nesterovs_after_lp_aft(variant, tmp_path, monkeypatch):
    """As the authors' test_LF.py, test_AFF.py and, for DYNACL++, LPAFT.py."""
    stages = {}

    def train(*rest):
        stages[rest[-3].name] = rest[-3]

    for name in ("train_linear", "train_linear_attacked", "finetune_trades"):
        monkeypatch.setattr(module, name, train)
    monkeypatch.setattr(module, "pretrain", lambda *rest: {})
    monkeypatch.setattr(module, "lp_aft", lambda encoder, *rest: encoder)
    asked = cell("full", variant, arch="tiny")
    digits = dataclasses.replace(cell("demo", variant), settings=asked.settings)
    Dynacl(parse(digits), context(digits, tmp_path)).train()
    assert not any(stage.drop_last for stage in stages.values())
    after = variant == "dynacl-plus"
    assert {name: stage.nesterov for name, stage in stages.items()} == {"slf": after, "alf": after, "aff": False}
    assert stages["slf"].optimiser(torch.nn.Linear(2, 2)).defaults["nesterov"] == after


@pytest.mark.slow
@pytest.mark.timeout(900)  # six trainings: 400 s do not suffice on a busy processor
def test_attacks_fell_simclr_and_not_adversarial_pretraining(tmp_path):
    """The trend that is reliable at this size: robustness of SimCLR, ACL and DYNACL, mean of two seeds."""
    robust = {}
    for variant in ("simclr", "acl", "dynacl"):
        asked = cell("demo", variant, eps=0.1, step_size=0.025, epochs=20, attack_iters=5)
        runs = [measure(module, asked, context(asked, tmp_path / variant, seed)).metrics for seed in (0, 1)]
        robust[variant] = sum(metrics["pgd_accuracy"] for metrics in runs) / 2
        assert all(metrics["pgd_accuracy"] <= metrics["accuracy"] + 5 for metrics in runs)
    assert robust["acl"] > robust["simclr"]
    assert robust["dynacl"] > robust["simclr"]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["resnet18", "resnet18-stl"])
def test_two_steps_of_the_full_recipe(arch):
    """ResNet-18 at its image size, LARS at the paper's learning rate, the momentum pair, five attack steps."""
    settings = parse(cell("full", "dynacl", arch=arch))
    size = 96 if arch.endswith("stl") else 32
    torch.manual_seed(0)
    pair = make_pair(settings)
    optimiser = make_optimiser(pair, settings)
    images = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    before = [parameter.detach().clone() for parameter in pair.q.parameters()]
    slow = [parameter.detach().clone() for parameter in pair.k.parameters()]
    strength, weight = schedule(500, settings)
    assert (strength, weight) == (pytest.approx(0.55), pytest.approx(4 / 3))
    pair.train()
    for _ in range(2):
        clean = views(images, Augmentation.of_strength(strength), settings.interpolation, flip=settings.flip)
        assert step(pair, optimiser, clean, weight, settings).isfinite()
    with torch.no_grad():
        q, k = (
            [float((new - old).norm()) for new, old in zip(network.parameters(), start, strict=True)]
            for network, start in ((pair.q, before), (pair.k, slow))
        )
        moved = [far / float(old.norm()) for far, old in zip(q, before, strict=True) if old.ndim > 1]
    assert all(1e-3 < share < 0.1 for share in moved)
    assert 0 < sum(k) < 0.05 * sum(q)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_steps_of_every_full_evaluation(tmp_path, monkeypatch):
    """ResNet-18 at 32 pixels: LP-AFT on pseudo-labels, SLF, ALF, AFF, each with the authors' attacks and rates."""
    asked = cell("full", "dynacl-plus", tune_batch=4, probe_batch=4, aff_batch=4)
    digits = dataclasses.replace(cell("demo", "dynacl-plus"), settings=asked.settings)
    here = context(digits, tmp_path)
    experiment = Dynacl(parse(digits), here)
    torch.manual_seed(0)
    data = Part(torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8))
    experiment.task.train = experiment.task.unlabelled = data
    monkeypatch.setattr("methods.dynacl.lp_aft.assign_pseudo_labels", lambda features, clusters, seed: data.y)
    monkeypatch.setattr(module, "pretrain", lambda *rest: {})
    rates = {"lp": 0.01, "aft": 0.1, "slf": 0.01, "alf": 0.01, "aff": 0.1}
    found, losses = {}, []

    def one_epoch(total, phase, classifier, optimiser):
        before = {key: p.detach().clone() for key, p in classifier.named_parameters()}
        torch.manual_seed(0)
        yield 1
        found[phase] = optimiser.param_groups[0]["lr"]
        moved = {key for key, p in classifier.named_parameters() if not torch.equal(p, before[key])}
        linear = {"linear.weight", "linear.bias"}
        assert moved == linear if phase in ("lp", "slf", "alf") else moved > linear

    monkeypatch.setattr(here, "epochs", one_epoch)
    monkeypatch.setattr(here, "log", lambda epoch, loss: losses.append(loss))
    experiment.train()
    assert list(found) == list(rates)
    assert found == rates
    assert len(losses) == 5
    assert all(math.isfinite(loss) for loss in losses)
