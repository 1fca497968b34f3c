"""Basis ambiguity alone: instances are bases of one eigenspace, and MAP makes them equal."""

import pytest
import torch

from methods.map.canonize import Precision, canonize_basis
from methods.map.frames import DeepSets, Task, draw
from methods.map.settings import FramesSettings


def frames(count: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(count, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]


def test_an_instance_is_a_basis_of_the_eigenspace_with_nodes_in_another_order() -> None:
    every = draw(frames(2), 5, torch.Generator().manual_seed(1))
    assert every.y.tolist() == [0] * 5 + [1] * 5
    for columns, graph in zip(every.columns, every.y, strict=True):
        torch.testing.assert_close(columns.T @ columns, torch.eye(3, dtype=torch.float64))
        lengths, expected = columns.norm(dim=1).sort()[0], frames(2)[graph].norm(dim=1).sort()[0]
        torch.testing.assert_close(lengths, expected)
    assert len({tuple(columns.flatten().tolist()) for columns in every.columns}) == 10


def test_canonized_instances_of_a_graph_differ_in_the_order_of_nodes_alone() -> None:
    for block in draw(frames(3), 4, torch.Generator().manual_seed(2)).columns.view(3, 4, 7, 3):
        canonical = [canonize_basis(each, Precision())[0] for each in block]
        ordered = [each[each[:, 0].argsort()] for each in canonical]
        for each in ordered[1:]:
            torch.testing.assert_close(each, ordered[0], atol=1e-9, rtol=0)


@pytest.fixture
def task_of(demo_cell):
    def made(**settings) -> Task:
        cell, context = demo_cell("map", "frames", "map", **settings)
        return Task(FramesSettings.parse(cell.settings, "test"), context)

    return made


def test_rows_share_the_division_and_nothing_is_in_both_parts(task_of) -> None:
    raw, canonized = task_of(encoding="raw"), task_of(encoding="map")
    assert torch.equal(raw.test.y, canonized.test.y)
    assert (len(raw.train.y), len(raw.test.y)) == (72, 8)
    seen = {tuple(columns.flatten().tolist()) for columns in raw.train.columns}
    assert not seen & {tuple(columns.flatten().tolist()) for columns in raw.test.columns}
    torch.testing.assert_close(raw.test.columns.norm(dim=2), canonized.test.columns.norm(dim=2))


def test_more_graphs_than_there_are_is_an_error(task_of) -> None:
    with pytest.raises(ValueError, match="graphs = 101: frames-7x3 has 100"):
        task_of(graphs=101)


def test_the_sign_network_is_even_and_neither_sees_the_order_of_nodes() -> None:
    columns = draw(frames(2), 2, torch.Generator().manual_seed(3)).columns.float()
    for even in (False, True):
        model = DeepSets(3, 2, 10, even=even)
        torch.testing.assert_close(model(columns.flip(1)), model(columns))
        assert torch.allclose(model(columns * torch.tensor([1, -1, 1])), model(columns), atol=1e-6) == even
