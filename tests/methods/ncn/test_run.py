"""The experiment on links."""

import pytest
import torch

from methods.ncn import run
from retable.cards import CardError
from retable.plan import Cell
from retable.run import measure
from retable.train.context import Context


@pytest.fixture
def make(demo_cell):
    return lambda variant, **settings: demo_cell("ncn", "links", variant, **settings)


def built(cell: Cell, context: Context) -> run.Links:
    return run.Links(run.Links.settings_class.parse(cell.settings, "test"), context)


def test_no_hidden_link_is_seen_and_targets_of_a_batch_are_taken_out(make) -> None:
    experiment = built(*make("ncn"))
    task = experiment.task
    task.split.check(task.graph.edge_index)
    batch = task.train[:, :10]
    seen = {tuple(pair) for pair in experiment._seen(batch).edge_index.T.tolist()}
    assert not any((a, b) in seen or (b, a) in seen for a, b in batch.T.tolist())
    kept = built(*make("ncn", remove_targets=False))
    assert kept._seen(batch) is kept.task.graph


def test_rows_of_a_seed_share_their_links(make) -> None:
    one, other = built(*make("gae")).task.split, built(*make("ncnc")).task.split
    assert torch.equal(one.test, other.test)
    assert torch.equal(one.test_negatives, other.test_negatives)


def test_a_control_ranks_the_same_links(make) -> None:
    cell, context = make("common-neighbours")
    found = measure(run, cell, context).metrics
    assert 80 < found["test_hits_100"] <= 100
    assert set(found) >= {"test_hits_20", "test_hits_50", "test_mrr", "val_hits_100"}


def test_more_links_in_a_batch_than_there_are_is_refused(make) -> None:
    with pytest.raises(CardError, match="batch_size is 100000"):
        built(*make("ncn", batch_size=100000))
