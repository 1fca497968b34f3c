"""What a paper gives for each of its experiments, and how the engine runs it.

An experiment is built from its settings: data, untrained model, and whatever else a run needs. `train` loops over
`context.epochs`, once for each phase; `measure` evaluates the model. The engine (`retable.run`) calls them in this
order, keeps and loads weights, and answers for controls that need no model. A paper's module ends with
`EXPERIMENT = TheClass`.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar, get_args

from torch import Tensor, nn

from retable.settings import Settings
from retable.train.best import BestCheckpoint
from retable.train.context import Context, Result

S = TypeVar("S", bound=Settings)


class Experiment(Generic[S]):
    """One seed of one cell."""

    settings_class: ClassVar[type[Settings]]
    """What stands in the brackets of `class Toy(Experiment[ToySettings])`."""
    controls: ClassVar[Mapping[str, Callable]] = {}
    """Variants that are measured without a model, by `function(settings, context)`."""
    parallel: ClassVar[bool] = False
    """Whether several processes can share a run."""
    model: nn.Module

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for base in cls.__dict__.get("__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, Settings):
                    cls.settings_class = argument

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

    def representations(self, places: Tensor) -> Tensor:
        """Frozen features (n, d) of the items at `places` (n,) of the data set, for the probe that all papers share.

        Left out where a method has none: `retable probe` passes over it.
        """
        raise NotImplementedError

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The loss of the model on one batch: a step along its gradient lowers it.

        The engine seeds torch's streams before each call of it, so chance in it is the same each time.
        """
        raise NotImplementedError


class BestEpochExperiment(Experiment[S]):
    """Keeps the weights of the last epoch, and in `best` those of the best one, which `train` notes."""

    def __init__(self, settings: S, context: Context) -> None:
        super().__init__(settings, context)
        self.best = BestCheckpoint()

    def weights(self) -> dict[str, dict[str, Tensor]]:
        return {"last": self.model.state_dict(), "best": self.best.weights}

    def load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        self.model.load_state_dict(weights["last"])
        self.best.weights = weights["best"]
