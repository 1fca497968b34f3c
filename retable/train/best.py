"""The weights of the best epoch so far, by a validation metric."""

from typing import Any

import torch


class BestCheckpoint:
    """Remembers value, epoch and weights of the best epoch; the earliest one wins a tie. Resumable."""

    def __init__(self) -> None:
        self.value = float("-inf")
        self.epoch = 0
        self.weights: dict[str, torch.Tensor] = {}

    def update(self, value: float, epoch: int, model: torch.nn.Module) -> bool:
        """Note an epoch's value (higher is better); returns whether it is the best so far."""
        if value <= self.value:
            return False
        self.value, self.epoch = value, epoch
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value, self.epoch, self.weights = state["value"], state["epoch"], state["weights"]
