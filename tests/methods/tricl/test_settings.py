import pytest

from methods.tricl.settings import AgreementSettings, ImageNetSettings
from retable.cards import CardError


@pytest.mark.parametrize(
    ("kind", "recipe", "scale", "change", "message"),
    [
        (ImageNetSettings, "imagenet", "full", {"view": "digit"}, "setting 'view' is 'digit': Input should be 'photo"),
        (ImageNetSettings, "imagenet", "full", {"loss": "majority"}, "setting 'loss' is 'majority': Input should be "),
        (AgreementSettings, "agreement", "demo", {"loss": "raw-pixels"}, "setting 'loss' is 'raw-pixels': "),
    ],
)
def test_what_only_images_in_memory_have_is_refused(make, kind, recipe, scale, change, message) -> None:
    cell, _ = make(recipe, "scl", scale=scale)
    kind.parse(cell.settings, "test")
    with pytest.raises(CardError, match=message):
        kind.parse(cell.settings | change, "test")
