"""What an experiment is given, on nodes and on sets of graphs: data, and the scores of their representations."""

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from retable.settings import Settings
from retable.train.context import Context, Result

S = TypeVar("S", bound=Settings)


class Task:
    """Data as tensors and the protocol that scores representations z (n, d) of its n nodes or graphs."""

    def scores(self, z: Tensor) -> dict[str, float]:
        """Scores in percent of frozen representations."""
        raise NotImplementedError

    def geometry(self, z: Tensor) -> dict[str, float]:
        """How the representations are distributed."""
        raise NotImplementedError

    def majority_scores(self) -> dict[str, float]:
        """Scores of the most frequent class as the answer to everything."""
        raise NotImplementedError

    def raw_features(self) -> Tensor:
        """The features themselves as representations (n, F)."""
        raise NotImplementedError

    def evaluate(self, z: Tensor) -> dict[str, float]:
        """All metrics of representations."""
        return self.scores(z) | self.geometry(z)


def controls(load: Callable[[S, Context], Task]) -> dict[str, Callable[[S, Context], Result]]:
    """The variants without an encoder, of the task that ``load`` gives."""

    def majority(settings: S, context: Context) -> Result:
        return Result(load(settings, context).majority_scores())

    def raw_features(settings: S, context: Context) -> Result:
        task = load(settings, context)
        return Result(task.evaluate(task.raw_features()))

    return {"majority": majority, "raw-features": raw_features}
