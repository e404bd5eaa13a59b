"""A run of a text model as a film for the scrubber: the letters at each step, and what is predicted there.

steps = list(model.steps("it is a truth", 32))
scrub(text_film(steps, model.alphabet))
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffusion_explained.checks import all_of, check_some, typed_arguments, whole
from diffusion_explained.discrete import Alphabet, Step
from diffusion_explained.film import Film, film
from diffusion_explained.palette import LIGHT, rgb

CELL = (24, 14)  # pixels, the height and the width of a letter
FONT = 19
QUOTED = 48  # letters of the first text in a caption


@typed_arguments
def text_film(steps: Sequence[Step], alphabet: Alphabet, *, columns: int = 32) -> Film:
    """The film of a text sampler's steps: the texts x_t, and the most probable letter of x_0 at each position.

    A hidden letter is a grey block; what was written or changed in the last step is vermilion; a predicted letter is
    the bluer, the more probable it is. Captions quote the beginning of the first text, for those who do not see it.

    steps: those of a sampler, at least one. columns: letters per line.
    """
    check_some("steps", steps)
    steps, columns = all_of("steps", steps, Step), whole("columns", columns, 8, 200)
    states = [*(step.x_t for step in steps), steps[-1].x_next]
    hidden = len(alphabet.letters)
    written, predicted, captions = [], [], []
    for k, x_t in enumerate(states):
        changed = x_t != states[k - 1] if k else torch.zeros_like(x_t, dtype=torch.bool)
        ink = torch.where(changed[..., None], _colour(LIGHT.noise), _colour(LIGHT.text))
        written.append(_page(x_t, ink, alphabet.letters, columns))
        p, letters = steps[min(k, len(steps) - 1)].p_0.max(-1)
        pale = _colour(LIGHT.grid) * (1 - p.float().cpu())[..., None] + _colour(LIGHT.data) * p.float().cpu()[..., None]
        predicted.append(_page(letters, pale, alphabet.letters, columns))
        left = int((x_t[0] == hidden).sum())
        what = f"{left} hidden" if bool((states[0] == hidden).any()) else f"{int(changed[0].sum())} changed"
        place = f"step {k + 1} of {len(steps)}" if k < len(steps) else f"after {len(steps)} steps"
        text = alphabet.decode(x_t[:1])[0]
        captions.append(f"{place} · {what} · “{text[:QUOTED]}{'…' if len(text) > QUOTED else ''}”")
    return film(
        [
            (
                "xₜ",
                "the texts; a grey block is a letter that is hidden, vermilion is what the last step wrote",
                written,
            ),
            ("predicted x₀", "the most probable letter at each position, bluer where it is more probable", predicted),
        ],
        captions,
    )


def _colour(hexed: str) -> Tensor:
    return torch.tensor(rgb(hexed), dtype=torch.float32, device="cpu")


@cache
def _glyphs(letters: str) -> np.ndarray:
    """How much of each pixel is ink, [letters + 1, height, width] in [0, 1]; the last one is the block of a mask."""
    font, (height, width) = ImageFont.load_default(FONT), CELL
    glyphs = []
    for letter in letters:
        cell = Image.new("L", (width, height), 0)
        ImageDraw.Draw(cell).text((width / 2, height * 0.75), letter, fill=255, font=font, anchor="ms")
        glyphs.append(np.asarray(cell, np.float32) / 255)
    block = np.zeros(CELL, np.float32)
    block[3:-3, 2:-2] = 0.35
    return np.stack([*glyphs, block])


def _page(x: Tensor, ink: Tensor, letters: str, columns: int) -> np.ndarray:
    """Texts x [B, N] in colours ink [B, N, 3], in lines of `columns` letters, as bytes [H, W, 4]."""
    (B, N), (height, width) = x.shape, CELL
    lines = -(-N // columns)
    spaces = lines * columns - N
    cells = _glyphs(letters)[x.cpu().numpy()][..., None]  # [B, N, height, width, 1]
    paper = np.array(rgb(LIGHT.background), np.float32)
    coloured = cells * ink.cpu().numpy()[:, :, None, None] + (1 - cells) * paper
    coloured = np.concatenate([coloured, np.broadcast_to(paper, (B, spaces, height, width, 3))], axis=1)
    grid = coloured.reshape(B, lines, columns, height, width, 3).transpose(0, 1, 3, 2, 4, 5)
    sheet = grid.reshape(B, lines * height, columns * width, 3)
    gap = np.broadcast_to(paper, (B, height // 2, columns * width, 3))
    sheet = np.concatenate([sheet, gap], axis=1).reshape(-1, columns * width, 3)[: -(height // 2)]
    return np.concatenate([sheet.round().astype(np.uint8), np.full((*sheet.shape[:2], 1), 255, np.uint8)], axis=-1)
