"""One linear probe for the encoders of all papers: `retable probe`.

Papers evaluate frozen features each in its own way. Here the weights that finished runs kept give features of the same
images or nodes, and the same logistic regression scores them: fitted on the split's training items, its penalty chosen
on the validation items (a tenth of the training items where the split has none), reported on the test items. An encoder
that was trained for longer stays so: its budget is its recipe's.
"""

from collections.abc import Iterator

import numpy as np
import torch

from retable.cards import CardError
from retable.config import Workspace
from retable.currency import RecordStore
from retable.data.containers import NodeGraph
from retable.data.image_batches import held_out
from retable.data.image_sets import ImageSet
from retable.evaluate.probes import chosen_accuracy, probe
from retable.experiment import Experiment
from retable.plan import Cell
from retable.probed import Probe, write_probes
from retable.records import RunRecord
from retable.run import claimed_device, make_context, paper_module, restored
from retable.train.context import Context
from retable.train.determinism import make_deterministic


def probe_kept(workspace: Workspace) -> Iterator[str]:
    """Probe every seed of the selection whose weights are kept and whose record is current; a line for each cell.

    Raises CardError where the selection has no such seed.
    """
    found: list[Probe] = []
    current = _current(workspace)
    without = 0
    for cell in workspace.cells:
        records = [current[key] for seed in cell.seeds if (key := (cell.identity, seed)) in current]
        if not records or not _has_features(workspace, cell):
            continue
        kept = [
            record for record in records if any(cell.state_folder(workspace.results, record.seed).glob("*.safetensors"))
        ]
        without += len(records) - len(kept)
        if kept:
            own = [_probed(workspace, cell, record) for record in kept]
            write_probes(workspace.root, own)
            found += own
            yield f"{cell.name}: {', '.join(f'{line.accuracy:.2f}' for line in own)} %"
    if not found:
        raise CardError(
            f"nothing to probe: no current run of the selection kept weights here ({without} ran elsewhere, whose "
            "weights are not published); measure some first, by `retable run`"
        )
    yield f"{len(found)} seeds; {without} more have no weights here"


def _current(workspace: Workspace) -> dict[tuple[str, int], RunRecord]:
    store = RecordStore.open(workspace)
    return {
        (record.identity, record.seed): record
        for record in store.records
        if record.state == "ok" and store.currency.reason(record) is None
    }


def _has_features(workspace: Workspace, cell: Cell) -> bool:
    kind: type[Experiment] = paper_module(workspace, cell).EXPERIMENT
    return cell.variant not in kind.controls and kind.representations is not Experiment.representations


def _probed(workspace: Workspace, cell: Cell, record: RunRecord) -> Probe:
    with claimed_device(workspace) as device:
        make_deterministic(device)
        context = make_context(workspace, cell, record.seed, device)
        experiment = restored(paper_module(workspace, cell), cell, context)
        accuracy, features = common_probe(experiment, context)
    metric = workspace.papers[cell.paper].recipe(cell.recipe).metric
    return Probe(
        cell=cell.identity,
        seed=record.seed,
        dataset=cell.dataset,
        value=record.metrics[metric],
        accuracy=accuracy,
        features=features,
    )


def common_probe(experiment: Experiment, context: Context) -> tuple[float, int]:
    """Test accuracy in percent of the probe on an experiment's features, and how many features there are.

    Raises CardError for data that are neither images in memory nor a graph with classes of nodes.
    """
    data, split = context.data()
    if isinstance(data, ImageSet):
        labels = data.labels
        parts = [*held_out(split.train[labels[split.train] >= 0], split.val), split.test]
    elif isinstance(data, NodeGraph):
        labels = data.y
        parts = [np.flatnonzero(mask) for mask in (split.train, split.val, split.test)]
    else:
        raise CardError(f"{context.cell.name}: the common probe is for images in memory and for nodes of one graph")
    places = torch.from_numpy(np.concatenate(parts)).to(context.device)
    part = torch.arange(3).repeat_interleave(torch.tensor([len(rows) for rows in parts])).to(context.device)
    z, y = experiment.representations(places), torch.from_numpy(labels).to(context.device)[places]
    fit, val, test = ((part == number)[None] for number in range(3))
    return chosen_accuracy(probe(z, y, fit).right, val, test)[0].item(), z.shape[1]
