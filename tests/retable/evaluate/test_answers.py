import numpy as np
import pytest
import torch

from retable.evaluate.answers import beside, companion, largest_class_share, unconverged


@pytest.mark.parametrize("of", [np.array, torch.tensor])
def test_the_share_is_that_of_the_most_frequent_class(of):
    assert largest_class_share(of([2, 0, 2, 5])) == 50
    assert largest_class_share(of([3, 3, 3])) == 100
    assert largest_class_share(of([0] * 2999 + [1])) < 100


def test_of_several_classifiers_the_mean_is_100_only_where_each_answers_with_one_class():
    constant, other, mixed = torch.tensor([1, 1, 1]), torch.tensor([0, 0]), torch.tensor([0, 1])
    assert beside("accuracy", constant, other) == {"largest_class_share": 100, "test_items": 2}
    assert beside("accuracy", constant, mixed)["largest_class_share"] == 75
    assert beside("accuracy", constant, other, items=5)["test_items"] == 5


@pytest.mark.parametrize(
    ("metric", "share", "items"),
    [
        ("accuracy", "largest_class_share", "test_items"),
        ("test_accuracy_10_80_10", "test_largest_class_share_10_80_10", "test_items_10_80_10"),
        ("ogb_test_accuracy", "ogb_test_largest_class_share", "ogb_test_items"),
        ("aff_pgd_accuracy", "aff_pgd_largest_class_share", "aff_pgd_test_items"),
        ("probe_first", "probe_first_largest_class_share", "probe_first_test_items"),
    ],
)
def test_names_go_with_the_accuracy(metric, share, items):
    assert (companion(metric, "largest_class_share"), companion(metric, "test_items")) == (share, items)


def test_fits_that_did_not_converge_are_counted():
    assert unconverged("svm_accuracy", 3) == {"svm_unconverged": 3}
    assert unconverged("probe_first", [True, False, True]) == {"probe_first_unconverged": 2}
