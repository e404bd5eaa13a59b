"""Films for the scrubber of one image of a run: its steps, and the attention to each word.

steps = list(model.steps(text, seed=0))
x_0 = decoded(model, steps, 0)                              # [n, 3, H, W]: the predicted x_0 at each step
step_film(model, steps, x_0, 0)
word_film(attention.columns(), attention.maps(), x_0)       # of `attention.record_attention`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.film import Film, difference, difference_range, film, level_caption, one_value, pixels
from diffusion_explained.palette import LIGHT, rgb
from diffusion_explained.samplers import Step
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.recording import row_of
from diffusion_explained.stable_diffusion.trace_films import DECODED, LATENTS, ending, norm_charts

AT_ONCE = 4  # latents that are decoded in one batch
WORD_SIDE = 64  # pixels along a side of a word's picture; several per latent pixel
WORDS_A_ROW = 5
MOST_WORDS = 15
STRONGEST = 0.85  # how much of the picture the strongest attention covers


def decoded(
    model: StableDiffusion, steps: Sequence[Step], image: int, tell: Callable[[float], object] | None = None
) -> Tensor:
    """The predicted x_0 of one image at each step, as pictures [n, 3, H, W].

    tell: called with the share that is done, after each batch.
    """
    latents, pictures = torch.stack([step.pred.x_0[image] for step in steps]), []
    for batch in latents.split(AT_ONCE):
        pictures.append(model.decode(batch).cpu())
        if tell is not None:
            tell(AT_ONCE * len(pictures) / len(steps))
    return torch.cat(pictures)


def step_film(model: StableDiffusion, steps: Sequence[Step], x_0: Tensor, image: int) -> Film:
    """A film of the latents, the predicted x_0, and the change of the predicted noise by the prompt.

    The last frame shows the result. Without guidance the third panel is left out.

    x_0: pictures [n, 3, H, W], from `decoded`.
    """
    size, count = x_0.shape[2:], len(steps)

    def enlarged(fields: Sequence[Tensor]) -> Tensor:
        return F.interpolate(torch.cat(list(fields)), tuple(size), mode="nearest")

    of_image = slice(image, image + 1)
    latents = enlarged(
        [*(model.preview(step.x_t[of_image]) for step in steps), model.preview(steps[-1].x_next[of_image])]
    )
    panels = [
        (*LATENTS, list(pixels(latents))),
        (*DECODED, [*pixels(x_0), pixels(model.decode(steps[-1].x_next[of_image]))[0]]),
    ]
    if any(step.pred.eps_uncond is not None for step in steps):
        limit = difference_range(steps)
        changed = enlarged([difference(step)[of_image] for step in steps])
        fields = list(pixels(one_value(changed)[:, None], limit))
        panels.append((
            f"what the prompt changes (±{limit:.2g})",
            "the noise predicted with the prompt minus the one without, summed over the channels",
            [*fields, fields[-1]],
        ))  # fmt: skip
    captions = [level_caption(k, step.level, count) for k, step in enumerate(steps)]
    charts = norm_charts([row_of(step) for step in steps], range(count))
    return film(panels, [*captions, ending(count)], charts=charts)


def word_film(columns: Sequence[str], maps: Tensor, x_0: Tensor) -> Film:
    """A film of the attention to each word at each step, over the predicted x_0 in grey.

    Args:
        columns, maps: from `RecordedAttention`, maps [n, columns, h, w]; start, end and padding are left out here.
        x_0: pictures [n, 3, H, W], from `decoded`.

    Each word's attention is drawn on a scale from 0 to its own maximum over the run; the label gives the word's share
    of all attention. Raises ValueError for a prompt without words.
    """
    words = list(columns[1:-2])[:MOST_WORDS]  # without the start before them, the end and the padding after them
    if not words:
        raise ValueError("The prompt has no word whose attention could be shown: give a prompt of one word or more.")
    small = F.interpolate(x_0, (WORD_SIDE, WORD_SIDE), mode="area")
    panels = []
    for word, of_word in zip(words, maps[:, 1 : 1 + len(words)].unbind(1), strict=True):
        share = f"{float(of_word.mean()):.0%}"
        alt = f"where the picture attends to {word}, over the picture; {share} of all attention"
        panels.append((f"{word} · {share}", alt, heat_over(of_word, small)))
    count = len(x_0)
    columns_of_film = min(WORDS_A_ROW, len(words))
    full, rest = divmod(len(words), columns_of_film)
    rows = [columns_of_film] * full + ([rest] if rest else [])
    return film(panels, [f"step {k + 1} of {count}" for k in range(count)], rows=rows, columns=columns_of_film)


def heat_over(heat: Tensor, pictures: Tensor) -> list[np.ndarray]:
    """Heat maps [n, h, w] in orange over pictures [n, 3, H, W] in grey: n of bytes [H, W, 4].

    The colour's strength goes from 0 to the largest value of all n maps.
    """
    grey = (pictures.mean(1).clamp(-1, 1) + 1) * 127.5
    colour = torch.tensor(rgb(LIGHT.noise), dtype=torch.float32, device="cpu")
    heat = F.interpolate(heat[:, None], tuple(pictures.shape[2:]), mode="bilinear", align_corners=False)[:, 0]
    cover = STRONGEST * (heat / heat.max().clamp_min(1e-9))[..., None]
    mixed = (1 - cover) * grey[..., None] + cover * colour
    opaque = torch.cat([mixed, torch.full_like(mixed[..., :1], 255)], dim=-1)
    return list(opaque.round().numpy().astype(np.uint8))
