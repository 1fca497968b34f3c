from collections.abc import Callable

import pytest

from methods.lagnn.settings import NodeSettings
from retable.train.context import Context


@pytest.fixture
def make(demo_cell) -> Callable[..., tuple[NodeSettings, Context]]:
    """`make(variant, **settings)`: the settings of a demo cell and a context for its seed 0."""

    def made(variant: str, **settings) -> tuple[NodeSettings, Context]:
        cell, context = demo_cell("lagnn", "nodes", variant, **settings)
        return NodeSettings.parse(cell.settings, "test"), context

    return made
