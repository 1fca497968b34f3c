import pytest

from retable.cards import CardError


def test_a_learned_order_puts_what_matters_first(make, run) -> None:
    learned = run(*make("importance", "tri-scl-paper", epochs=40)).metrics
    plain = run(*make("importance", "scl", epochs=40)).metrics
    assert learned["probe_gap"] > plain["probe_gap"] + 5
    assert learned["precision_gap"] > plain["precision_gap"] + 5
    assert learned["probe_all"] > 85
    assert learned["knn_accuracy"] > 85


def test_features_of_equal_importance_are_a_curve_that_ends_at_all(make, run) -> None:
    cell, context = make("importance", "tri-scl-learned", epochs=1, warmup_epochs=0)
    found = run(cell, context)
    first, last = found.series["retrieval_best_first"], found.series["retrieval_worst_first"]
    assert len(first) == len(last) == len(found.series["purity"]) == 16
    assert first[-1] == pytest.approx(last[-1], abs=0.5) == pytest.approx(found.metrics["precision_all"], abs=0.5)
    assert found.series["importance"] == sorted(found.series["importance"], reverse=True)
    picture = context.pictures["features"]
    assert (picture.height, picture.width) == (8 * 16, 12 * 16)


def test_the_majority_class_needs_no_network(make, run) -> None:
    metrics = run(*make("importance", "majority")).metrics
    assert metrics["probe_all"] == pytest.approx(10, abs=1)
    assert metrics["probe_gap"] == 0.0
    assert {value for name, value in metrics.items() if name.endswith("largest_class_share")} == {100}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "byol"}, "setting 'loss' is 'byol': Input should be "),
        ({"mode": "published"}, "setting 'mode' is 'published': Input should be "),
        ({"mode": "none"}, "the loss 'tri-scl': unknown mode 'none'"),
        ({"loss": "scl", "mode": "released"}, "the loss 'scl': unknown mode 'released'"),
        ({"backbone": "vit"}, "setting 'backbone' is 'vit': Input should be 'resnet18', 'small-resnet' or 'mlp'"),
        ({"view": "colour"}, "setting 'view' is 'colour': Input should be 'photograph' or 'digit'"),
        ({"optimiser": "adamw"}, "setting 'optimiser' is 'adamw': Input should be 'lars' or 'adam'"),
        ({"batch_size": 2000}, "a batch of 2000 cannot be taken from 1000 training images"),
    ],
)
def test_settings_that_mean_nothing_are_named(make, run, settings: dict, message: str) -> None:
    cell, context = make("importance", "tri-scl-learned", **settings)
    with pytest.raises(CardError, match=message):
        run(cell, context)


def test_more_features_than_there_are_is_an_error(make, run) -> None:
    cell, context = make("importance", "tri-scl-learned", epochs=2, top_dims=100)
    with pytest.raises(ValueError, match="100 of 64 features were asked for"):
        run(cell, context)
