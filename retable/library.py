"""The suite from a notebook: `retable.run` measures a cell, `retable.benchmark` your model under a paper's protocol.

    run = retable.run("contranorm/node-depth", variant="contranorm", axes={"depth": 8})
    run.record.metrics, run.curve, run.weights["last"]

    found = retable.benchmark(MyGNN(), protocol="gcl/node", dataset="cora")
    print(found)                                     # beside the rows that the suite has measured

In a clone, or a folder of `retable init`, results and data are that folder's; elsewhere they are in the user's cache.
"""

import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from retable.cards import SCALES, CardError, Scalar, Scale, unknown
from retable.config import Workspace, find_root, load_config
from retable.currency import RecordStore, provenance_of
from retable.data.fetch import fetch
from retable.plan import Cell, plan, recipe_cells
from retable.records import RunRecord
from retable.run import claimed_device, make_context, run_cell
from retable.settings import load_paper_module, settings_class
from retable.significance import deviation
from retable.train.determinism import make_deterministic
from retable.whatif import explore, select

# A paper's module that evaluates a model of somebody else's: experiment -> function(model, settings, context).
PROTOCOLS = "protocols"


def workspace(root: Path | str | None = None, **config: Any) -> Workspace:
    """The workspace at `root`, else the one around the current folder, else one in the user's cache."""
    if root is None:
        try:
            root = find_root(Path.cwd())
        except CardError:
            cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            root = cache / "retable"
            root.mkdir(parents=True, exist_ok=True)
    return Workspace(Path(root), load_config(Path(root) / "config" / "config.yaml", **config))


@dataclass(frozen=True)
class Run:
    """One measured seed: its record, its curve (a dictionary a logged epoch) and the weights that it kept, by name."""

    record: RunRecord
    curve: list[dict[str, Any]]
    weights: dict[str, dict[str, Tensor]]


def run(
    recipe: str,
    *,
    dataset: str | None = None,
    variant: str | None = None,
    axes: Mapping[str, Scalar] | None = None,
    settings: Mapping[str, Scalar] | None = None,
    scale: Scale = "demo",
    seed: int = 0,
    root: Path | str | None = None,
    **config: Any,
) -> Run:
    """Measure one seed of one cell of `<paper>/<recipe>`, or take it if it is measured. With `settings` that no card
    lists it is an exploration. `config` are keys of config/config.yaml, such as `papers_from` and `device`.

    Raises CardError where the selection is no single cell, DataError without its data. A run that fails or diverges
    has that in its record.
    """
    paper, _, name = recipe.partition("/")
    chosen = workspace(root, scale=scale, papers=[paper], recipes=[name] if name else None, **config)
    cells = [cell for cell in chosen.cells if dataset in (None, cell.dataset)]
    if dataset and not cells:
        raise CardError(unknown("data set", dataset, sorted({cell.dataset for cell in chosen.cells})))
    cells = select(cells, [variant] if variant else None, {key: [value] for key, value in (axes or {}).items()})
    if settings:
        cells = explore(cells, chosen.papers, {key: [value] for key, value in settings.items()})
        for cell in cells:
            settings_class(cell.paper, chosen.experiment(cell)).parse(cell.settings, recipe)
    if len(cells) != 1:
        some = "; ".join(f"{cell.dataset} {cell.variant} {dict(cell.axes) or ''}".strip() for cell in cells[:4])
        raise CardError(f"{recipe}: {len(cells)} cells; choose one by dataset, variant and axes: {some}, ...")
    (cell,) = cells
    fetch(chosen.datasets[cell.dataset], chosen.raw, chosen.mirror)
    outcome = run_cell(chosen, replace(cell, seeds=(seed,)))
    path = outcome.folder / f"seed-{seed}.curve.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return Run(outcome.records[seed], [json.loads(line) for line in lines], _weights(chosen, cell, seed))


def _weights(chosen: Workspace, cell: Cell, seed: int) -> dict[str, dict[str, Tensor]]:
    from safetensors.torch import load_file

    folder = cell.state_folder(chosen.results, seed)
    return {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}


@dataclass(frozen=True)
class Line:
    """A row of the suite at the same protocol, scale and data set."""

    name: str
    values: list[float]

    def __str__(self) -> str:
        std = deviation(self.values)
        spread = "" if std is None else f" ± {std:.2f}"
        return f"{self.name:32} {statistics.mean(self.values):8.2f}{spread}  (n = {len(self.values)})"


