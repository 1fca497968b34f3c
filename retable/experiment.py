"""What a paper gives for each of its experiments, and how the engine runs it.

An experiment is built from its settings: data, untrained model, and whatever else a run needs. `train` loops over
`context.epochs`, once for each phase; `measure` evaluates the model. The engine keeps and loads weights, and answers
for controls that need no model.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import ClassVar, Generic, TypeVar

from torch import Tensor, nn

from retable.plan import Cell
from retable.settings import Settings
from retable.train.context import Context, Measured

S = TypeVar("S", bound=Settings)


class Experiment(Generic[S]):
    """One seed of one cell. `model` is the network whose weights are kept as `last`."""

    settings_class: ClassVar[type[Settings]]
    controls: ClassVar[Mapping[str, Callable]] = {}
    """Variants that are measured without a model, by `function(settings, context)`."""
    model: nn.Module

    def __init__(self, settings: S, context: Context) -> None:
        self.settings, self.context = settings, context

    def train(self) -> None:
        """Train the model, in `context.epochs` alone."""
        raise NotImplementedError

    def measure(self) -> Measured:
        """Metrics of the model as it is."""
        raise NotImplementedError

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The loss of the model on one batch without chance in it: a step along its gradient lowers it."""
        raise NotImplementedError


def run(module: ModuleType, cell: Cell, context: Context) -> Measured:
    """Train and measure one seed by the experiment in a paper's module."""
    if not hasattr(module, "EXPERIMENT"):
        return module.run(cell, context)
    kind, settings = _experiment(module, cell)
    if cell.variant in kind.controls:
        return kind.controls[cell.variant](settings, context)
    experiment = kind(settings, context)
    experiment.train()
    context.keep("last", experiment.model.state_dict())
    return experiment.measure()


def evaluate(module: ModuleType, cell: Cell, context: Context) -> Measured:
    """Measure the weights that a finished run kept, without training."""
    if not hasattr(module, "EXPERIMENT"):
        return module.evaluate(cell, context)
    kind, settings = _experiment(module, cell)
    if cell.variant in kind.controls:
        return kind.controls[cell.variant](settings, context)
    experiment = kind(settings, context)
    experiment.model.load_state_dict(context.kept("last"))
    return experiment.measure()


def fixed_batch(module: ModuleType, cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The untrained model of a cell and its loss on one batch."""
    if not hasattr(module, "EXPERIMENT"):
        return module.fixed_batch(cell, context)
    kind, settings = _experiment(module, cell)
    experiment = kind(settings, context)
    return experiment.model, experiment.fixed_batch()


def _experiment(module: ModuleType, cell: Cell) -> tuple[type[Experiment], Settings]:
    kind: type[Experiment] = module.EXPERIMENT
    return kind, kind.settings_class.parse(cell.settings, f"{cell.paper}/{cell.recipe} {cell.dataset} {cell.variant}")
