"""The split of links, pairs without one, and the ranking."""

import pytest
import torch
from torch import Tensor

from retable.cards import DataError
from retable.evaluate.links import ranking, split_links, unlinked_pairs


def random_graph(nodes: int = 60, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(nodes, (2, 300), generator=generator)
    return torch.cat([edges, edges.flip(0)], 1)


def undirected(pairs: Tensor) -> set[tuple[int, int]]:
    return {(min(a, b), max(a, b)) for a, b in pairs.T.tolist()}


def test_the_parts_hold_each_link_once_and_no_negative_is_a_link() -> None:
    edges = random_graph()
    split = split_links(edges, 60, seed=3)
    links = {pair for pair in undirected(edges) if pair[0] != pair[1]}
    parts = [undirected(part) for part in (split.train, split.val, split.test)]
    assert set.union(*parts) == links
    assert sum(map(len, parts)) == len(links)
    assert (split.val.shape[1], split.test.shape[1]) == (int(0.1 * len(links)), int(0.2 * len(links)))
    negatives = [undirected(part) for part in (split.val_negatives, split.test_negatives)]
    assert [len(part) for part in negatives] == [split.val.shape[1], split.test.shape[1]]
    assert not set.union(*negatives) & links
    assert not negatives[0] & negatives[1]
    assert all(a != b for part in negatives for a, b in part)


def test_the_seed_alone_decides_the_split() -> None:
    torch.manual_seed(1)
    one = split_links(random_graph(), 60, seed=3)
    torch.manual_seed(2)
    again, other = split_links(random_graph(), 60, seed=3), split_links(random_graph(), 60, seed=4)
    assert torch.equal(one.test, again.test)
    assert torch.equal(one.test_negatives, again.test_negatives)
    assert undirected(one.test) != undirected(other.test)


def test_an_input_graph_with_a_link_to_predict_is_refused() -> None:
    split = split_links(random_graph(), 60, seed=0)
    split.check(split.visible)
    for leak in (split.test[:, :1], split.val[:, :1].flip(0)):
        with pytest.raises(DataError, match="holds 1 of the links to predict"):
            split.check(torch.cat([split.visible, leak], 1))


@pytest.mark.parametrize(
    ("edges", "nodes", "words"),
    [
        (torch.tensor([[0, 1], [1, 2]]), 3, "2 links cannot be split"),
        (torch.combinations(torch.arange(8)).T, 8, "has no"),
    ],
    ids=["few links", "complete"],
)
def test_a_graph_that_cannot_be_split_is_refused(edges: Tensor, nodes: int, words: str) -> None:
    with pytest.raises(DataError, match=words):
        split_links(edges, nodes, seed=0)


def test_pairs_without_a_link_are_different_and_as_many_as_asked() -> None:
    edges = random_graph()
    torch.manual_seed(0)
    pairs = unlinked_pairs(edges, 60, 1000)
    assert len(undirected(pairs)) == 1000
    assert not undirected(pairs) & undirected(edges)


def test_hits_and_reciprocal_ranks_by_hand() -> None:
    positive, negative = torch.tensor([3.0, 2.0, 0.5]), torch.tensor([2.5, 2.0, 1.0, 0.0])
    found = ranking(positive, negative, ks=(1, 2, 3))
    # Above 2.5: one of three; above 2.0, a tie misses: one; above 1.0: two.
    assert found["hits_1"] == found["hits_2"] == pytest.approx(100 / 3)
    assert found["hits_3"] == pytest.approx(200 / 3)
    # Ranks 1, between 2 and 3, and 4.
    assert found["mrr"] == pytest.approx(100 * (1 + 1 / 2.5 + 1 / 4) / 3)


def test_the_reciprocal_rank_is_that_of_ogb() -> None:
    from retable.evaluate.ogb import link_evaluator

    link_evaluator()  # keeps the package offline
    from ogb.linkproppred import Evaluator

    torch.manual_seed(0)
    positive, negative = torch.randint(20, (50,)).double(), torch.randint(20, (80,)).double()
    theirs = Evaluator("ogbl-citation2").eval({"y_pred_pos": positive, "y_pred_neg": negative.expand(50, 80)})[
        "mrr_list"
    ]
    assert ranking(positive, negative)["mrr"] == pytest.approx(100 * float(theirs.mean()), rel=1e-5)


def test_a_score_that_is_no_number_never_helps() -> None:
    """Weights that overflowed in the last step gave every link the best rank."""
    nan, finite = torch.full((4,), torch.nan), torch.arange(4.0)
    for positive, negative in ((nan, finite), (finite, nan), (nan, nan)):
        found = ranking(positive, negative, ks=(1,))
        assert found["hits_1"] == 0
        assert found["mrr"] == pytest.approx(20.0)