@dataclass(frozen=True)
class Benchmark:
    """A model's metrics by seed, and the suite's own rows in the protocol's metric. `str` lays them side by side."""

    protocol: str
    dataset: str
    scale: Scale
    metric: str
    unit: str
    metrics: list[dict[str, float]]
    suite: list[Line]

    @property
    def own(self) -> Line:
        return Line("yours", [found[self.metric] for found in self.metrics])

    def __str__(self) -> str:
        head = f"{self.protocol} on {self.dataset}, {self.scale} scale: {self.metric}" + (
            f" ({self.unit})" if self.unit else ""
        )
        rows = [str(line) for line in self.suite] or ["(the suite has no current record of it here)"]
        return "\n".join([head, str(self.own), *rows])


def protocols(root: Path | str | None = None) -> dict[str, str]:
    """What `benchmark` offers: `<paper>/<recipe>` -> what the model must be."""
    chosen, found = workspace(root), {}
    for paper, card in chosen.papers.items():
        if (chosen.folder_of(paper) / f"{PROTOCOLS}.py").is_file():
            table = load_paper_module(paper, PROTOCOLS).PROTOCOLS
            for recipe in card.recipes:
                if recipe.experiment in table:
                    found[f"{paper}/{recipe.name}"] = " ".join((table[recipe.experiment].__doc__ or "").split())
    return found


def benchmark(
    model: Callable[..., Tensor],
    *,
    protocol: str,
    dataset: str | None = None,
    scale: Scale | None = None,
    seeds: Sequence[int] = (0,),
    root: Path | str | None = None,
    **config: Any,
) -> Benchmark:
    """Evaluate a model that is trained already under the protocol of a recipe, `<paper>/<recipe>`, at its settings.

    `protocols()` says what the model must be: a function of a torch-geometric `Data` or batch to representations, of
    images to features, or of images to logits. Without a scale the largest is taken that has the data set. A seed
    decides what the protocol draws, such as its splits; the model is the same for all.
    """
    paper, _, name = protocol.partition("/")
    chosen = workspace(root, **config)
    offered = protocols(root)
    if protocol not in offered:
        raise CardError(unknown("protocol", protocol, list(offered)))
    recipe = chosen.papers[paper].recipe(name)
    cell = _cell_of(chosen, paper, name, dataset, scale)
    evaluate = load_paper_module(paper, PROTOCOLS).PROTOCOLS[recipe.experiment]
    settings = settings_class(paper, recipe.experiment).parse(cell.settings, protocol)
    fetch(chosen.datasets[cell.dataset], chosen.raw, chosen.mirror)
    module = model if isinstance(model, torch.nn.Module) else None
    was_training = module.training if module else False
    found = []
    with claimed_device(chosen) as device:
        make_deterministic(device)
        if module:
            module.eval()
            module.to(device)
        for seed in seeds:
            context = make_context(
                chosen, replace(cell, variant="yours", axes={}), seed, device, provenance_of(chosen, cell)
            )
            with torch.no_grad():
                found.append(evaluate(model, settings, context))
    if module:
        module.train(was_training)
    rows = _suite_rows(chosen, cell, recipe.metric)
    return Benchmark(protocol, cell.dataset, cell.scale, recipe.metric, recipe.unit, found, rows)


def _cell_of(chosen: Workspace, paper: str, name: str, dataset: str | None, scale: Scale | None) -> Cell:
    """The first cell with a model of the scale and data set, whose settings hold what the protocol needs."""
    recipe = chosen.papers[paper].recipe(name)
    for at in (scale,) if scale else reversed(SCALES):
        if at not in get_args(Scale):
            raise CardError(unknown("scale", str(at), list(SCALES)))
        for cell in recipe_cells(paper, recipe, chosen.datasets, at):
            if dataset in (None, cell.dataset) and not recipe.variants[cell.variant].control:
                return cell
    there = sorted({cell.dataset for at in SCALES for cell in recipe_cells(paper, recipe, chosen.datasets, at)})
    raise CardError(f"{paper}/{name}: {unknown('data set', str(dataset), there)}")


def _suite_rows(chosen: Workspace, cell: Cell, metric: str) -> list[Line]:
    """Current values of the recipe's rows on the same data set and scale, the best first."""
    store, recipe = RecordStore.open(chosen), chosen.papers[cell.paper].recipe(cell.recipe)
    planned = plan(chosen.papers, chosen.datasets, cell.scale, [cell.paper], [cell.dataset], [cell.recipe])
    by_cell: dict[str, list[float]] = {}
    for record in store.records:
        if record.state == "ok" and metric in record.metrics and store.currency.reason(record) is None:
            by_cell.setdefault(record.identity, []).append(record.metrics[metric])
    lines = []
    for other in planned:
        if other.identity in by_cell:
            axes = " ".join(f"{key}={value}" for key, value in other.axes.items())
            label = recipe.variants[other.variant].label
            lines.append(Line(f"{label} {axes}".strip(), by_cell[other.identity]))
    return sorted(lines, key=lambda line: statistics.mean(line.values), reverse=recipe.higher_is_better)
