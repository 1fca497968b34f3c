"""Operations counted by torch against the textbook."""

import pytest
import torch
import torch.nn.functional as F

from retable.operations import counted


def test_a_product_costs_two_operations_an_entry_and_its_backward_pass_twice_that():
    x, weight = torch.ones(5, 7), torch.ones(7, 3, requires_grad=True)
    assert counted(lambda: (x @ weight).detach()) == 2 * 5 * 7 * 3
    # No gradient is asked of x, so the backward pass has one product.
    assert counted(lambda: (x @ weight).sum()) == 2 * (2 * 5 * 7 * 3)
    assert counted(lambda: (x.requires_grad_() @ weight).sum()) == 3 * (2 * 5 * 7 * 3)


@pytest.mark.parametrize("grad", [False, True])
def test_attention_is_its_two_products(grad):
    q, k, v = (torch.ones(2, 3, 10, 4, requires_grad=grad) for _ in range(3))
    forward = 2 * (2 * 2 * 3 * 10 * 10 * 4)
    assert counted(lambda: F.scaled_dot_product_attention(q, k, v).sum()) == forward * (3 if grad else 1)
