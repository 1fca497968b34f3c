import yaml

from retable.cards import DatasetCard, load_dataset
from retable.data.load import load
from retable.data.pin import pin


def test_what_is_pinned_makes_a_card_that_loads(root, tmp_path):
    digits = load_dataset(root / "datasets" / "digits-knn.yaml")
    blank = digits.model_copy(update={"counts": {}, "content_sha256": "0" * 64})
    pinned = yaml.safe_load(pin(blank, tmp_path))
    card = DatasetCard.model_validate({**blank.model_dump(), **pinned})
    assert card.counts == digits.counts
    assert card.splits == digits.splits
    load(card, "default", tmp_path)
