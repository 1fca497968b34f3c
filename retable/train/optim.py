"""LARS in the three forms that papers use."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

LarsForm = Literal["mae", "solo-learn", "acl"]
FORMS: tuple[LarsForm, ...] = ("mae", "solo-learn", "acl")
# ACL's bound below which a norm counts as zero.
TINY = 1e-15


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017) with momentum m: each tensor's step follows its own norm.

    For a tensor p with gradient g, weight decay w and trust coefficient c (`trust`), the direction d and the step are

    * `mae` (the linear probe of MAE and U-MAE): d = g + w p, scaled by c|p| / |d| unless either norm is zero.
      Vectors and scalars take d = g: no decay, no scaling.
    * `solo-learn` (triCL): d = r (g + w p) with r = c|p| / (|g| + w|p| + eps); with `clip`, r = min(r / lr, 1). Tensors
      where |p| or |g| is zero take d = g, and so do vectors with `exclude_vectors`. A group without weight decay is
      scaled too.
    * `acl` (DYNACL): d = lr r (g + w p) with r = c|p| / (|g| + w|p|), r = 1 where |p| or |g| is below 1e-15. Nothing is
      excluded. The rate is in the buffer, so a change of rate does not touch the momentum gathered before.

    Then buffer = m buffer + d, and p falls by lr buffer (`acl`: by the buffer). `nesterov` takes d + m buffer instead.
    `eps`, `clip` and `exclude_vectors` mean something in `solo-learn` only. Nothing waits for the device.

    Raises ValueError for a form that is not one of `FORMS`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        form: LarsForm,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
        eps: float = 1e-8,
        clip: bool = False,
        exclude_vectors: bool = True,
        nesterov: bool = False,
    ) -> None:
        if form not in FORMS:
            raise ValueError(f"LARS has no form {form!r}: choose from {', '.join(FORMS)}")
        if nesterov and form == "acl":
            raise ValueError("LARS of form 'acl' has no Nesterov momentum: use form 'mae' or 'solo-learn'")
        self.form = form
        settings = {"momentum": momentum, "weight_decay": weight_decay, "trust": trust, "eps": eps}
        flags = {"clip": clip, "exclude_vectors": exclude_vectors, "nesterov": nesterov}
        super().__init__(params, {"lr": lr} | settings | flags)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; returns what `closure` returns, if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params if p.grad is not None]
            buffers = [self._buffer(p) for p in params]
            torch._foreach_mul_(buffers, group["momentum"])
            self._add_directions(buffers, params, grads, group)
            moves = buffers
            if group["nesterov"]:
                moves = list(torch._foreach_mul(buffers, group["momentum"]))
                self._add_directions(moves, params, grads, group)
            torch._foreach_add_(params, moves, alpha=-1.0 if self.form == "acl" else -group["lr"])
        return loss

    def _buffer(self, p: Tensor) -> Tensor:
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return state["momentum_buffer"]

    def _add_directions(
        self, sums: list[Tensor], params: list[Tensor], grads: list[Tensor], group: dict[str, Any]
    ) -> None:
        """Add each parameter's d to its entry of `sums`, without temporary arrays where that is possible."""
        is_scaled = [self._is_scaled(p, group) for p in params]
        if plain := [k for k, scaled in enumerate(is_scaled) if not scaled]:
            torch._foreach_add_([sums[k] for k in plain], [grads[k] for k in plain])
        if scaled := [k for k, scaled in enumerate(is_scaled) if scaled]:
            sums, params, grads = ([tensors[k] for k in scaled] for tensors in (sums, params, grads))
            # d = a g + b p with numbers a, b for each tensor.
            of_grad, of_param = _NUMBERS[self.form](params, grads, group)
            torch._foreach_addcmul_(sums, grads, list(of_grad.unbind()))
            if group["weight_decay"]:
                torch._foreach_addcmul_(sums, params, list(of_param.unbind()))

    def _is_scaled(self, p: Tensor, group: dict[str, Any]) -> bool:
        if self.form == "mae":
            return p.ndim > 1
        return self.form == "acl" or p.ndim != 1 or not group["exclude_vectors"]


def _norms(tensors: list[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(tensors))


def _mae(params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> tuple[Tensor, Tensor]:
    decay = group["weight_decay"]
    p, d = _norms(params), _norms(list(torch._foreach_add(grads, params, alpha=decay)) if decay else grads)
    ratio = torch.where((p > 0) & (d > 0), group["trust"] * p / d, 1.0)
    return ratio, ratio * decay


def _solo_learn(params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> tuple[Tensor, Tensor]:
    p, g, decay = _norms(params), _norms(grads), group["weight_decay"]
    ratio = group["trust"] * p / (g + decay * p + group["eps"])
    if group["clip"]:
        ratio = (ratio / group["lr"]).clamp(max=1.0)
    usable = (p != 0) & (g != 0)
    return torch.where(usable, ratio, 1.0), torch.where(usable, ratio * decay, 0.0)


def _acl(params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> tuple[Tensor, Tensor]:
    p, g, decay = _norms(params), _norms(grads), group["weight_decay"]
    ratio = torch.where((p < TINY) | (g < TINY), 1.0, group["trust"] * p / (g + decay * p)) * group["lr"]
    return ratio, ratio * decay


_NUMBERS = {"mae": _mae, "solo-learn": _solo_learn, "acl": _acl}
