import pytest
import torch
import torch.nn.functional as F
from torch import nn

from retable.evaluate.attacks import auto_attack, pgd, pgd_examples

SHAPE = (3, 4, 4)


def linear(classes, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes)).requires_grad_(False).eval()


def curved(classes=10):
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, classes)
    return nn.Sequential(*layers).requires_grad_(False).eval()


def images(number=20):
    torch.manual_seed(1)
    return 0.2 + 0.6 * torch.rand(number, *SHAPE)


# Projected gradient ascent --------------------------------------------------------------------------------------------


def test_reaches_the_corner_of_the_ball_that_a_linear_objective_wants():
    x, direction = images(4), torch.randn(4, *SHAPE)
    attacked = pgd(lambda images: (images * direction).sum(), x, eps=0.1, step=0.05, iterations=5)
    torch.testing.assert_close(attacked, x + 0.1 * direction.sign())


def test_stays_in_the_ball_and_in_the_box():
    x = torch.rand(50, *SHAPE).round()
    attacked = pgd(lambda images: images.square().sum(), x, eps=0.3, step=0.2, iterations=3)
    assert (attacked - x).abs().max() <= 0.3 + 1e-6
    assert attacked.min() >= 0
    assert attacked.max() <= 1


def test_the_start_decides_and_is_drawn_from_torchs_stream_if_absent():
    x, model = images(), curved()
    y = model(x).argmax(1)
    settings = {"eps": 0.05, "step": 0.01, "iterations": 2}
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(pgd_examples(model, x, y, **settings))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    torch.manual_seed(1)
    start = torch.empty_like(x).uniform_(-0.05, 0.05)
    assert torch.equal(drawn[0], pgd_examples(model, x, y, start=start, **settings))


def test_raises_the_cross_entropy_of_every_image_alike_whatever_the_batch():
    x, model = images(), curved()
    y = model(x).argmax(1)
    settings = {"eps": 0.1, "step": 0.03, "iterations": 10, "start": torch.zeros_like(x)}
    attacked = pgd_examples(model, x, y, **settings)
    loss = [F.cross_entropy(model(batch), y, reduction="none") for batch in (x, attacked)]
    assert (loss[1] > loss[0]).all()
    settings["start"] = torch.zeros_like(x[:3])
    torch.testing.assert_close(pgd_examples(model, x[:3], y[:3], **settings), attacked[:3])


def test_works_where_gradients_are_off():
    with torch.no_grad():
        attacked = pgd(lambda images: images.sum(), images(2), eps=0.1, step=0.1, iterations=1)
    assert not attacked.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 8.0}, r"eps is 8.0; expected above 0 and at most 1, in units of pixels"),
        ({"eps": 0.0}, "eps is 0.0"),
        ({"step": -0.1}, "step is -0.1"),
        ({"iterations": 0}, "0 iterations"),
        ({"x": images(2) * 255}, r"images lie in \[.*\]; expected \[0, 1\]"),
        ({"x": images(2) - 1}, r"images lie in \[-"),
        ({"x": images(2) * float("nan")}, r"images lie in \[nan, nan\]"),
    ],
)
def test_bad_input(change, message):
    settings = {"x": images(2), "eps": 0.1, "step": 0.1, "iterations": 1} | change
    with pytest.raises(ValueError, match=message):
        pgd(lambda images: images.sum(), **settings)


# AutoAttack -----------------------------------------------------------------------------------------------------------


def exact_margin(model, x, y):
    """How far a linear model's answer y is from changing, in L-infinity."""
    weight, logits = model[1].weight, model(x)
    gaps = logits.gather(1, y[:, None]) - logits
    slopes = (weight[y][:, None] - weight).abs().sum(2)
    return (gaps / slopes.clamp(min=1e-12)).masked_fill(F.one_hot(y, len(weight)).bool(), torch.inf).amin(1)


@pytest.mark.parametrize("classes", [2, 3, 4, 6, 10, 12])
def test_finds_the_exact_answer_for_linear_models_of_any_number_of_classes(classes):
    model, x = linear(classes), images(40)
    y = model(x).argmax(1)
    margin = exact_margin(model, x, y)
    eps = float(margin.median())
    clear = (margin - eps).abs() > 0.05 * eps
    attacked, answers = auto_attack(model, x, y, eps=eps, seed=0, version="lite", iterations=30)
    assert ((answers == y) == (margin > eps))[clear].all()
    assert (attacked - x).abs().max() <= eps + 1e-6
    assert torch.equal(model(attacked).argmax(1), answers)


def test_the_standard_version_is_at_least_as_strong_as_its_first_half():
    model, x = curved(), images(12)
    y = model(x).argmax(1)
    settings = {"eps": 0.02, "seed": 3, "iterations": 5}
    lite, standard = (auto_attack(model, x, y, version=name, **settings)[1] == y for name in ("lite", "standard"))
    assert not (standard & ~lite).any()
    assert 0 < lite.float().mean() < 1


def test_the_same_seed_gives_the_same_images_and_torchs_stream_goes_on():
    model, x = curved(), images()
    y = model(x).argmax(1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    settings = {"eps": 0.03, "version": "lite", "iterations": 1}
    first, again, other = (auto_attack(model, x, y, seed=seed, **settings)[0] for seed in (2**62, 2**62, 1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_wrong_answers_are_not_attacked():
    model, x = curved(), images(8)
    wrong = (model(x).argmax(1) + 1) % 10
    attacked, answers = auto_attack(model, x, wrong, eps=0.1, seed=0, version="lite", iterations=2)
    assert torch.equal(attacked, x)
    assert not (answers == wrong).any()


def test_autoattack_refuses_what_it_cannot_do():
    x = images(2)
    y = torch.zeros(2, dtype=torch.int64)
    for model, change, message in (
        (linear(10), {"version": "plus"}, "version is 'plus'; expected one of standard, lite"),
        (linear(10), {"eps": 8.0}, "eps is 8.0"),
        (linear(1), {}, "1 output"),
    ):
        with pytest.raises(ValueError, match=message):
            auto_attack(model, x, y, **({"eps": 0.1, "seed": 0} | change))
