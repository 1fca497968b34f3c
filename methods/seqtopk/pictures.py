"""How many experts each token of a text uses, as a picture."""

import numpy as np
from PIL import Image, ImageDraw

CELL, COLUMNS, MARGIN = 15, 64, 6
MOST = np.array([33, 84, 143])  # the colour of the largest count; none is white


def heat_map(text: bytes, counts: np.ndarray, K: int) -> np.ndarray:
    """Pixels uint8 (H, W, 3): lines of characters, and under each a line a layer with the token's number of experts.

    `text` has T bytes, `counts` is int (layers, T). Colour grows with the number, from white at 0 to full at 2 K.
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
            strength = min(1.0, number / (2 * K))
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
