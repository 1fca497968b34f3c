"""The choices and bounds of settings; that cells have settings of their class is in tests/retable/test_settings.py."""

from pathlib import Path

import pytest

from methods.dynacl.settings import FewLabelsSettings, PretrainSettings
from retable.cards import CardError, load_dataset, load_paper
from retable.plan import recipe_cells

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())
DATASETS = {"digits-16": load_dataset(ROOT / "datasets" / "digits-16.yaml")}
PAPER = load_paper(ROOT / "methods" / "dynacl" / "card.yaml")
GOOD = recipe_cells("dynacl", PAPER.recipe("pretrain"), DATASETS, "demo")[0].settings
FEW = recipe_cells("dynacl", PAPER.recipe("few-labels"), DATASETS, "demo")[0].settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "contrastiv"}, "setting 'method' is 'contrastiv': Input should be 'contrastive', "),
        ({"evaluations": "slf+afl"}, r"setting 'evaluations' is 'slf\+afl': Input should be 'slf', "),
        ({"optimiser": "adam"}, "setting 'optimiser' is 'adam': Input should be 'lars' or 'sgd'"),
        ({"arch": "huge"}, "setting 'arch' is 'huge': Input should be 'resnet18', "),
        ({"weight_rule": "paper"}, "setting 'weight_rule' is 'paper': Input should be 'code' or 'one-minus-strength'"),
        ({"aa_version": "light"}, "setting 'aa_version' is 'light': Input should be 'standard' or 'lite'"),
        ({"eps": 8.0}, r"setting 'eps' is 8\.0: Input should be less than or equal to 1"),
        ({"eps": 0.0}, r"setting 'eps' is 0\.0: Input should be greater than 0"),
        ({"step_size": 8.0}, r"setting 'step_size' is 8\.0: "),
        *(
            ({name: 0}, f"setting '{name}' is 0: Input should be greater than 0")
            for name in ("attack_iters", "trades_iters", "alf_iters", "pgd_iters", "aa_iterations")
        ),
    ],
)
def test_bad_settings_are_one_line_before_anything_is_trained(settings, message):
    with pytest.raises(CardError, match=f"^here: {message}") as caught:
        PretrainSettings.parse(GOOD | settings, "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"method": "untrained"}, {"evaluations": "slf+alf"}, {"student_iters": 0}])
def test_few_labels_have_no_setting_that_would_be_ignored(settings):
    with pytest.raises(CardError, match=f"^here: setting '{next(iter(settings))}' is "):
        FewLabelsSettings.parse(FEW | settings, "here")
