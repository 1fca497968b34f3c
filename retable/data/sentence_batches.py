"""Rows of text as batches of token numbers: sentences with a label, and problems with a written answer."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from retable.data.sentence_sets import SentenceSet
from retable.data.tokenizers import PairTokenizer, TextTokenizer

IGNORED = -100  # as a target: no loss


def in_batches(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The indices `order` in pieces of `size`; the last may be smaller."""
    for start in range(0, len(order), size):
        yield order[start : start + size]


class LabelledBatches:
    """Sentences, or pairs of them, with a class each (int64) or a score (float32)."""

    def __init__(self, rows: SentenceSet, tokenizer: PairTokenizer, longest: int, device: torch.device) -> None:
        self.classes, self.device, self.pad = len(rows.classes), device, tokenizer.pad
        assert rows.labels is not None
        self.labels = torch.from_numpy(rows.labels).to(torch.long if rows.classes else torch.float32)
        self.encoded = tokenizer.encode_pairs(rows.columns["sentence1"], rows.columns.get("sentence2"), longest)

    def batch(self, indices: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
        """A model's input (B, T) and the labels (B,) of some rows; T is a multiple of 8."""
        rows = [self.encoded[index] for index in indices]
        width = -(-max(len(tokens) for tokens, _ in rows) // 8) * 8
        input_ids = torch.full((len(rows), width), self.pad)
        token_types, mask = torch.zeros_like(input_ids), torch.zeros_like(input_ids)
        for row, (tokens, segments) in enumerate(rows):
            input_ids[row, : len(tokens)] = torch.tensor(tokens)
            token_types[row, : len(segments)] = torch.tensor(segments)
            mask[row, : len(tokens)] = 1
        inputs = {"input_ids": input_ids, "token_type_ids": token_types, "attention_mask": mask}
        labels = self.labels[torch.from_numpy(indices)]
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}, labels.to(self.device)

    def batches(self, order: np.ndarray, size: int) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Batches of the rows `order`, one after the other; the last may be smaller."""
        return map(self.batch, in_batches(order, size))


class PromptBatches:
    """Prompts with the answers that a model should add: `texts` maps an index to both.

    Prompts end where answers begin, in the same column of a batch. A prompt is cut at `longest` tokens, the answer to
    what is left of them, at least one.
    """

    def __init__(
        self, texts: Mapping[int, tuple[str, str]], tokenizer: TextTokenizer, longest: int, device: torch.device
    ) -> None:
        self.tokenizer, self.device = tokenizer, device
        self.rows: dict[int, tuple[list[int], list[int]]] = {}
        for index, (question, right) in texts.items():
            prompt, answer = tokenizer.encode(question), [*tokenizer.encode(right), tokenizer.end]
            self.rows[index] = prompt[:longest], answer[: max(longest - len(prompt), 1)]

    def batch(self, indices: np.ndarray, answers: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """(tokens, mask, targets), each (B, T): prompts padded on the left, answers on the right.

        Targets are the answers' tokens at their own columns, IGNORED elsewhere. Without `answers` the prompts alone.
        """
        rows = [self.rows[index] for index in indices.tolist()]
        left = self.columns(indices)
        width = left + (max(len(answer) for _, answer in rows) if answers else 0)
        tokens = torch.full((len(rows), width), self.tokenizer.pad)
        mask, targets = torch.zeros_like(tokens), torch.full_like(tokens, IGNORED)
        for row, (prompt, answer) in enumerate(rows):
            tokens[row, left - len(prompt) : left] = torch.tensor(prompt)
            mask[row, left - len(prompt) : left] = 1
            if answers:
                inside = slice(left, left + len(answer))
                tokens[row, inside] = targets[row, inside] = torch.tensor(answer)
                mask[row, inside] = 1
        return tokens.to(self.device), mask.to(self.device), targets.to(self.device)

    def columns(self, indices: np.ndarray) -> int:
        """Columns of the prompts' part of a batch."""
        return max(len(self.rows[index][0]) for index in indices.tolist())
