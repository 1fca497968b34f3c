"""The laws of the layer (paper, sections 4 and 5), and the fast kernel against the obvious dense formula."""

import os
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor

from methods.contranorm.baselines import make_norm
from methods.contranorm.norm import ContraNorm, FeatureContraNorm, weighted_mean
from retable.evaluate.spectra import dispersion, effective_rank, mean_cosine_similarity
from retable.nn.mask import NeighbourMask
from retable.nn.rows import normalize_rows

N, D = 11, 5

# Every form of the layer that is a function of rows; "masked" ones get a neighbour mask.
FORMS = {
    "identity": {},
    "plain": {"identity": False},
    "dual": {"dual": True},
    "dot": {"similarity": "dot"},
    "dot dual": {"similarity": "dot", "dual": True},
    "tau": {"tau": 0.3},
    "small tau": {"tau": 0.01},  # below the kernel's range: dense path
}
FEATURE_FORMS = [
    {"center": center, "unit_rows": unit_rows, "identity": identity}
    for center in (False, True)
    for unit_rows in (False, True)
    for identity in (False, True)
]


def features(n: int = N, d: int = D, seed: int = 0) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def ring(n: int = N, directed: bool = False) -> NeighbourMask:
    """Each node leaves out itself and the next one (and, undirected, the one before)."""
    nodes = torch.arange(n)
    rows, cols = torch.cat([nodes, nodes]), torch.cat([nodes, (nodes + 1) % n])
    pairs = torch.stack([rows, cols])
    return NeighbourMask(pairs if directed else torch.cat([pairs, pairs.flip(0)], 1), n)


def obvious(x: Tensor, tau: float = 1.0, mask: NeighbourMask | None = None, dual: bool = False) -> Tensor:
    """The weighted mean as one would first write it; rows without an allowed pair are zero."""
    gram = normalize_rows(x) @ normalize_rows(x).T / tau
    weights = gram.exp() if mask is None else gram.exp() * ~mask.dense()
    z = weights.sum(1).clamp_min(1e-300)
    mean = weights / z[:, None] @ x
    if dual:
        mean = mean + weights / weights.sum(0).clamp_min(1e-300) @ x
    return mean


@pytest.fixture(params=[None, "undirected", "directed"])
def mask(request: pytest.FixtureRequest) -> NeighbourMask | None:
    return request.param and ring(directed=request.param == "directed")


# The smallest thing --------------------------------------------------------------------------------------


def test_two_rows_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    own, other = np.e / (np.e + 1), 1 / (np.e + 1)  # softmax of the cosines (1, 0)
    expected = 2 * x - torch.tensor([[own, 2 * other], [other, 2 * own]])
    torch.testing.assert_close(ContraNorm(1.0)(x), expected)


