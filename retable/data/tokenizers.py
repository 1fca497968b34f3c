"""Texts to token numbers: by a pretrained model's own tokenizer, or by one that needs no file, for smoke tests."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from retable.data.pretrained import pretrained_folder

Encoded = tuple[list[int], list[int]]
"""Token numbers, and of each the number of its text: 0 or 1."""


class TextTokenizer(Protocol):
    """Single texts, without marks of their beginning or end."""

    pad: int
    end: int

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text."""

    def decode(self, tokens: list[int]) -> str:
        """The text of some tokens."""


class PairTokenizer(Protocol):
    """Texts with marks of beginning and end, alone or in pairs."""

    pad: int

    def encode_pairs(self, firsts: Sequence[str], seconds: Sequence[str] | None, longest: int) -> list[Encoded]:
        """Each text with its second one, if there are any; above `longest` tokens the longer one loses its end."""


class Bytes:
    """A byte is a token; 0 pads, 1 ends."""

    pad, end, size = 0, 1, 258

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text."""
        return [byte + 2 for byte in text.encode()]

    def decode(self, tokens: list[int]) -> str:
        """The text of some tokens; what is no UTF-8 is marked."""
        return bytes(token - 2 for token in tokens if token > 1).decode(errors="replace")


class Words:
    """The `size` most frequent words, in lower case, and punctuation characters of some texts."""

    # [PAD], [UNK], [CLS], [SEP]
    pad, unknown, start, end = range(4)

    def __init__(self, texts: Iterable[str], size: int = 4000) -> None:
        counts = Counter(word for text in texts for word in self.split(text))
        words = sorted(counts, key=lambda word: (-counts[word], word))[: size - 4]
        self.ids = {word: index for index, word in enumerate(words, start=4)}

    @staticmethod
    def split(text: str) -> list[str]:
        """Words and single punctuation characters."""
        return re.findall(r"\w+|[^\w\s]", text.lower())

    def __len__(self) -> int:
        return len(self.ids) + 4

    def encode(self, first: str, second: str | None, longest: int) -> Encoded:
        """[CLS] first [SEP], or [CLS] first [SEP] second [SEP]; over `longest` tokens the longer text is truncated."""
        parts = [[self.ids.get(word, self.unknown) for word in self.split(text)] for text in (first, second or "")]
        room = longest - (3 if second is not None else 2)
        while len(parts[0]) + len(parts[1]) > room:
            max(parts, key=len).pop()
        tokens = [self.start, *parts[0], self.end] + ([*parts[1], self.end] if second is not None else [])
        return tokens, [0] * (len(parts[0]) + 2) + [1] * (len(tokens) - len(parts[0]) - 2)

    def encode_pairs(self, firsts: Sequence[str], seconds: Sequence[str] | None, longest: int) -> list[Encoded]:
        """`encode` of each text with its second one."""
        if seconds is None:
            return [self.encode(first, None, longest) for first in firsts]
        return [self.encode(first, second, longest) for first, second in zip(firsts, seconds, strict=True)]


class PretrainedTokenizer:
    """The tokenizer beside a pretrained model, in the folder that RETABLE_WEIGHTS names."""

    def __init__(self, model: str) -> None:
        from transformers import AutoTokenizer  # imported on use: it takes seconds

        self.own: Any = AutoTokenizer.from_pretrained(pretrained_folder(model), local_files_only=True)
        self.end: int = self.own.eos_token_id
        self.pad: int = self.end if self.own.pad_token_id is None else self.own.pad_token_id

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text, without marks of its beginning or end."""
        return self.own(text, add_special_tokens=False)["input_ids"]

    def decode(self, tokens: list[int]) -> str:
        """The text of some tokens."""
        return self.own.decode(tokens, skip_special_tokens=True)

    def encode_pairs(self, firsts: Sequence[str], seconds: Sequence[str] | None, longest: int) -> list[Encoded]:
        """Texts with the model's marks; above `longest` tokens the longer one of a pair loses its end."""
        texts = (list(firsts), list(seconds)) if seconds else (list(firsts),)
        encoded = self.own(*texts, truncation=True, max_length=longest, return_token_type_ids=True)
        return list(zip(encoded["input_ids"], encoded["token_type_ids"], strict=True))
