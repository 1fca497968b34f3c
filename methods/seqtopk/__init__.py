"""SeqTopK: experts are given to the tokens of a sequence together, not to each token alone."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .hf import patch, unpatch

__all__ = ["patch", "unpatch"]


def __getattr__(name: str) -> Any:
    # On use, so that the settings can be read without torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import hf

    return getattr(hf, name)
