"""Pairs of words: an augmentation graph that is known in full, with eigenvalues that are known exactly."""

import itertools
from pathlib import Path

import numpy as np

from retable.cards import DatasetCard
from retable.data.containers import NodeGraph, NodeSplit, canonical_csr


def word_pairs(card: DatasetCard, raw: Path) -> NodeGraph:
    """All words of b bits, and how often two of them are views of one sample.

    Bit i of two views is the same with probability (1 + r_i) / 2, independently; the option `agreement` lists r_i in
    eighths, as in "7 6 4". Row x of the features holds A(x, y), the probability of the pair (x, y) over the geometric
    mean of both words' own: the normalised augmentation graph (HaoChen et al., 2021, https://arxiv.org/abs/2106.04156).
    Its eigenvectors are products of bits taken as signs and its eigenvalues the products of their r_i. All numbers are
    dyadic fractions, the same on every machine. Classes are the first bit. Split `whole`: every word is for training.
    """
    eighths = [int(part) for part in str(card.options["agreement"]).split()]
    if not eighths or not all(0 <= r <= 8 for r in eighths):
        raise ValueError(f"`agreement` lists eighths from 0 to 8, got {card.options['agreement']!r}")
    words = np.array(list(itertools.product((1, -1), repeat=len(eighths))))
    same = words[:, None, :] * words[None, :, :]  # (n, n, b): 1 where a bit agrees
    pairs = ((8 + same * np.array(eighths)) / 16).prod(axis=2)
    source, target = np.nonzero(np.triu(pairs, 1))
    edges = np.stack([source, target]).astype(np.int64)
    classes = (words[:, 0] < 0).astype(np.int64)
    everything, nothing = np.ones(len(words), dtype=bool), np.zeros(len(words), dtype=bool)
    whole = NodeSplit(everything, nothing, nothing)
    return NodeGraph(card.name, canonical_csr(pairs), edges, classes, {"whole": whole})
