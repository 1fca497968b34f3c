"""Functions of each entry that torch's library is slow at on some processors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def tanh(x: Tensor) -> Tensor:
    """``torch.tanh`` of float32 or float64 (...).

    On a processor by numpy: torch takes seven times as long on an AMD EPYC.
    """
    return _Tanh.apply(x) if x.device.type == "cpu" else torch.tanh(x)


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.from_numpy(np.tanh(x.numpy()))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(grad, y)
