"""Floating-point operations of a step, as torch counts them while it is taken."""

from collections.abc import Callable

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def counted(step: Callable[[], Tensor]) -> int:
    """Operations of `step`, and of its result's backward pass if it has one: a multiplication and an addition are two.

    Products of matrices, convolutions and attention count, element-wise work does not. They follow from shapes alone,
    so a batch of two images tells what a large one costs.
    """
    # The fused attention of CPUs is not among the operations that torch's counter knows.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = step()
        if result.requires_grad:
            result.backward()
    return counter.get_total_flops()
