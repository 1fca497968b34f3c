"""GatedGCN on molecules with an encoding: batches, the formulas' details, one full-size step of each configuration."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from methods.map.encoding import Spectrum
from methods.map.graphs import adjacencies, encoding_of, spectrum_of
from methods.map.molecules import MoleculeNet, Molecules, Task, lap_pe
from methods.map.settings import MoleculeSettings
from retable.cards import load_paper
from retable.contract import step_lowers
from retable.data.containers import NodeSplit
from retable.data.molecules import MoleculeSet


def molecules(
    graphs: int, targets: int, labels: bool, atoms: int = 23, kinds: tuple[int, int] = (28, 4)
) -> MoleculeSet:
    """Rings with a few chords, of ZINC's mean size; a label is missing here and there."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(atoms - 5, atoms + 6, graphs)
    firsts = np.cumsum(sizes) - sizes
    links = []
    for first, size in zip(firsts, sizes, strict=True):
        ring = np.stack([np.arange(size), (np.arange(size) + 1) % size])
        chords = np.stack([np.arange(2), np.arange(2) + size // 2])
        links.append(np.concatenate([ring, chords], axis=1) + first)
    once = np.concatenate(links, axis=1)
    both = np.stack([once.T, once.T[:, ::-1]], axis=1).reshape(-1, 2).T
    y = rng.integers(0, 2, (graphs, targets)) if labels else rng.normal(size=(graphs, targets))
    y = y.astype(np.float32)
    if labels:
        y[rng.random(y.shape) < 0.2] = np.nan
    part = np.arange(graphs) % 4
    return MoleculeSet(
        "molecules",
        np.ascontiguousarray(both),
        np.repeat(rng.integers(0, kinds[1], (once.shape[1], 1)), 2, axis=0),
        rng.integers(0, kinds[0], (int(sizes.sum()), 1)),
        np.repeat(np.arange(graphs), sizes),
        y,
        {"fixed": NodeSplit(part < 2, part == 2, part == 3)},
    )


def settings(root: Path, recipe: str, variant: str, dataset: str = "", **changes) -> MoleculeSettings:
    found = load_paper(root / "methods" / "map" / "card.yaml").recipe(recipe)
    row = found.variants[variant]
    values = {key: hyper.value for key, hyper in found.hyper.items()} | row.settings | row.by_dataset.get(dataset, {})
    return MoleculeSettings.parse(values | changes, "test")


def context(data: MoleculeSet, lines: list[dict]) -> SimpleNamespace:
    return SimpleNamespace(
        data=lambda: (data, data.splits["fixed"]),
        device=torch.device("cpu"),
        seed_torch=lambda name: torch.manual_seed(0),
        epochs=lambda count, **parts: range(1, count + 1),
        log=lambda epoch, **values: lines.append(values),
    )


SMALL = {"hidden": 8, "out": 6, "layers": 2, "trunk_hidden": 4, "trunk_layers": 2, "batch_size": 5}


def test_a_batch_is_its_molecules_one_after_the_other(root: Path) -> None:
    data = molecules(6, 2, labels=False)
    task = Task(settings(root, "zinc", "map"), context(data, []))
    batch, bonds, columns, y = task.batch(torch.tensor([4, 1]))
    at = [np.flatnonzero(data.node_graph == graph) for graph in (4, 1)]
    assert batch.x.tolist() == data.node_features[np.concatenate(at)].tolist()
    assert batch.node_graph.tolist() == [0] * len(at[0]) + [1] * len(at[1])
    back = np.concatenate(at)[batch.edge_index.numpy()]
    of = [np.flatnonzero(data.node_graph[data.edge_index[0]] == graph) for graph in (4, 1)]
    np.testing.assert_array_equal(back, data.edge_index[:, np.concatenate(of)])
    assert bonds.tolist() == data.edge_features[np.concatenate(of)].tolist()
    assert y.tolist() == data.y[[4, 1]].tolist()
    expected = [encoding_of(spectrum_of(a), 8, "map").columns.float() for a in adjacencies(data, np.array([4, 1]))]
    torch.testing.assert_close(columns, torch.cat(expected))


def test_lap_pe_has_the_smallest_eigenvalues_of_the_laplacian_first_and_zeros_behind() -> None:
    vectors = torch.eye(4, dtype=torch.float64)[:, :3]
    columns = lap_pe(Spectrum(torch.tensor([-0.5, 0.1, 0.7], dtype=torch.float64), vectors), 5)
    assert torch.equal(columns, torch.cat([vectors.flip(1), torch.zeros(4, 2, dtype=torch.float64)], dim=1))


def test_missing_labels_have_no_share_in_the_loss(root: Path) -> None:
    data = molecules(8, 3, labels=True)
    found = Molecules(settings(root, "ogb", "none", dropout=0.0, **SMALL), context(data, []))
    rows = torch.arange(8)
    loss = found._loss(rows)
    batch, bonds, columns, y = found.task.batch(rows)
    logits = found.model(batch, bonds, columns)
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, y.nan_to_num(), reduction="none")
    assert 0 < y.isnan().sum() < y.numel()
    torch.testing.assert_close(loss, each[~y.isnan()].mean())


def test_training_ends_once_the_rate_has_fallen_below_its_least(root: Path) -> None:
    lines: list[dict] = []
    short = settings(root, "zinc", "none", lr=0.01, lr_patience=0, lr_factor=0.1, min_lr=0.005, epochs=200, **SMALL)
    found = Molecules(short, context(molecules(16, 1, labels=False), lines))
    found.train()
    assert 1 < len(lines) < 200
    assert lines[-1]["val_loss"] >= min(line["val_loss"] for line in lines[:-1])
    assert found.measure().metrics.keys() == {"val_mae", "test_mae"}


@pytest.mark.parametrize("variant", ["map", "random-sign", "none"])
@pytest.mark.parametrize(
    ("recipe", "dataset", "targets", "metric"),
    [("zinc", "zinc-12k", 1, "test_mae"), ("ogb", "ogbg-moltox21", 12, "test_score")],
)
def test_a_step_of_the_authors_size_lowers_the_loss(
    root: Path, recipe: str, dataset: str, targets: int, metric: str, variant: str
) -> None:
    full = settings(root, recipe, variant, dataset)
    data = molecules(2 * full.batch_size, targets, labels=recipe == "ogb")
    torch.manual_seed(0)
    found = Molecules(full, context(data, []))
    assert step_lowers(found.model, found.fixed_batch())
    assert np.isfinite(found.measure().metrics[metric])


def test_rows_on_zinc_have_nearly_as_many_parameters(root: Path) -> None:
    sizes = {
        variant: sum(p.numel() for p in MoleculeNet(([28], [4]), 1, settings(root, "zinc", variant)).parameters())
        for variant in ("map", "random-sign", "none")
    }
    assert max(sizes.values()) < 1.05 * min(sizes.values()), sizes
