import pytest
import torch

from methods.gcl.nodes.dgi import DGI, MVGRL, Diffusion, mvgrl_operators
from methods.gcl.nodes.encoders import gcn_propagation
from retable.nn.sparse import SparseMatrix

NODES = 15


def graph() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(0, NODES - 1, (2, 25), generator=generator)  # the last node is alone
    x = torch.rand(NODES, 7, dtype=torch.float64, generator=generator)
    return x, torch.unique(torch.cat([pairs, pairs.flip(0)], dim=1), dim=1)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.9])
def test_diffusion_equals_the_inverse_and_its_gradient(alpha: float) -> None:
    x, edges = graph()
    propagate = gcn_propagation(edges, NODES, torch.float64)
    inverse = torch.linalg.inv(torch.eye(NODES).double() - (1 - alpha) * propagate.csr.to_dense())
    x.requires_grad_()
    y = Diffusion(propagate, alpha) @ x
    torch.testing.assert_close(y, alpha * inverse @ x)
    cotangent = torch.rand_like(y)
    torch.testing.assert_close(torch.autograd.grad(y, x, cotangent)[0], alpha * inverse.t() @ cotangent)


def test_diffusion_of_ones_on_a_regular_graph_is_ones() -> None:
    ring = torch.arange(12)
    edges = torch.stack([torch.cat([ring, (ring + 1) % 12]), torch.cat([(ring + 1) % 12, ring])])
    ones = torch.ones(12, 1)
    torch.testing.assert_close(Diffusion(gcn_propagation(edges, 12), 0.2) @ ones, ones)


def test_diffusion_refuses_an_alpha_outside_its_range() -> None:
    with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
        Diffusion(gcn_propagation(graph()[1], NODES), 1.5)


def test_shuffled_scores_equal_those_of_shuffled_features() -> None:
    x, edges = graph()
    shuffle = torch.randperm(NODES, generator=torch.Generator().manual_seed(1))
    propagate = gcn_propagation(edges, NODES, torch.float64)
    torch.manual_seed(0)
    model = DGI(7, 4).double()
    real, fake = model(x, propagate, shuffle)
    h, wrong = model.embed(x, propagate), model.embed(x[shuffle], propagate)
    c = h.mean(0).sigmoid()
    torch.testing.assert_close(real, model.discriminator(h, c))
    torch.testing.assert_close(fake, model.discriminator(wrong, c))


def test_sparse_features_give_the_scores_of_dense_ones() -> None:
    x, edges = graph()
    x = x * (x > 0.6)
    operators = mvgrl_operators(edges, NODES, x.dtype)
    torch.manual_seed(0)
    model, shuffle = MVGRL(7, 4).double(), torch.randperm(NODES)
    dense = model(x, *operators, shuffle)
    sparse = model(SparseMatrix(x.to_sparse_csr()), *operators, shuffle)
    torch.testing.assert_close(sparse, dense)
