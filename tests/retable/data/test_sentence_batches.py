import numpy as np
import pytest
import torch

from retable.data.sentence_batches import IGNORED, LabelledBatches, PromptBatches, in_batches
from retable.data.sentence_sets import SentenceSet
from retable.data.tokenizers import Bytes, Words

CPU = torch.device("cpu")
TEXTS = {
    0: ("Two and two?", " 2+2=<<2+2=4>>4\n#### 4"),
    1: ("A longer question: three times five is how many?", " #### 15"),
}
BOTH = np.array([0, 1])


def test_the_last_batch_may_be_smaller():
    assert [piece.tolist() for piece in in_batches(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("classes", [("no", "yes"), ()])
def test_a_batch_is_as_wide_as_its_longest_row_rounded_up_to_8(classes):
    columns = {"sentence1": ("a cat sat", "dogs bark " * 9, "rain"), "sentence2": ("a cat", "no dogs", "dry")}
    rows = SentenceSet("pairs", columns, np.array([0.0, 1.0, 1.0]), classes, {})
    batches = LabelledBatches(rows, Words(columns["sentence1"]), 16, CPU)
    inputs, labels = batches.batch(np.array([0, 2]))
    assert inputs["input_ids"].shape == (2, 8)
    assert batches.batch(np.array([1]))[0]["input_ids"].shape == (1, 16)
    assert inputs["attention_mask"].sum(1).tolist() == [len(batches.encoded[0][0]), len(batches.encoded[2][0])]
    assert (inputs["input_ids"][inputs["attention_mask"] == 0] == Words.pad).all()
    assert inputs["token_type_ids"].sum(1).tolist() == [3, 2]
    assert labels.tolist() == [0, 1]
    assert labels.dtype == (torch.long if classes else torch.float32)
    assert [len(labels) for _, labels in batches.batches(np.arange(3), 2)] == [2, 1]


def test_answers_begin_in_the_column_where_prompts_end():
    problems = PromptBatches(TEXTS, Bytes(), 200, CPU)
    tokens, mask, targets = problems.batch(BOTH)
    left = problems.columns(BOTH)
    assert (targets[:, :left] == IGNORED).all()
    assert (targets[:, left] != IGNORED).all()
    for row, (question, answer) in TEXTS.items():
        kept = targets[row][targets[row] != IGNORED].tolist()
        assert problems.tokenizer.decode(kept) == answer
        assert kept[-1] == Bytes.end
        prompt = tokens[row, :left][mask[row, :left].bool()].tolist()
        assert problems.tokenizer.decode(prompt) == question
    alone, alone_mask, none = problems.batch(BOTH, answers=False)
    assert torch.equal(alone, tokens[:, :left])
    assert torch.equal(alone_mask, mask[:, :left])
    assert (none == IGNORED).all()


def test_overlong_rows_are_cut_and_keep_a_target():
    tokens, _, targets = PromptBatches(TEXTS, Bytes(), 10, CPU).batch(BOTH)
    assert tokens.shape[1] == 11
    assert ((targets != IGNORED).sum(1) == 1).all()
