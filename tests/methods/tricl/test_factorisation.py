import pytest
import torch

from methods.tricl.factorisation import best_factors, decorrelation, three_factor, two_factor


def graph(nodes: int = 12, seed: int = 0) -> torch.Tensor:
    half = torch.randn(nodes, nodes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return half @ half.T / nodes


def test_losses_are_sums_over_entries_of_each_run() -> None:
    a, f = graph(), graph(seed=1)[:, :4].repeat(3, 1, 1) * torch.tensor([1.0, 2, 3]).double()[:, None, None]
    s = torch.linspace(0.5, 2, 12).double().view(3, 4)
    for run in range(3):
        entries = [[float((f[run, i] * f[run, j]).sum()) for j in range(12)] for i in range(12)]
        assert float(two_factor(a, f)[run]) == pytest.approx(float((a - torch.tensor(entries)).square().sum()))
        product = f[run] @ torch.diag(s[run]) @ f[run].T
        assert float(three_factor(a, f, s)[run]) == pytest.approx(float((a - product).square().sum()))
        gram = f[run].T @ f[run] - torch.eye(4)
        assert float(decorrelation(f)[run]) == pytest.approx(float(gram.square().sum()))


def test_best_factors_are_a_minimum() -> None:
    a = graph()
    f, s, loss = best_factors(a, 4)
    torch.testing.assert_close(three_factor(a, f, s), loss)
    assert float(decorrelation(f)) == pytest.approx(0, abs=1e-20)
    generator = torch.Generator().manual_seed(2)
    for _ in range(20):
        step = 1e-3 * torch.randn(12, 4, dtype=torch.float64, generator=generator)
        shift = 1e-3 * torch.randn(4, dtype=torch.float64, generator=generator)
        assert three_factor(a, f + step, s + shift) + decorrelation(f + step) > loss


def test_two_factors_do_not_notice_rotations() -> None:
    a = graph()
    f, s, loss = best_factors(a, 4)
    rotation, _ = torch.linalg.qr(graph(4, seed=3))
    torch.testing.assert_close(two_factor(a, f * s.sqrt() @ rotation), loss)
    assert float(three_factor(a, f @ rotation, s)) > float(loss) + 0.1


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="not symmetric"):
        best_factors(torch.arange(9.0).view(3, 3), 2)
    with pytest.raises(ValueError, match="eigenvalue 2 of the matrix is -1"):
        best_factors(torch.diag(torch.tensor([1.0, -1.0])), 2)
