"""What is painted on a board: colours over a picture, or a hole, whatever the brush's own colour is."""

import base64
import io

import numpy as np
import pytest
import torch
from explorer import board
from PIL import Image

CHECKS = ((227, 230, 234, 255), (89, 99, 110, 255))  # the two greys of a hole's brush


def sent(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "PNG")
    return board.PREFIX + base64.b64encode(out.getvalue()).decode()


@pytest.mark.parametrize("colour", [*CHECKS, (0, 0, 0, 255), (255, 255, 255, 255)])
def test_a_hole_is_where_something_was_brushed(colour):
    brushed = Image.new("RGBA", (16, 8), (0, 0, 0, 0))
    brushed.paste(colour, (4, 2, 8, 6))
    hole = torch.zeros(8, 16)
    hole[2:6, 4:8] = 1
    assert torch.equal(board.read(sent(brushed), 8, 16)[3], hole)


def test_paint_covers_the_picture_where_it_is():
    painted = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    painted.paste((255, 0, 0, 255), (0, 0, 4, 8))
    image = torch.full((1, 3, 8, 8), 0.25)
    over = board.over(board.read(sent(painted), 8, 8), image)
    assert torch.equal(over[..., 4:], image[..., 4:])
    assert torch.equal(over[0, :, 0, 0], torch.tensor([1.0, -1.0, -1.0]))


def test_what_no_board_sends_is_refused():
    good = sent(Image.new("RGBA", (8, 8), (1, 2, 3, 255)))
    raw = base64.b64decode(good[len(board.PREFIX) :])
    for url in (None, 3, "", "data:image/jpeg;base64,", board.PREFIX, board.PREFIX + "???", good[:60], good + "A",
                sent(Image.new("RGBA", (9, 8))), board.PREFIX + "A" * board.MOST_BYTES):  # fmt: skip
        with pytest.raises(ValueError, match="painted"):
            board.read(url, 8, 8)
    chance = np.random.default_rng(0)
    for _ in range(200):
        broken = bytearray(raw)
        for place in chance.integers(0, len(raw), 3):
            broken[place] = chance.integers(256)
        try:
            board.read(board.PREFIX + base64.b64encode(broken).decode(), 8, 8)
        except ValueError as error:
            assert "painted" in str(error), error
