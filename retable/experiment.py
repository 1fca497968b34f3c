"""What a paper gives for each of its experiments, and how the engine runs it.

An experiment is built from its settings: data, untrained model, and whatever else a run needs. `train` loops over
`context.epochs`, once for each phase; `measure` evaluates the model. The engine (`retable.run`) calls them in this
order, keeps and loads weights, and answers for controls that need no model. A paper's module ends with
`EXPERIMENT = TheClass`.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, Generic, TypeVar

from torch import Tensor, nn

from retable.settings import Settings
from retable.train.context import Context, Result

S = TypeVar("S", bound=Settings)


class Experiment(Generic[S]):
    """One seed of one cell."""

    settings_class: ClassVar[type[Settings]]
    controls: ClassVar[Mapping[str, Callable]] = {}
    """Variants that are measured without a model, by `function(settings, context)`."""
    parallel: ClassVar[bool] = False
    """Whether several processes can share a run."""
    model: nn.Module

    def __init__(self, settings: S, context: Context) -> None:
        self.settings, self.context = settings, context

    def train(self) -> None:
        """Train the model, in `context.epochs` alone."""
        raise NotImplementedError

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """What is kept for evaluation, by name; the names are the same before training."""
        return {"last": self.model.state_dict()}

    def load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        """Take what `weights` gave."""
        self.model.load_state_dict(weights["last"])

    def measure(self) -> Result:
        """Metrics of the model as it is."""
        raise NotImplementedError

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The loss of the model on one batch without chance in it: a step along its gradient lowers it."""
        raise NotImplementedError
