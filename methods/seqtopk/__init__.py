"""SeqTopK: experts are given to the tokens of a sequence together, not to each token alone."""

from methods.seqtopk.hf import patch, unpatch

__all__ = ["patch", "unpatch"]
