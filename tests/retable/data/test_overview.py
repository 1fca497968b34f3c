from retable.cards import load_dataset
from retable.data.overview import check_lines, listing, state
from retable.data.verified import require_verified


def test_a_card_s_state_follows_its_files(make_card, entry, tmp_path):
    card = make_card(*(entry(name, b"content", url="https://example.org") for name in ("a", "b")))
    assert state(card, tmp_path) == "absent"
    (tmp_path / "a").write_bytes(b"content")
    assert state(card, tmp_path) == "1 of 2 files"
    (tmp_path / "b").write_bytes(b"content")
    assert state(card, tmp_path) == "unverified"
    require_verified(card, tmp_path)
    assert state(card, tmp_path) == "verified"


def test_the_listing_says_what_a_data_set_costs(make_card, entry, root, tmp_path):
    digits = load_dataset(root / "datasets" / "digits-knn.yaml")
    other = make_card(entry("a", b"x" * 1_250_000, url="https://example.org"))
    first, second = listing({card.name: card for card in (digits, other)}, tmp_path)
    assert (first["name"], first["download"], first["state"]) == ("digits-knn", "none", "embedded")
    assert first["holds"] == "1,797 nodes, 12,535 links, 64 features, 10 classes"
    assert (second["download"], second["state"], second["licence"]) == ("1.2 MB", "absent", "none stated")


def test_checking_parses_what_it_can(make_card, entry, root, tmp_path):
    digits = load_dataset(root / "datasets" / "digits-knn.yaml")
    altered = digits.model_copy(update={"content_sha256": "0" * 64})
    missing = make_card(*(entry(name, b"content", url="https://example.org") for name in ("a", "b")))
    cards = {"good": digits, "altered": altered, "missing": missing}
    good, bad, absent = check_lines(cards, tmp_path)
    assert good == (True, "digits-knn: as pinned (files: 0, splits: 1)")
    assert not bad[0]
    assert bad[1].startswith("digits-knn: the parsed arrays hash to")
    assert absent == (False, "made-up: a is missing (and 1 more)")
