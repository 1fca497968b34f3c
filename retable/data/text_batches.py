"""A text as batches of token numbers, for a model that predicts the next one."""

import numpy as np
import torch
from torch import Tensor

from retable.data.text_sets import TextSet, TextSplit


class TextBatches:
    """A text as ids, cut into rows of `tokens` + 1.

    Generated sequences are the rows themselves; running text is cut anywhere for training, and end to end for test,
    of which `windows` rows are taken, evenly spaced. `rows` (windows, tokens + 1) are the test rows; `answer` bool
    (symbols,) says which ids are judged apart.
    """

    def __init__(self, data: TextSet, split: TextSplit, tokens: int, windows: int, device: torch.device) -> None:
        self.alphabet, self.symbols = data.alphabet, len(data.alphabet)
        self.width = data.length or tokens + 1
        ids = torch.from_numpy(data.alphabet.encode(data.text))
        self.train, self.test = (ids[slice(*part)].to(device) for part in (split.train, split.test))
        self.fixed = bool(data.length)
        rows = self.test[: len(self.test) // self.width * self.width].view(-1, self.width)
        picked = np.linspace(0, len(rows) - 1, min(windows, len(rows))).astype(np.int64)
        self.rows = rows[torch.from_numpy(picked)]
        self.answer = torch.zeros(self.symbols, dtype=torch.bool)
        self.answer[torch.from_numpy(data.alphabet.encode(data.answers))] = True
        self.answer = self.answer.to(device)

    def batch(self, size: int) -> Tensor:
        """`size` rows of the training part (size, tokens + 1), drawn from torch's global stream."""
        if self.fixed:
            starts = self.width * torch.randint(len(self.train) // self.width, (size,))
        else:
            starts = torch.randint(len(self.train) - self.width + 1, (size,))
        return self.train[(starts[:, None] + torch.arange(self.width)).to(self.train.device)]
