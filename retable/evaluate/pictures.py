"""Pictures of what a model does: images in a grid, and a number under each character of a text."""

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

CELL, COLUMNS, MARGIN = 15, 64, 6
MOST = np.array([33, 84, 143])  # the colour of the largest number; none is white


def image_grid(images: Tensor, least_side: int = 0, frame: int = 0) -> np.ndarray:
    """Images uint8 (rows, columns, 3, H, W) as one picture (height, width, 3).

    Each is enlarged by a whole factor, as far as its height stays within `least_side`, and gets a white frame.
    """
    factor = max(1, least_side // images.shape[3])
    large = images.cpu().repeat_interleave(factor, 3).repeat_interleave(factor, 4)
    framed = F.pad(large, (frame, frame, frame, frame), value=255)
    rows, columns, channels, height, width = framed.shape
    return framed.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels).numpy()


def heat_map(text: bytes, counts: np.ndarray, full: int) -> np.ndarray:
    """Pixels uint8 (H, W, 3): lines of characters, and under each a line a layer with the character's number.

    `text` has T bytes, `counts` is int (layers, T). Colour grows with the number, from white at 0 to full at `full`.
    """
    layers, tokens = counts.shape
    lines = -(-tokens // COLUMNS)
    height = lines * ((layers + 1) * CELL + MARGIN)
    image = Image.new("RGB", (min(tokens, COLUMNS) * CELL, height), "white")
    pen = ImageDraw.Draw(image)
    for position in range(tokens):
        line, column = divmod(position, COLUMNS)
        x, y = column * CELL, line * ((layers + 1) * CELL + MARGIN)
        _write(pen, x, y, _shown(text[position]), "black")
        for layer in range(layers):
            number = int(counts[layer, position])
            strength = min(1.0, number / full)
            colour = tuple(int(value) for value in np.round(255 + strength * (MOST - 255)))
            top = y + (layer + 1) * CELL
            pen.rectangle((x, top, x + CELL - 2, top + CELL - 2), fill=colour)
            _write(pen, x, top, str(number), "white" if strength > 0.6 else "black")
    return np.asarray(image)


def _shown(byte: int) -> str:
    if byte == ord("\n"):
        return "|"
    return chr(byte) if 32 <= byte < 127 else "?"


def _write(pen: ImageDraw.ImageDraw, x: int, y: int, text: str, colour: str) -> None:
    pen.text((x + CELL / 2, y + CELL / 2), text, fill=colour, anchor="mm")
