import pytest
import torch
import torch.nn.functional as F

from methods.dynacl.models import Classifier, make_encoder
from methods.dynacl.trades import divergence, trades_examples, trades_loss


def test_divergence_is_zero_for_equal_answers_and_positive_for_others():
    torch.manual_seed(0)
    a, b = torch.randn(2, 6, 4)
    assert divergence(a, a + 3).item() == pytest.approx(0, abs=1e-5)
    assert divergence(a, b) > 0
    p, q = a.softmax(1), b.softmax(1)
    torch.testing.assert_close(divergence(a, b), (p * (p / q).log()).sum())


def test_loss_without_beta_is_cross_entropy_and_both_sides_are_taught():
    torch.manual_seed(1)
    clean, adversarial = (torch.randn(5, 3, requires_grad=True) for _ in range(2))
    y = torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(trades_loss(clean, adversarial, y, 0.0), F.cross_entropy(clean, y))
    trades_loss(clean, adversarial, y, 6.0).backward()
    assert clean.grad.any()
    assert adversarial.grad.any()


def test_examples_equal_those_of_an_attack_that_computes_clean_answers_anew():
    torch.manual_seed(2)
    classifier = Classifier(make_encoder("tiny"), 4).double()
    x = torch.rand(6, 3, 16, 16, dtype=torch.float64)
    for bn_branch in ("clean", "adv"):
        classifier(torch.rand_like(x) * 0.5, bn_branch)
    start, eps, step = 0.001 * torch.randn_like(x), 0.03, 0.01
    ours = trades_examples(classifier, x, "clean", eps=eps, step=step, iterations=4, start=start)
    classifier.eval()
    attacked = x + start
    for _ in range(4):
        attacked = attacked.detach().requires_grad_()
        loss = F.kl_div(classifier(attacked, "adv").log_softmax(1), classifier(x, "clean").softmax(1), reduction="sum")
        attacked = attacked + step * torch.autograd.grad(loss, attacked)[0].sign()
        attacked = attacked.clamp(x - eps, x + eps).clamp(0, 1)
    torch.testing.assert_close(ours, attacked.detach())