# Laws ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_permuting_nodes_permutes_rows(form: dict, mask: NeighbourMask | None) -> None:
    x, layer, order = features(), ContraNorm(0.7, **form), torch.randperm(N)
    place = torch.argsort(order)
    moved = mask and NeighbourMask(torch.stack([place[mask.rows], place[mask.cols]]), N)
    torch.testing.assert_close(layer(x[order], moved), layer(x, mask)[order], rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_rotating_features_rotates_the_output(form: dict, mask: NeighbourMask | None) -> None:
    rotation = torch.linalg.qr(features(D, D, seed=1)).Q
    x, layer = features(), ContraNorm(0.7, **form)
    torch.testing.assert_close(layer(x @ rotation, mask), layer(x, mask) @ rotation, rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", [f for f in FORMS.values() if "similarity" not in f], ids=str)
def test_scaling_all_rows_scales_the_output(form: dict, mask: NeighbourMask | None) -> None:
    x, layer = features(), ContraNorm(0.7, **form)
    torch.testing.assert_close(layer(3.7 * x, mask), 3.7 * layer(x, mask), rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_identical_rows(form: dict, mask: NeighbourMask | None) -> None:
    x, scale = features()[:1].expand(N, D), 0.7
    y = ContraNorm(scale, **form)(x, mask)
    # Row and column weights sum to 1 each on these symmetric graphs, so the dual mean is 2 x.
    kept = form.get("identity", True) and not form.get("dual")
    expected = x if kept else (1 - scale) * x
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_scale_zero_changes_nothing(form: dict, mask: NeighbourMask | None) -> None:
    x = features()
    assert torch.equal(ContraNorm(0.0, **form)(x, mask), x)


@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_weights_sum_to_one_and_skip_masked_pairs(dual: bool, similarity: str, mask: NeighbourMask | None) -> None:
    x = features(N, 3)
    options = {"similarity": similarity, "dual": dual}
    # A column of zeros has no part in the similarities: the gradient of its mean in row i with respect to
    # row j is the weight S_ij.
    flat = torch.cat([x, torch.zeros(N, 1, dtype=x.dtype)], 1).requires_grad_()
    weights = torch.stack(
        [torch.autograd.grad(weighted_mean(flat, 1.0, mask, **options)[i, -1], flat)[0][:, -1] for i in range(N)]
    )
    if dual:
        assert weights.sum().item() == pytest.approx(2 * N, abs=1e-9)
    else:
        torch.testing.assert_close(weights.sum(1), torch.ones(N, dtype=x.dtype), rtol=0, atol=1e-9)
    assert (weights >= 0).all()
    if mask is not None:
        assert (weights[mask.dense()] == 0).all()
        assert (weights[~mask.dense()] > 0).all()


def test_very_large_tau_takes_the_plain_mean_of_the_allowed_rows(mask: NeighbourMask | None) -> None:
    x = features()
    allowed = torch.ones(N, N, dtype=x.dtype) if mask is None else (~mask.dense()).double()
    mean = allowed @ x / allowed.sum(1, keepdim=True)
    torch.testing.assert_close(ContraNorm(0.7, 1e8)(x, mask), 1.7 * x - 0.7 * mean, rtol=0, atol=1e-7)


def test_identity_equals_plain_with_another_scale_after_layer_norm() -> None:
    x, scale = features(), 0.7
    # LayerNorm removes the common factor 1 + s, up to its eps.
    boosted = F.layer_norm(ContraNorm(scale)(x), (D,), eps=1e-12)
    plain = F.layer_norm(ContraNorm(scale / (1 + scale), identity=False)(x), (D,), eps=1e-12)
    torch.testing.assert_close(boosted, plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("tau", [0.3, 1.0, 2.0])
def test_dual_form_is_one_gradient_step_on_uniformity(tau: float) -> None:
    h, scale = normalize_rows(features()).requires_grad_(), 0.7
    loss = (h @ h.T / tau).logsumexp(1).sum()
    (gradient,) = torch.autograd.grad(loss, h)
    step = ContraNorm(scale, tau, identity=False, dual=True)(h)
    torch.testing.assert_close(step, h - scale * tau * gradient, rtol=0, atol=1e-9)


def test_the_dot_form_is_equation_6_inside_its_layer_norm() -> None:
    x = features()
    ours = ContraNorm(0.7, identity=False, similarity="dot")(x)
    torch.testing.assert_close(ours, x - 0.7 * (x @ x.T).softmax(1) @ x)


@pytest.mark.parametrize(
    ("learnable", "identity"),
    [("linear", False), ("exp", False), ("linear", True), ("exp", True)],
)
def test_learnable_scale_starts_at_the_given_one(learnable: str, identity: bool) -> None:
    x = features().float()
    layer = ContraNorm(0.3, learnable=learnable, identity=identity, dim=D)
    m = weighted_mean(x)
    torch.testing.assert_close(layer(x), 0.3 * (x - m) if identity else x - 0.3 * m)
    assert [p.shape for p in layer.parameters()] == [(D,)]


# Propositions 1 and 2 ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**31), n=st.integers(2, 12), d=st.integers(1, 8), scale=st.floats(0.01, 0.99))
def test_variance_grows_at_least_by_the_smallest_eigenvalue(seed: int, n: int, d: int, scale: float) -> None:
    """Proposition 1 in its always true form, Var(H_t) >= (1 + s lambda) Var(H_b).

    lambda is the smallest eigenvalue, on vectors that sum to 0, of P = Q (I - A) + (I - A)^T Q with Q the
    centring matrix; where P is positive semi-definite this gives the paper's statement.
    """
    h = features(n, d, seed)
    attention = (h @ h.T).softmax(1)
    centring = torch.eye(n, dtype=h.dtype) - 1 / n
    half = centring @ (torch.eye(n, dtype=h.dtype) - attention)
    # P annihilates the constant vector, whose 0 must not count: shift it above the others.
    p = half + half.T
    smallest = torch.linalg.eigvalsh(p + p.abs().sum() * torch.ones_like(p) / n)[0].item()
    before, after = dispersion(h).item(), dispersion(ContraNorm(scale, similarity="dot")(h)).item()
    assert after >= (1 + scale * smallest) * before - 1e-9 * (1 + before)


def linear_update(sigma: Tensor, scale: float) -> Tensor:
    """Singular values after (1 + s) H - s (H H^T) H."""
    return sigma * (1 + scale - scale * sigma**2)


@settings(deadline=None, max_examples=100)
@given(
    sigma=st.lists(st.floats(0.01, 3.0), min_size=2, max_size=6),
    fraction=st.floats(0.01, 1.0),
)
def test_effective_rank_grows_under_the_sufficient_condition(sigma: list[float], fraction: float) -> None:
    """Proposition 2 with 1 + s - 3 s sigma_max^2 >= 0, which keeps the order of the singular values."""
    values = torch.tensor(sigma, dtype=torch.float64)
    # The largest s that the condition allows, or any s where sigma_max^2 <= 1/3.
    bound = 3 * values.max().item() ** 2 - 1
    scale = fraction / bound if bound > 1e-3 else fraction
    before = effective_rank(values.diag())
    after = effective_rank(linear_update(values, scale).diag())
    assert after >= before - 1e-9


def test_the_printed_condition_of_proposition_2_is_not_sufficient() -> None:
    sigma, scale = torch.tensor([2.0, 1.0], dtype=torch.float64), 0.33
    assert 1 + (1 - sigma.max() ** 2) * scale > 0
    left, right = torch.linalg.qr(features(6, 2)).Q, torch.linalg.qr(features(2, 2)).Q
    h = left * sigma @ right
    after = (1 + scale) * h - scale * (h @ h.T) @ h
    assert effective_rank(h).item() == pytest.approx(1.89, abs=0.005)
    assert effective_rank(after).item() == pytest.approx(1.10, abs=0.005)


# Depth, on a graph of three communities ------------------------------------------------------------------


@pytest.fixture(scope="module")
def communities() -> tuple[Tensor, Tensor, NeighbourMask]:
    """Row-normalised adjacency with self loops, features and mask of a 300-node stochastic block model."""
    rng, n = np.random.default_rng(0), 300
    label = np.arange(n) % 3
    chance = np.where(label[:, None] == label, 0.06, 0.01)
    upper = np.triu(rng.random((n, n)) < chance, 1)
    adjacency = torch.from_numpy((upper | upper.T) + np.eye(n))
    x = torch.from_numpy(rng.normal(size=(n, 16)))
    return adjacency / adjacency.sum(1, keepdim=True), x, NeighbourMask(adjacency.nonzero().T, n)


def propagate(graph: tuple, norm: str, scale: float, layer_norm: bool = True, masked: bool = True) -> Tensor:
    adjacency, h, mask = graph
    layer = make_norm(norm, h.shape[1], scale)
    for _ in range(32):
        h = layer(adjacency @ h, mask if masked else None)
        h = F.layer_norm(h, h.shape[1:]) if layer_norm else h
    return h


@pytest.mark.parametrize(
    ("norm", "scale", "options", "similarity", "rank"),
    [
        ("none", 0.0, {}, 1.000, 1.01),
        ("PN", 1.0, {"layer_norm": False}, 0.005, 2.3),
        ("CN", 0.2, {}, 0.977, 1.87),
        ("CN", 1.0, {}, -0.002, 11.0),
        ("CN", 1.0, {"masked": False}, None, 11.0),
    ],
)
def test_collapse_after_32_propagations(
    communities: tuple, norm: str, scale: float, options: dict, similarity: float | None, rank: float
) -> None:
    """Values of the authors' code on the same graph, rounded as given."""
    h = propagate(communities, norm, scale, **options)
    assert effective_rank(h).item() == pytest.approx(rank, abs=0.05)
    if similarity is not None:
        assert mean_cosine_similarity(h).item() == pytest.approx(similarity, abs=0.0006)


def test_larger_scale_keeps_more_rank(communities: tuple) -> None:
    ranks = [effective_rank(propagate(communities, "CN", scale)).item() for scale in (0.2, 0.5, 0.8, 1.0)]
    assert ranks == sorted(ranks)
    assert ranks[-1] > 10


# Fast kernel against the dense formula -------------------------------------------------------------------


def random_mask(n: int, directed: bool = False, hubs: int = 0, seed: int = 0) -> NeighbourMask:
    """Self pairs, random pairs, and `hubs` nodes that leave out all but one."""
    generator = torch.Generator().manual_seed(seed)
    pairs = [torch.randint(n, (2, 2 * n), generator=generator), torch.arange(n).repeat(2, 1)]
    pairs += [torch.stack([torch.full((n - 1,), hub), torch.arange(n - 1)]) for hub in range(hubs)]
    together = torch.cat(pairs, 1)
    return NeighbourMask(together if directed else torch.cat([together, together.flip(0)], 1), n)


@pytest.mark.parametrize("kind", ["no mask", "undirected", "directed", "hubs"])
@pytest.mark.parametrize("n", [2, 37, 768, 1000, 1700])
@pytest.mark.parametrize("tau", [0.05, 1.0])
def test_kernel_equals_the_dense_formula(n: int, kind: str, tau: float) -> None:
    mask = None
    if kind != "no mask":
        mask = random_mask(n, directed=kind == "directed", hubs=min(n - 1, 3) if kind == "hubs" else 0)
        assert mask.symmetric == (kind != "directed") or n == 2
    x = features(n, 4).requires_grad_()
    with torch.no_grad():
        x[n // 2] = 0  # a zero row has similarity 0 with all
    grad_out = features(n, 4, seed=1)
    fast, slow = weighted_mean(x, tau, mask), obvious(x, tau, mask)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-11)
    (fast_gradient,), (slow_gradient,) = (torch.autograd.grad(m, x, grad_out) for m in (fast, slow))
    # normalize_rows() divides a zero row by 1e-12: its gradient is that large and only checked to be finite.
    fast_gradient[n // 2] = slow_gradient[n // 2] = torch.where(fast_gradient[n // 2].isfinite(), 0.0, torch.nan)
    torch.testing.assert_close(fast_gradient, slow_gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["no mask", "undirected", "directed"])
def test_dual_kernel_equals_the_dense_formula(kind: str) -> None:
    n = 1000
    mask = None if kind == "no mask" else random_mask(n, directed=kind == "directed")
    x = features(n, 4).requires_grad_()
    fast, slow = weighted_mean(x, 1.0, mask, dual=True), obvious(x, 1.0, mask, dual=True)
    torch.testing.assert_close(fast, slow)
    grad_out = features(n, 4, seed=1)
    torch.testing.assert_close(*(torch.autograd.grad(m, x, grad_out) for m in (fast, slow)))


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_float32_is_exact_to_rounding_even_where_few_pairs_remain(tau: float) -> None:
    n = 1700
    x, grad_out, mask = features(n, 32).float(), features(n, 32, seed=1).float(), random_mask(n, hubs=3)
    layer = ContraNorm(1.0, tau)

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone().requires_grad_()
        y = layer(x, mask)
        y.backward(grad_out.to(x.dtype))
        return y.detach().double(), x.grad.double()

    for single, double in zip(run(x), run(x.double()), strict=True):
        error = (single - double).norm(dim=1) / double.norm(dim=1)
        assert error.max() < 1e-6
    y, _ = run(x)
    # Each hub may be compared with the last node only: its mean is that row.
    torch.testing.assert_close(y[:3].float(), 2 * x[:3] - x[-1], rtol=1e-6, atol=1e-6)


def test_float32_at_a_tau_whose_exponentials_leave_its_range() -> None:
    x, mask, tau = features(50).float(), random_mask(50), 0.002  # exp(1 / tau) is 1e217
    blocked = mask.dense()
    u = normalize_rows(x.double())
    expected = (u @ u.T / tau).masked_fill(blocked, -torch.inf).softmax(1)
    torch.testing.assert_close(weighted_mean(x, tau, mask), (expected @ x.double()).float(), rtol=1e-3, atol=1e-3)


def test_same_bytes_every_time() -> None:
    x, mask, runs = features(1700, 32).float(), random_mask(1700), []
    for _ in range(3):
        leaf = x.clone().requires_grad_()
        y = ContraNorm(1.0)(leaf, mask)
        y.backward(x)
        runs.append(y.detach().numpy().tobytes() + leaf.grad.numpy().tobytes())
        torch.empty(1234)  # another place in memory for what follows
    assert runs[0] == runs[1] == runs[2]


# Gradients and empty sets --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_gradcheck(form: dict, mask: NeighbourMask | None) -> None:
    x = features(N, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ContraNorm(0.7, **form)(x, mask), x)


@pytest.mark.parametrize("learnable", ["linear", "exp"])
@pytest.mark.parametrize("identity", [False, True])
def test_gradcheck_of_the_learnable_scale(learnable: str, identity: bool) -> None:
    layer = ContraNorm(0.7, learnable=learnable, identity=identity, dim=3).double()
    x = features(N, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, _: layer(x), (x, layer.channel_scale))


@pytest.mark.parametrize("form", FEATURE_FORMS, ids=str)
def test_gradcheck_of_the_feature_form(form: dict) -> None:
    assert torch.autograd.gradcheck(FeatureContraNorm(0.7, 0.5, **form), features(N, 3).requires_grad_())


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_node_without_allowed_pairs_is_returned_unchanged(form: dict) -> None:
    nodes, hub = torch.arange(N), torch.full((N,), 3)
    pairs = torch.stack([torch.cat([nodes, hub, nodes]), torch.cat([nodes, nodes, hub])])
    x = features().requires_grad_()
    y = ContraNorm(0.7, **form)(x, NeighbourMask(pairs, N))
    y.square().sum().backward()
    assert torch.equal(y[3], x[3])
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    # The others see each other as before.
    rest = torch.arange(N) != 3
    apart = ContraNorm(0.7, **form)(x[rest], NeighbourMask(torch.arange(N - 1).repeat(2, 1), N - 1))
    torch.testing.assert_close(y[rest], apart)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_zero_row_keeps_all_finite(form: dict, mask: NeighbourMask | None) -> None:
    x = features()
    x[2] = 0
    x.requires_grad_()
    y = ContraNorm(0.7, **form)(x, mask)
    y.square().sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


# What cannot be used -------------------------------------------------------------------------------------


def test_unknown_forms_are_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="unknown similarity 'euclid': choose one of cosine, dot"):
        ContraNorm(1.0, similarity="euclid")
    with pytest.raises(ValueError, match="unknown learnable 'log'"):
        ContraNorm(1.0, learnable="log")
    with pytest.raises(ValueError, match="needs dim"):
        ContraNorm(1.0, learnable="exp")
    with pytest.raises(ValueError, match="tau must be positive"):
        ContraNorm(1.0, 0.0)


def test_a_mask_of_another_graph_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mask is for \(11, d\)"):
        ContraNorm(1.0)(features(N + 1), ring())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["no mask", "undirected", "directed"])
def test_cuda_equals_the_processor(kind: str) -> None:
    n = 5000  # more than one block there too
    mask = None if kind == "no mask" else random_mask(n, directed=kind == "directed")
    results = []
    for device in ("cpu", "cuda"):
        x = features(n, 16).to(device).requires_grad_()
        y = ContraNorm(1.0)(x, mask and mask.to(device))
        y.backward(features(n, 16, seed=1).to(device))
        results.append((y.cpu(), x.grad.cpu()))
    torch.testing.assert_close(*results)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak can be reset on Linux only")
def test_no_array_of_all_pairs_is_kept() -> None:
    n = 6000
    x, mask = features(n, 4).float().requires_grad_(), random_mask(n)
    layer = ContraNorm(1.0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = highest_resident()
    layer(x, mask).sum().backward()
    grown = highest_resident() - before
    assert grown < 100  # MB; one float32 array of all pairs has 144


def highest_resident() -> float:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
