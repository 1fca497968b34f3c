import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

from methods.contranorm.hf import patched
from methods.contranorm.language import END, START, UNKNOWN, Task, Words, make_model, task_score
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
CPU = torch.device("cpu")


def rows(name: str = "glue-rte", labels: tuple = (0.0, 1.0, 1.0), classes: tuple = ("no", "yes")) -> SentenceSet:
    columns = {
        "sentence1": ("A cat sat.", "Dogs bark at the moon, " * 6, "Rain falls."),
        "sentence2": ("A cat sat down.", "No dogs.", "It is dry."),
    }
    return SentenceSet(name, columns, np.array(labels), classes, {})


SPLIT = SentenceSplit(np.arange(2), np.array([2]), np.array([2]))


def settings_of(**changes) -> LanguageSettings:
    return LanguageSettings.parse(SETTINGS | changes, "made-up")


def task_of(rows: SentenceSet, split: SentenceSplit = SPLIT, backbone: str = "tiny-random-bert") -> Task:
    return Task(rows, split, backbone, 16, CPU)


def test_words_are_numbered_by_frequency_and_unknown_ones_share_a_number():
    words = Words(["The cat, the dog", "the end"], size=6)
    assert list(words.ids) == ["the", ","]
    assert len(words) == 6
    assert words.encode("The cat", None, 8) == ([START, 4, UNKNOWN, END], [0, 0, 0, 0])


def test_of_two_texts_the_longer_one_loses_its_end():
    words = Words(["a b c d e f g"])
    tokens, segments = words.encode("a b c d e", "f g", 8)
    assert tokens == [START, *(words.ids[word] for word in "abc"), END, *(words.ids[word] for word in "fg"), END]
    assert segments == [0, 0, 0, 0, 0, 1, 1, 1]


def test_a_batch_is_as_wide_as_its_longest_row_rounded_up_to_8():
    task = task_of(rows())
    inputs, labels = task.batch(np.array([0, 2]))
    assert inputs["input_ids"].shape == (2, 16)
    assert inputs["attention_mask"].sum(1).tolist() == [len(task.encoded[0][0]), len(task.encoded[2][0])]
    assert (inputs["input_ids"][inputs["attention_mask"] == 0] == task.pad).all()
    assert labels.tolist() == [0, 1]


def test_the_vocabulary_comes_from_training_rows_alone():
    task = task_of(rows())
    assert task.encoded[2][0].count(UNKNOWN) == 5  # rain, falls, it, is, dry; but not the sign


def test_scores_are_learnt_by_their_squared_error():
    task = task_of(rows("glue-sts-b", (0.5, 4.0, 2.0), ()))
    model = make_model(settings_of(), task).eval()
    inputs, labels = task.batch(np.array([0, 1]))
    outputs = model(**inputs).logits
    assert outputs.shape == (2, 1)
    expected = ((outputs.squeeze(1) - torch.tensor([0.5, 4.0])) ** 2).mean()
    torch.testing.assert_close(task.loss(model, inputs, labels), expected)


def test_scores_are_judged_by_both_correlations_and_classes_by_accuracy_too(monkeypatch):
    split = SentenceSplit(np.array([0]), np.arange(0), np.array([0, 1, 2]))
    task = task_of(rows("glue-sts-b", (0.5, 4.0, 2.0), ()), split)
    monkeypatch.setattr(task, "predictions", lambda model, indices: np.array([1.0, 9.0, 2.0]))
    scores = task.scores(None, "test")
    pearson = np.corrcoef([0.5, 4.0, 2.0], [1.0, 9.0, 2.0])[0, 1]
    assert scores == {"test_score": pytest.approx(100), "test_pearson": pytest.approx(100 * pearson)}
    task = task_of(rows("glue-mrpc"), split)
    monkeypatch.setattr(task, "predictions", lambda model, indices: np.ones(3))
    assert set(task.scores(None, "test")) == {"test_score", "test_accuracy"}
    counts = {"test_largest_class_share", "test_items"}
    assert set(task.scores(None, "test", counts=True)) == {"test_score", "test_accuracy"} | counts


@pytest.mark.parametrize("scale", [0.0, 0.1])
def test_a_scale_of_zero_is_the_plain_model(scale):
    task = task_of(rows())
    assert patched(make_model(settings_of(norm_scale=scale), task)) == (scale > 0)


def test_each_task_has_the_metric_of_the_papers_table():
    right, answers = np.array([1, 1, 1, 0]), np.array([1, 1, 0, 0])
    assert task_score("glue-rte", right, answers) == 75
    assert task_score("glue-cola", right, answers) == pytest.approx(100 / 3**0.5)  # (2*1 - 0*1) / sqrt(3*2*1*2)
    assert task_score("glue-mrpc", right, answers) == pytest.approx(80)
    assert task_score("glue-qqp", right, answers) == pytest.approx(80)
    assert task_score("glue-sts-b", np.array([1.0, 2.0, 5.0]), np.array([0.1, 0.2, 9.0])) == pytest.approx(100)
    assert task_score("glue-sts-b", np.array([1.0, 2.0]), np.array([3.0, 3.0])) == 0


def test_pretrained_weights_and_tokenizer_come_from_the_users_folder(tmp_path, monkeypatch):
    place = tmp_path / "bert-base-uncased"
    place.mkdir()
    (place / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "."]))
    BertTokenizerFast(str(place / "vocab.txt")).save_pretrained(place)
    config = BertConfig(vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    pretrained = BertForMaskedLM(config)
    pretrained.save_pretrained(place)
    monkeypatch.setenv("RETABLE_WEIGHTS", str(tmp_path))
    task = task_of(rows(), backbone="bert-base-uncased")
    assert task.encoded[0] == ([2, 5, 6, 7, 8, 3, 5, 6, 7, 1, 8, 3], [0] * 6 + [1] * 6)
    model = make_model(settings_of(backbone="bert-base-uncased"), task)
    assert patched(model)
    stored = pretrained.bert.state_dict()
    assert all(torch.equal(value, model.bert.state_dict()[name]) for name, value in stored.items())


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
