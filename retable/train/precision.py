"""How a training step is computed: in half precision, by compiled code. What it computes is the experiment's.

Half precision is `true` or `bfloat16`, `float16` (then the loss is scaled so that small gradients are not lost), or
`false` for float32. Compiled code is `true`, the name of one of torch's backends, or `false`.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from retable.cards import CardError, Scalar, unknown

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def half_precision(setting: Scalar) -> torch.dtype | None:
    """The type that a setting asks for, None for float32. Raises CardError for another name."""
    if isinstance(setting, bool):
        return torch.bfloat16 if setting else None
    if setting not in DTYPES:
        raise CardError(unknown("half precision", str(setting), [*DTYPES, "true", "false"]))
    return DTYPES[str(setting)]


def autocast(device: torch.device, setting: Scalar) -> torch.autocast:
    """Compute in the block as the setting says."""
    dtype = half_precision(setting)
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def compile_in_place(module: nn.Module, setting: Scalar) -> None:
    """Have calls of `module` run compiled, if the setting says so; names of weights stay. CardError for a bad name."""
    if not setting:
        return
    backend = "inductor" if setting is True else str(setting)
    if backend not in (known := torch.compiler.list_backends(exclude_tags=())):
        raise CardError(unknown("backend to compile with", backend, known))
    module.compile(backend=backend)


class Stepper:
    """Backward pass and optimiser step; for float16 with torch's GradScaler, whose state a run must keep to resume."""

    def __init__(self, optimiser: torch.optim.Optimizer, device: torch.device, setting: Scalar) -> None:
        self.optimiser = optimiser
        self.scaler = torch.amp.GradScaler(device.type, enabled=half_precision(setting) is torch.float16)

    def step(self, loss: Tensor, clip: float = 0.0, clipped: Iterable[nn.Parameter] = ()) -> None:
        """Minimise `loss` a step further; `clip` above 0 bounds the norm of the gradients of `clipped`.

        A step whose scaled gradients overflow is left out, and the scale halved.
        """
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        if clip:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(clipped, clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Of the scaler; empty unless it is in use."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the scaler's state."""
        if state:
            self.scaler.load_state_dict(state)
