import numpy as np
import pytest

from retable.data.containers import DataError
from retable.data.readers.splits import geom_gcn_splits, named_order, random_split


def test_an_order_depends_on_the_names_alone():
    order = named_order("cora", "random-0", 50)
    assert sorted(order) == list(range(50))
    assert (order == named_order("cora", "random-0", 50)).all()
    assert (order != named_order("cora", "random-1", 50)).any()
    assert (order != named_order("citeseer", "random-0", 50)).any()


def test_orders_are_the_same_on_every_machine():
    assert named_order("amazon-photo", "random-0", 8).tolist() == [3, 5, 2, 6, 1, 4, 0, 7]


def test_random_splits_divide_the_nodes():
    split = random_split("amazon-photo", "random-0", 7650)
    assert split.sizes == (765, 765, 6120)
    assert (split.train.astype(int) + split.val + split.test == 1).all()


def test_random_splits_are_not_stratified_but_fair():
    shares = [random_split("made-up", f"random-{i}", 1000).train[:500].mean() for i in range(20)]
    assert abs(np.mean(shares) - 0.1) < 0.01


def test_masks_of_another_data_set_are_refused(make_card, entry, tmp_path):
    path = "x_split_0.6_0.2_0.npz"
    masks = {f"{part}_mask": np.zeros(5, dtype=np.int64) for part in ("train", "val", "test")}
    np.savez(tmp_path / path, **masks)
    card = make_card(entry(path, (tmp_path / path).read_bytes(), url="https://example.org"))
    assert list(geom_gcn_splits(card, tmp_path, 5)) == ["geom-0"]
    with pytest.raises(DataError, match="for 6 nodes"):
        geom_gcn_splits(card, tmp_path, 6)
