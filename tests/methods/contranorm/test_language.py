import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

from methods.contranorm.hf import patched
from methods.contranorm.language import FineTuning, make_tokenizer
from methods.contranorm.settings import LanguageSettings
from retable.cards import CardError, load_papers
from retable.config import Config, Workspace
from retable.data.fetch import fetch
from retable.data.sentence_sets import SentenceSet, SentenceSplit
from retable.plan import Cell, recipe_cells
from retable.records import read_record
from retable.run import evaluate_cell, run_cell

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = {
    "backbone": "tiny-random-bert",
    "max_length": 16,
    "norm_scale": 0.1,
    "position": "7",
    "form": "row",
    "batch_size": 2,
    "epochs": 1,
    "lr": 0.001,
    "eps": 1e-6,
    "weight_decay": 0.0,
}


def rows(classes: tuple = ("no", "yes")) -> SentenceSet:
    columns = {"sentence1": ("A cat sat.", "Dogs bark at the moon", "Rain falls.")}
    return SentenceSet("glue-made-up", columns, np.array([0.5, 4.0, 2.0]), classes, {})


class Given:
    """What the experiment asks of a run's context."""

    device = torch.device("cpu")

    def __init__(self, data: SentenceSet) -> None:
        self.data = lambda: (data, SentenceSplit(np.arange(2), np.array([2]), np.array([2])))

    def seed_torch(self, *names: str) -> None:
        torch.manual_seed(0)


def settings_of(**changes) -> LanguageSettings:
    return LanguageSettings.parse(SETTINGS | changes, "made-up")


def test_the_vocabulary_comes_from_training_rows_alone():
    words = make_tokenizer("tiny-random-bert", rows(), np.arange(2))
    assert words.encode("Rain falls.", None, 16)[0].count(words.unknown) == 2  # but not the sign


def test_scores_are_learnt_by_their_squared_error():
    one = FineTuning(settings_of(), Given(rows(classes=())))
    one.model.eval()
    inputs, labels = one.task.batch(np.array([0, 1]))
    outputs = one.model(**inputs).logits
    assert outputs.shape == (2, 1)
    torch.testing.assert_close(one.loss(inputs, labels), ((outputs.squeeze(1) - torch.tensor([0.5, 4.0])) ** 2).mean())


def test_beside_an_accuracy_stand_the_share_of_one_class_and_the_number_of_rows(monkeypatch):
    one = FineTuning(settings_of(), Given(rows()))
    monkeypatch.setattr(one, "predictions", lambda indices: np.ones(len(indices)))
    assert set(one.scores("test")) == {"test_score", "test_accuracy"}
    counts = {"test_largest_class_share", "test_items"}
    assert set(one.scores("test", counts=True)) == {"test_score", "test_accuracy"} | counts


@pytest.mark.parametrize("scale", [0.0, 0.1])
def test_a_scale_of_zero_is_the_plain_model(scale):
    assert patched(FineTuning(settings_of(norm_scale=scale), Given(rows())).model) == (scale > 0)


def test_pretrained_weights_come_from_the_users_folder(tmp_path, monkeypatch):
    place = tmp_path / "bert-base-uncased"
    place.mkdir()
    (place / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "."]))
    BertTokenizerFast(str(place / "vocab.txt")).save_pretrained(place)
    config = BertConfig(vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    pretrained = BertForMaskedLM(config)
    pretrained.save_pretrained(place)
    monkeypatch.setenv("RETABLE_WEIGHTS", str(tmp_path))
    one = FineTuning(settings_of(backbone="bert-base-uncased"), Given(rows()))
    assert one.task.encoded[0] == ([2, 5, 6, 7, 8, 3], [0] * 6)
    assert patched(one.model)
    stored, loaded = pretrained.bert.state_dict(), one.model.bert.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in stored.items())


def test_an_unknown_backbone_is_named():
    choices = "'tiny-random-bert', 'bert-base-uncased' or 'albert-base-v2'"
    with pytest.raises(CardError, match=f"'backbone' is 'tiny-random-bart': .* {choices}"):
        settings_of(backbone="tiny-random-bart")


def test_full_cells_use_the_papers_values_and_no_tiny_model():
    workspace = Workspace(ROOT, Config())
    for recipe in ("glue", "glue-albert"):
        cells = recipe_cells("contranorm", load_papers(ROOT)["contranorm"].recipe(recipe), workspace.datasets, "full")
        assert len(cells) == 4 * 6
        assert {cell.settings["lr"] for cell in cells} == {2e-5}
        assert all("tiny" not in str(cell.settings["backbone"]) + cell.variant for cell in cells)


@pytest.mark.mirror
@pytest.mark.slow
def test_the_reduced_recipe_runs_on_real_rows_and_evaluates_alone(mirror, tmp_path):
    for name in ("methods", "retable"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "datasets").mkdir()  # the real one would receive the files
    for card in (ROOT / "datasets").glob("*.yaml"):
        (tmp_path / "datasets" / card.name).symlink_to(card)
    workspace = Workspace(tmp_path, Config(device="cpu"))
    recipe = workspace.papers["contranorm"].recipe("glue")
    cells = recipe_cells("contranorm", recipe, workspace.datasets, "reduced")
    cell: Cell = next(cell for cell in cells if cell.variant == "tiny-contranorm" and cell.dataset == "glue-cola")
    cell = dataclasses.replace(cell, seeds=(0,), settings=cell.settings | {"epochs": 2, "max_length": 24})
    fetch(workspace.datasets["glue-cola"], workspace.raw, str(mirror))
    folder = run_cell(workspace, cell).folder
    record = read_record(folder / "seed-0.json")
    curve = (folder / "seed-0.curve.jsonl").read_bytes()
    assert record.state == "ok", record.error
    assert curve.count(b"\n") == 2
    assert evaluate_cell(workspace, cell, 0).metrics == record.metrics
    (folder / "seed-0.json").unlink()
    run_cell(workspace, cell)
    assert read_record(folder / "seed-0.json").metrics == record.metrics
    assert (folder / "seed-0.curve.jsonl").read_bytes() == curve
