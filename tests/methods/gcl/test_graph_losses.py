import math

import pytest
import torch
import torch.nn.functional as F

from methods.gcl.losses import TERMS, graphcl_loss, infograph_loss, symmetric_loss

TAU = 0.4


@pytest.fixture
def views() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 7, 5, dtype=torch.float64, generator=generator).unbind())


@pytest.fixture
def nodes() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    local = torch.randn(9, 4, dtype=torch.float64, generator=generator)
    pooled = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    return local, pooled, torch.tensor([0, 0, 0, 0, 1, 2, 2, 2, 2])


def test_graphcl_equals_a_loop(views):
    total = 0.0
    for i, a in enumerate(views[0]):
        cosines = [float(F.cosine_similarity(a, b, dim=0)) / TAU for b in views[1]]
        total += math.log(sum(math.exp(s) for j, s in enumerate(cosines) if j != i)) - cosines[i]
    assert float(graphcl_loss(*views, TAU)) == pytest.approx(total / 7, abs=1e-12)


def test_infograph_equals_a_loop(nodes):
    local, pooled, graph = nodes
    positive, negative, pairs = 0.0, 0.0, 0
    for i, row in enumerate(local):
        for g, other in enumerate(pooled):
            score = float(row @ other)
            if g == graph[i]:
                positive += math.log1p(math.exp(-score)) - math.log(2)
            else:
                negative += math.log1p(math.exp(score)) - math.log(2)
                pairs += 1
    assert float(infograph_loss(*nodes)) == pytest.approx(positive / 9 + negative / pairs, abs=1e-12)


@pytest.mark.parametrize("loss", [graphcl_loss, symmetric_loss])
def test_halves_add_up_to_the_whole(loss, views, nodes):
    contrast, no_positives, no_negatives = (float(loss(*views, TAU, terms)) for terms in TERMS)
    assert contrast == pytest.approx(no_positives + no_negatives, abs=1e-12)
    contrast, no_positives, no_negatives = (float(infograph_loss(*nodes, terms)) for terms in TERMS)
    assert contrast == pytest.approx(no_positives + no_negatives, abs=1e-12)


@pytest.mark.parametrize("terms", TERMS)
def test_the_order_of_graphs_and_the_length_of_rows_do_not_matter(terms, views):
    order = torch.randperm(7, generator=torch.Generator().manual_seed(2))
    scale = torch.linspace(0.5, 3, 7, dtype=torch.float64)[:, None]
    for loss in (graphcl_loss, symmetric_loss):
        expected = loss(*views, TAU, terms)
        torch.testing.assert_close(loss(views[0][order], views[1][order], TAU, terms), expected)
        torch.testing.assert_close(loss(views[0] * scale, views[1], TAU, terms), expected)


@pytest.mark.parametrize("terms", TERMS)
def test_the_symmetric_loss_is_the_mean_of_both_directions(terms, views):
    both = (graphcl_loss(*views, TAU, terms) + graphcl_loss(*reversed(views), TAU, terms)) / 2
    torch.testing.assert_close(symmetric_loss(*views, TAU, terms), both)
    torch.testing.assert_close(symmetric_loss(*reversed(views), TAU, terms), both)


def test_no_negatives_pulls_and_no_positives_pushes(views):
    x, y = (view.clone().requires_grad_() for view in views)
    graphcl_loss(x, y, TAU, "no-negatives").backward()
    pulled = F.cosine_similarity(x - 0.1 * x.grad, y).sum()
    assert pulled > F.cosine_similarity(x, y).sum()
    x.grad = None
    graphcl_loss(x, y, TAU, "no-positives").backward()
    cosines = F.normalize(x - 0.1 * x.grad, dim=1) @ F.normalize(y, dim=1).T
    before = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    off = ~torch.eye(7, dtype=torch.bool)
    assert (cosines[off] / TAU).exp().sum() < (before[off] / TAU).exp().sum()


def test_a_batch_of_one_graph(nodes):
    one = torch.ones(1, 5)
    for loss in (graphcl_loss, symmetric_loss):
        assert float(loss(one, one, 0.5, "no-negatives")) == pytest.approx(-2)
        for terms in ("contrast", "no-positives"):
            with pytest.raises(ValueError, match=f"the {terms} loss of 1 graph has no negatives"):
                loss(one, one, 0.5, terms)
    local, pooled, _ = nodes
    alone = torch.zeros(9, dtype=torch.long)
    assert float(infograph_loss(local, pooled[:1], alone, "no-positives")) == 0
    contrast = infograph_loss(local, pooled[:1], alone, "contrast")
    torch.testing.assert_close(contrast, infograph_loss(local, pooled[:1], alone, "no-negatives"))


def test_a_zero_row_gives_finite_numbers(views):
    x = views[0].clone()
    x[3] = 0
    x.requires_grad_()
    graphcl_loss(x, views[1], TAU).backward()
    assert x.grad.isfinite().all()


def test_unknown_terms_are_named():
    with pytest.raises(ValueError, match="unknown terms 'align'"):
        graphcl_loss(torch.ones(2, 2), torch.ones(2, 2), 1.0, "align")
    with pytest.raises(ValueError, match="unknown terms 'jsd'"):
        infograph_loss(torch.ones(2, 2), torch.ones(2, 2), torch.tensor([0, 1]), "jsd")
