import dataclasses
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from methods.dynacl import few_labels
from methods.dynacl.data import Part
from methods.dynacl.few_labels import FewLabels
from methods.dynacl.settings import FewLabelsSettings
from retable.cards import CardError, load_dataset, load_paper
from retable.evaluate.answers import companion
from retable.plan import Cell, recipe_cells
from retable.run import evaluate, make_deterministic, measure
from retable.train.context import Context

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())
DATASETS = {name: load_dataset(ROOT / "datasets" / f"{name}.yaml") for name in ("digits-16", "cifar10")}
RECIPE = load_paper(ROOT / "methods" / "dynacl" / "card.yaml").recipe("few-labels")
SHORT = {"epochs": 1, "lp_epochs": 1, "aft_epochs": 1, "teacher_epochs": 4, "student_epochs": 2, "aa_images": 10}


def make(tmp_path: Path, **settings) -> tuple[Cell, Context]:
    make_deterministic(torch.device("cpu"))
    found = next(c for c in recipe_cells("dynacl", RECIPE, DATASETS, "demo") if c.variant == "dynacl-plus")
    cell = dataclasses.replace(found, settings=found.settings | SHORT | settings)
    return cell, Context(cell, 0, DATASETS[cell.dataset], tmp_path, tmp_path / "s", torch.device("cpu"), "f")


def build(cell: Cell, context: Context) -> FewLabels:
    return FewLabels(FewLabelsSettings.parse(cell.settings, "here"), context)


def test_the_loss_is_the_mean_of_its_rows():
    torch.manual_seed(0)
    clean, attacked, soft = torch.randn(3, 7, 4, dtype=torch.float64)
    y = torch.tensor([1, 3])
    terms = []
    for row in range(7):
        p, student = clean[row].softmax(0), attacked[row].log_softmax(0)
        stable = 6 * (p * (p.log() - student)).sum()
        taught = (soft[row].softmax(0) * (soft[row].log_softmax(0) - student)).sum()
        terms.append(stable + (taught if row >= 2 else 0.5 * taught - 0.5 * student[y[row]]))
    found = few_labels.few_labels_loss(clean, attacked, soft, y, labelled=2, beta=6.0)
    torch.testing.assert_close(found["loss"], torch.stack(terms).mean())
    torch.testing.assert_close(found["labelled"] + found["unlabelled"] + found["stability"], found["loss"])


def test_with_labels_everywhere_and_a_teacher_that_repeats_them_it_is_trades_on_attacked_images():
    torch.manual_seed(0)
    clean, attacked, y = torch.randn(5, 3), torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    sure = 100 * F.one_hot(y, 3).float()
    found = few_labels.few_labels_loss(clean, attacked, sure, y, labelled=5, beta=0.0)["loss"]
    torch.testing.assert_close(found, F.cross_entropy(attacked, y))


@pytest.mark.parametrize(
    ("labelled", "unlabelled", "largest", "number"),
    [(4500, 40500, 250, 180), (450, 44550, 250, 225), (100, 900, 250, 4), (7, 11, 6, 3), (1, 50, 10, 1)],
)
def test_both_parts_are_dealt_evenly_as_the_authors_deal_them(labelled, unlabelled, largest, number):
    assert few_labels.shared_batches(labelled, unlabelled, largest) == number


def test_the_labelled_part_has_every_class_and_nothing_is_in_two_parts(tmp_path):
    cell, context = make(tmp_path)
    few = build(cell, context)
    assert few.labelled.y.bincount().tolist() == [10] * 10
    assert len(few.labelled) + len(few.unlabelled) == 1000
    assert len(few.val) == 297
    task = few.task
    task.val = task.val.first(0)
    parts = few_labels.divide(task, 0.1, 0)
    assert [len(part) for part in parts] == [90, 813, 97]  # tenths of each class, rounded down
    images = torch.cat([part.x for part in parts]).flatten(1)
    assert len(images.unique(dim=0)) == len(task.train.x.flatten(1).unique(dim=0))
    again, other = few_labels.divide(task, 0.1, 0)[0], few_labels.divide(task, 0.1, 1)[0]
    assert torch.equal(again.x, parts[0].x)
    assert not torch.equal(other.x, parts[0].x)


