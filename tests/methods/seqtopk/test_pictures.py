"""The heat map: its size, its colours, and that numbers are written, too."""

import numpy as np

from methods.seqtopk.pictures import CELL, COLUMNS, MOST, heat_map


def cell(pixels: np.ndarray, line: int, column: int) -> np.ndarray:
    return pixels[line * CELL : (line + 1) * CELL - 1, column * CELL : (column + 1) * CELL - 1]


def test_colour_grows_with_the_number_and_the_number_is_written():
    pixels = heat_map(b"abc", np.array([[0, 2, 4]]), K=2)
    assert pixels.dtype == np.uint8
    corners = [cell(pixels, 1, column)[0, 0].astype(int) for column in range(3)]
    assert corners[0].tolist() == [255, 255, 255]
    assert (corners[0] > corners[1]).all()
    assert corners[2].tolist() == MOST.tolist()
    for column in range(3):
        assert len(np.unique(cell(pixels, 1, column).reshape(-1, 3), axis=0)) > 1


def test_long_texts_break_into_lines():
    one, two = (heat_map(b"x" * tokens, np.ones((2, tokens), int), K=1) for tokens in (COLUMNS, COLUMNS + 1))
    assert one.shape[1] == two.shape[1] == COLUMNS * CELL
    assert two.shape[0] == 2 * one.shape[0]


def test_any_byte_can_be_shown():
    assert heat_map(bytes([0, 10, 200, 65]), np.zeros((1, 4), int), K=2).shape[2] == 3
