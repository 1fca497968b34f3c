"""Graph contrastive learning: recipes named node... train in node.py, those named graph... in graph.py.

retable run gcl --scale demo
"""

from collections.abc import Callable
from types import ModuleType

from torch import Tensor, nn

from methods.gcl import graph, node
from retable.plan import Cell
from retable.train.context import Context, Measured


def part(cell: Cell) -> ModuleType:
    """The training story of a cell's recipe."""
    return node if cell.recipe.startswith("node") else graph


def run(cell: Cell, context: Context) -> Measured:
    """Train one seed and measure it. Metrics are accuracies in percent and measures of the representations."""
    return part(cell).run(cell, context)


def evaluate(cell: Cell, context: Context) -> Measured:
    """The metrics of a finished run from the weights it kept, without training."""
    return part(cell).evaluate(cell, context)


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The model and a loss without chance in it, for the test that one step of learning lowers the loss."""
    return part(cell).fixed_batch(cell, context)