def test_one_label_a_class_at_least(tmp_path):
    cell, context = make(tmp_path, labels="0.01%")
    assert build(cell, context).labelled.y.tolist() == list(range(10))


def test_learning_rates_fall_where_acls_scripts_let_them_fall():
    for epochs, drops, falls in ((100, few_labels.TEACHER_DROPS, (40, 60)), (15, few_labels.STUDENT_DROPS, (5, 10))):
        lrs = [few_labels.lr_at(epoch, epochs, 0.1, drops) for epoch in range(1, epochs + 1)]
        assert lrs == pytest.approx([0.1 * 0.1 ** sum(e >= fall for fall in falls) for e in range(1, epochs + 1)])


def test_the_teacher_labels_what_has_no_label(tmp_path):
    cell, context = make(tmp_path)
    few = build(cell, context)
    x, y = torch.rand(6, 3, 16, 16), torch.tensor([9, 9])
    with torch.no_grad():
        few.teacher.linear.bias.copy_(100 * F.one_hot(torch.tensor(4), 10))
    attacked, soft = few.attack(x, y)
    assert soft.argmax(1).tolist() == [4] * 6
    assert (attacked - x).abs().max() <= cell.settings["eps"] + 1e-6
    assert not few.teacher.encoder.stem.layer.weight.grad


@pytest.mark.slow
def test_labels_teach_and_come_back_from_kept_weights(tmp_path):
    cell, context = make(tmp_path, teacher_epochs=15, student_epochs=8, epochs=4)
    measured = measure(few_labels, cell, context)
    names = {"accuracy", "pgd_accuracy", "aa_lite_accuracy", "corruption_accuracy"}
    companions = {companion(name, beside) for name in names for beside in ("largest_class_share", "test_items")}
    assert set(measured.metrics) == {f"{best}{name}" for best in ("", "best_clean_") for name in names | companions}
    assert measured.metrics["accuracy"] > 30  # of ten classes
    assert evaluate(few_labels, cell, context).metrics == measured.metrics
    assert set(measured.series) >= {curve.series for curve in RECIPE.curves}
    assert "adversarial-examples" in context.pictures


@pytest.mark.parametrize("labels", ["10", "0%", "100%", "some", "-1%"])
def test_shares_that_mean_nothing_are_named(labels, tmp_path):
    with pytest.raises(CardError, match=f"labels is '{labels}'; expected a share"):
        build(*make(tmp_path, labels=labels))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_steps_of_the_full_recipe(tmp_path, monkeypatch):
    """ResNet-18 at 32 pixels: an epoch of two batches of teacher and of student, with the authors' attack."""
    full = next(c for c in recipe_cells("dynacl", RECIPE, DATASETS, "full") if c.variant == "dynacl-plus")
    cell, context = make(tmp_path, **full.settings | {"teacher_batch": 2, "student_batch": 6})
    few = build(cell, context)
    torch.manual_seed(0)
    parts = (Part(torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8), torch.arange(n)) for n in (4, 8, 5))
    few.labelled, few.unlabelled, few.val = parts
    losses, phases = [], []

    def one_epoch(total, phase, optimiser, **rest):
        phases.append(phase)
        network = few.teacher if phase == "teacher" else few.model
        before = [p.detach().clone() for p in network.parameters()]
        yield 1
        assert all(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))

    monkeypatch.setattr(context, "epochs", one_epoch)
    monkeypatch.setattr(context, "log", lambda epoch, loss: losses.append(loss))
    few.train_teacher(few.pair.encoder)
    few.distil(few.pair.encoder)
    assert phases == ["teacher", "distillation"]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    assert set(few.best["robust"].weights) == set(few.model.state_dict())
