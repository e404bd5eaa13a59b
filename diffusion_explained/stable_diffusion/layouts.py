"""How diffusers' pipelines store latents while they sample, and the same latents as pictures.

| layout    | in the pipeline            | as a picture      | pipelines                |
|-----------|----------------------------|-------------------|--------------------------|
| `picture` | [B, C, h, w]               | [B, C, h, w]      | PixArt, SANA, Lumina ... |
| `patches` | [B, (h/2)(w/2), 4 C]       | [B, C, h, w]      | FLUX.1, Qwen-Image       |
| `tokens`  | [B, h w, C]                | [B, C, h, w]      | FLUX.2                   |
| `video`   | [B, f h w, C]              | [B, C, f, h, w]   | LTX-Video                |

Sampling is the same in any layout, because a sampler treats each number alike. Panels show pictures.
"""

from __future__ import annotations

import math

from torch import Tensor


def pack(layout: str, x: Tensor) -> Tensor:
    """The latents of a picture [B, C, h, w], or of a video [B, C, f, h, w], as the pipeline stores them."""
    if layout == "patches":
        B, C, h, w = x.shape
        return x.view(B, C, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(B, h * w // 4, 4 * C)
    return x if layout == "picture" else x.flatten(2).transpose(1, 2)


def unpack(layout: str, x: Tensor, size: tuple[int, ...]) -> Tensor:
    """The inverse of `pack`: [B, C, h, w] or [B, C, f, h, w] of x [B, N, C]; size: (h, w), or (f, h, w) of a video.

    Raises ValueError for another number of tokens N than the size has.
    """
    if layout == "patches":
        h, w = size
        C = x.shape[2] // 4
        return x.view(len(x), h // 2, w // 2, C, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(len(x), C, h, w)
    if layout == "picture":
        return x
    if x.shape[1] != math.prod(size):
        raise ValueError(f"There are {x.shape[1]} tokens, and {' x '.join(map(str, size))} are {math.prod(size)}.")
    return x.transpose(1, 2).unflatten(2, size)
