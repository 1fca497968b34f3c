"""The common probe on weights that runs kept, against scikit-learn's logistic regression on the same features."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from retable.cards import CardError
from retable.config import Config, Workspace
from retable.probed import PROBES, read_probes
from retable.probing import common_probe, probe_kept
from retable.run import make_context, paper_module, restored, run_cell


def narrowed(workspace: Workspace, recipe: str, *variants: str) -> Workspace:
    paper, _, name = recipe.partition("/")
    chosen = Config(scale="demo", papers=[paper], recipes=[name], variants=list(variants), seeds=1, device="cpu")
    return Workspace(workspace.root, chosen)


def test_current_runs_with_weights_are_probed_and_the_rest_is_counted(workspace: Workspace) -> None:
    chosen = narrowed(workspace, "gcl/node", "untrained", "mlp-untrained", "majority")
    with pytest.raises(CardError, match="nothing to probe: no current run of the selection kept weights here"):
        list(probe_kept(chosen))
    for cell in chosen.cells:
        run_cell(chosen, cell)
    lost = next(cell for cell in chosen.cells if cell.variant == "mlp-untrained")
    for path in (chosen.results / ".state" / lost.identity / "seed-0").glob("*.safetensors"):
        path.unlink()
    *_, last = said = list(probe_kept(chosen))
    assert last == "1 seeds; 1 more have no weights here"
    assert len(said) == 2
    (found,) = read_probes(workspace.root)
    assert f"{found.accuracy:.2f} %" in said[0]
    (cell,) = (cell for cell in chosen.cells if cell.variant == "untrained")
    assert found.cell == cell.identity

    context = make_context(chosen, cell, 0, torch.device("cpu"))
    graph, split = context.data()
    z = restored(paper_module(chosen, cell), cell, context).representations(torch.arange(len(graph.y))).numpy()
    best = max(
        (
            LogisticRegression(C=c, max_iter=2000).fit(z[split.train] / z.std(), graph.y[split.train])
            for c in np.logspace(-2, 4, 7)
        ),
        key=lambda fit: fit.score(z[split.val] / z.std(), graph.y[split.val]),
    )
    assert found.accuracy == pytest.approx(100 * best.score(z[split.test] / z.std(), graph.y[split.test]), abs=2)
    assert (workspace.root / PROBES).read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("recipe", "variant"),
    [("gcl/node", "contrast"), ("umae/pretrain", "mae"), ("tricl/importance", "simclr"), ("dynacl/pretrain", "acl")],
)
def test_representations_are_those_of_the_places(workspace: Workspace, recipe: str, variant: str) -> None:
    chosen = narrowed(workspace, recipe, variant)
    cell = chosen.cells[0]
    experiment = paper_module(chosen, cell).EXPERIMENT
    context = make_context(chosen, cell, 0, torch.device("cpu"))
    model = experiment(experiment.settings_class.parse(cell.settings, cell.name), context)
    some = model.representations(torch.tensor([7, 3, 1]))
    assert some.ndim == 2
    assert some.isfinite().all()
    torch.testing.assert_close(model.representations(torch.tensor([3])), some[1:2], rtol=1e-4, atol=1e-5)
    assert not torch.equal(some[0], some[1])


def test_test_labels_decide_nothing_but_the_score(workspace: Workspace) -> None:
    """Other labels of the test nodes leave the fit as it is: right answers become wrong ones, and none else."""
    chosen = narrowed(workspace, "gcl/node", "untrained")
    context = make_context(chosen, chosen.cells[0], 0, torch.device("cpu"))
    experiment = paper_module(chosen, chosen.cells[0]).EXPERIMENT
    model = experiment(experiment.settings_class.parse(chosen.cells[0].settings, ""), context)
    graph, split = context.data()
    accuracy, features = common_probe(model, context)
    assert features == model.representations(torch.tensor([0])).shape[1]
    shifted = np.where(split.test, (graph.y + 1) % (graph.y.max() + 1), graph.y)

    class Shifted:
        cell, device = context.cell, context.device

        def data(self):
            return replace(graph, y=shifted), split

    assert accuracy > 90
    assert common_probe(model, Shifted())[0] < 10


def test_other_data_are_refused_in_a_line(workspace: Workspace) -> None:
    chosen = narrowed(workspace, "gcl/graph", "graphcl-untrained")
    context = make_context(chosen, chosen.cells[0], 0, torch.device("cpu"))
    with pytest.raises(CardError, match="the common probe is for images in memory and for nodes of one graph"):
        common_probe(object(), context)
