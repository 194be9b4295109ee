"""Names in grids of pictures: where they are, and that they move no pixel of a picture."""

import numpy
import torch
from PIL import Image

from ld3m_plugin.artefact.captions import LINE, drawable, fitted, text_width
from ld3m_plugin.artefact.pictures import Names, save_class_grid, save_grid


def pixels(path):
    with Image.open(path) as picture:
        return torch.from_numpy(numpy.array(picture.convert("L")))


def test_names_stand_beside_above_and_below_and_pictures_stay(tmp_path):
    pictures = torch.rand(4, 1, 96, 96)
    save_grid(pictures, tmp_path / "plain.png", 2)
    plain = pixels(tmp_path / "plain.png")
    assert plain.shape == (204, 204)
    save_grid(pictures, tmp_path / "named.png", 2, Names(rows=["a", "b"], columns=["c", "d"], pictures=["e"] * 4))
    named = pixels(tmp_path / "named.png")
    left = named.shape[1] - 200
    for row in range(2):
        for column in range(2):
            top = 4 + LINE + row * (100 + LINE)
            found = named[top : top + 96, left + column * 100 : left + column * 100 + 96]
            assert torch.equal(found, plain[4 + row * 100 : 100 + row * 100, 4 + column * 100 : 100 + column * 100])
    assert (named[:LINE] < 128).any()  # above
    assert (named[4 + LINE + 96 : 4 + LINE + 100 + LINE, left:] < 128).any()  # below
    assert (named[:, : left - 4] < 128).any()  # beside


def test_rows_are_classes_where_one_has_several_pictures(tmp_path):
    pictures, classes = torch.zeros(3, 1, 96, 96), torch.tensor([1, 0, 1])
    save_class_grid(pictures, classes, ["one", "two"], tmp_path / "grid.png")
    grid = pixels(tmp_path / "grid.png")
    assert grid.shape[0] == 204
    assert grid[50, -50] == 255  # class 0 has one picture
    assert grid[150, -50] == 0


def test_letters_without_a_form_in_the_font_are_replaced():
    assert drawable("Größe", "x") == "Grosse"
    assert drawable("日本語", "class 3") == "class 3"
    assert drawable("", "class 0") == "class 0"
    assert text_width(fitted("w" * 100, 50)) <= 50
