"""Pretrained weights, which the user brings: nothing here downloads them."""

import os
from pathlib import Path

from retable.data.containers import DataError


def pretrained_folder(model: str) -> Path:
    """The folder `model` below the one that RETABLE_WEIGHTS names. Raises DataError in one line where it is not."""
    place = os.environ.get("RETABLE_WEIGHTS")
    folder = Path(place or ".").expanduser() / model
    if not place or not (folder / "config.json").is_file():
        raise DataError(
            f"no pretrained weights of {model}: set RETABLE_WEIGHTS to a folder that holds {model}/ with config.json, "
            "the weights and the tokenizer's files, as `save_pretrained` writes them"
        )
    return folder
