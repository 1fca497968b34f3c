"""What a recipe of U-MAE may set."""

import pytest

from methods.umae.settings import PretrainSettings, TransferSettings
from retable.cards import CardError, load_papers
from retable.settings import Settings


def given(root, recipe: str, variant: str) -> dict:
    card = load_papers(root)["umae"].recipe(recipe)
    return {name: hyper.value for name, hyper in card.hyper.items()} | card.variants[variant].settings


def test_the_weight_of_the_uniformity_loss_is_called_lambda(root) -> None:
    assert PretrainSettings.parse(given(root, "pretrain", "umae"), "umae").lambda_ == 0.01


def test_networks_are_not_compiled_unless_a_recipe_says_so(root) -> None:
    settings = given(root, "pretrain", "umae")
    assert PretrainSettings.parse(settings, "umae").compile is False
    assert PretrainSettings.parse(settings | {"compile": "eager"}, "umae").compile == "eager"


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (PretrainSettings, {"size": "vit-b"}, "setting 'size' is 'vit-b': Input should be 'vit-b-16', "),
        (PretrainSettings, {"model": "mea"}, "setting 'model' is 'mea': Input should be 'mae', 'simmim'"),
        (
            PretrainSettings,
            {"statistics": "imagnet"},
            "'imagnet': Input should be 'half' or 'imagenet'",
        ),
        (PretrainSettings, {"autocast": "fp16"}, "'autocast' is 'fp16': Input should be 'bfloat16' or 'float16'"),
        (TransferSettings, {"evaluation": "finetune"}, "'finetune': Input should be 'linear-probe' or 'fine-tune'"),
        (TransferSettings, {"model": "simmim"}, "setting 'model' is 'simmim': Input should be 'mae'"),
    ],
)
def test_unknown_names_are_refused_with_those_there_are(root, kind: type[Settings], change: dict, message: str) -> None:
    recipe, variant = ("pretrain", "umae") if kind is PretrainSettings else ("transfer", "umae-probe")
    with pytest.raises(CardError, match=message):
        kind.parse(given(root, recipe, variant) | change, "umae")
