import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from retable.evaluate.probes import Probed, adam_probe, chosen_accuracy, chosen_answers, fit_logistic, probe


def digits(splits: int = 3, rows: int = 600) -> tuple[torch.Tensor, ...]:
    x, y = load_digits(return_X_y=True)
    x, y = torch.from_numpy(x[:rows]) / 16, torch.from_numpy(y[:rows])
    place = torch.stack([torch.randperm(rows, generator=torch.Generator().manual_seed(k)) for k in range(splits)])
    return x, y, place < rows // 10, (place >= rows // 10) & (place < rows // 5), place >= rows // 5


def test_solutions_are_those_of_scikit_learn() -> None:
    x, y, train, _, _ = digits()
    train[1] &= torch.rand(len(y), generator=torch.Generator().manual_seed(0)) < 0.7  # splits of different sizes
    penalties = (1e-1, 1e-2, 1e-3)
    fit = fit_logistic(x, y, train, penalties, tolerance=1e-9, max_iterations=3000)
    for s, mask in enumerate(train):
        for r, penalty in enumerate(penalties):
            reference = LogisticRegression(C=1 / (penalty * int(mask.sum())), tol=1e-10, max_iter=10_000)
            reference.fit(x[mask], y[mask])
            assert len(reference.classes_) == 10
            torch.testing.assert_close(
                fit.weight[s, r], torch.from_numpy(reference.coef_.T).contiguous(), atol=1e-4, rtol=1e-4
            )
            expected = torch.from_numpy(reference.intercept_)
            bias = fit.bias[s, r]
            torch.testing.assert_close(bias - bias.mean(), expected - expected.mean(), atol=1e-4, rtol=1e-4)
            assert (fit.predict(x)[s, r] == torch.from_numpy(reference.predict(x))).double().mean() > 0.999


def test_each_problem_is_solved_as_if_alone() -> None:
    x, y, train, _, _ = digits()
    together = fit_logistic(x, y, train, (1e-1, 1e-3), tolerance=1e-8, max_iterations=2000)
    alone = fit_logistic(x, y, train[2:], (1e-3,), tolerance=1e-8, max_iterations=2000)
    torch.testing.assert_close(together.weight[2, 1], alone.weight[0, 0], atol=1e-4, rtol=1e-4)


def test_accuracy_is_no_worse_than_that_of_many_adam_steps() -> None:
    x, y, train, val, test = digits(splits=2)
    x = x.float()
    ours, _ = chosen_accuracy(probe(x, y, train).right, val, test)
    torch.manual_seed(0)
    fit = adam_probe(x, y, train, val, steps=1500)
    theirs = 100 * ((fit.predictions == y) & test).sum(1) / test.sum(1)
    assert ours.mean() > theirs.mean() - 0.5


def test_shift_and_scale_of_features_do_not_matter() -> None:
    x, y, train, _, _ = digits()
    assert (probe(x, y, train).right == probe(1000 + 50 * x, y, train).right).double().mean() > 0.99


def test_features_without_variation_give_the_majority_class() -> None:
    _, y, train, _, _ = digits()
    probed = probe(torch.ones(len(y), 4), y, train)
    for s, mask in enumerate(train):
        counts = torch.bincount(y[mask])
        assert counts[y[probed.right[s, 0]].unique()].tolist() == [counts.max().item()]
    everywhere = torch.ones_like(train)
    recorded = chosen_answers("test_accuracy", probed, everywhere, everywhere)
    assert recorded == {"test_largest_class_share": 100, "test_items": len(y), "test_unconverged": 0}


def test_a_class_missing_from_training_is_not_answered() -> None:
    x, y, train, _, _ = digits()
    train &= y != 4
    answers = fit_logistic(x, y, train, (1e-2,)).predict(x)
    assert not bool((answers == 4).any())
    assert (answers == y).double().mean() > 0.7


def test_the_penalty_is_chosen_on_validation_and_the_first_of_equals_is_taken() -> None:
    right = torch.tensor([[[1, 0, 1, 0], [1, 0, 0, 1], [0, 0, 1, 1]]]).bool()
    val, test = torch.tensor([[1, 1, 0, 0]]).bool(), torch.tensor([[0, 0, 1, 0]]).bool()
    on_test, on_val = chosen_accuracy(right, val, test)
    assert (on_test.item(), on_val.item()) == (100, 50)


def test_the_answers_at_the_chosen_penalties_are_recorded() -> None:
    answers = torch.tensor([[[0, 0, 1, 1, 1], [0, 0, 1, 1, 0]], [[1, 1, 0, 1, 1], [0, 1, 0, 1, 1]]])
    val = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 0, 0, 0]]).bool()
    y = torch.tensor([0, 1, 1, 1, 1])
    # Of split 0 the first of two equals is chosen, of split 1 the second, which did not converge.
    probed = Probed(answers, answers == y, torch.tensor([[True, False], [True, False]]))
    recorded = chosen_answers("accuracy", probed, val, ~val)
    assert recorded == {
        "largest_class_share": pytest.approx((100 + 100 * 2 / 3) / 2),
        "test_items": 3,
        "unconverged": 1,
    }


def test_a_fit_that_runs_out_of_steps_has_not_converged() -> None:
    x, y, train, _, _ = digits()
    penalties = (1e-1, 1e-6)
    assert fit_logistic(x, y, train, penalties, tolerance=1e-4, max_iterations=5000).converged.all()
    assert not fit_logistic(x, y, train, penalties, tolerance=1e-4, max_iterations=5).converged.any()


def test_a_split_without_training_rows_is_refused() -> None:
    x, y, train, _, _ = digits()
    train[1] = False
    with pytest.raises(ValueError, match="no training rows"):
        probe(x, y, train)
