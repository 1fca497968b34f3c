"""A grid's order and frames; the heat map's size, its colours, and that numbers are written, too."""

import numpy as np
import torch

from retable.evaluate.pictures import CELL, COLUMNS, MOST, heat_map, image_grid


def cell(pixels: np.ndarray, line: int, column: int) -> np.ndarray:
    return pixels[line * CELL : (line + 1) * CELL - 1, column * CELL : (column + 1) * CELL - 1]


def test_colour_grows_with_the_number_and_the_number_is_written():
    pixels = heat_map(b"abc", np.array([[0, 2, 4]]), full=4)
    assert pixels.dtype == np.uint8
    corners = [cell(pixels, 1, column)[0, 0].astype(int) for column in range(3)]
    assert corners[0].tolist() == [255, 255, 255]
    assert (corners[0] > corners[1]).all()
    assert corners[2].tolist() == MOST.tolist()
    for column in range(3):
        assert len(np.unique(cell(pixels, 1, column).reshape(-1, 3), axis=0)) > 1


def test_long_texts_break_into_lines():
    one, two = (heat_map(b"x" * tokens, np.ones((2, tokens), int), full=2) for tokens in (COLUMNS, COLUMNS + 1))
    assert one.shape[1] == two.shape[1] == COLUMNS * CELL
    assert two.shape[0] == 2 * one.shape[0]


def test_any_byte_can_be_shown():
    assert heat_map(bytes([0, 10, 200, 65]), np.zeros((1, 4), int), full=4).shape[2] == 3


def test_a_grid_has_its_images_in_their_places_enlarged_and_framed():
    images = torch.arange(2 * 3 * 3 * 2 * 2, dtype=torch.uint8).view(2, 3, 3, 2, 2)
    plain = image_grid(images)
    assert plain.shape == (4, 6, 3)
    assert np.array_equal(plain[2:, 4:], images[1, 2].permute(1, 2, 0).numpy())
    framed = image_grid(images, least_side=5, frame=1)
    assert framed.shape == (2 * 6, 3 * 6, 3)
    assert (framed[::6] == 255).all()
    assert np.array_equal(framed[7:11:2, 13:17:2], images[1, 2].permute(1, 2, 0).numpy())
