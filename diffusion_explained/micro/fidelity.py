"""Does a picture show what was asked for? Measures of the micro model's pictures, by its judge and by their pixels.

The judge is the retrieval network. Every measure is to be read beside that of real pictures: where it misreads an
emoji that an artist drew, no model can be asked to do better. Pictures are float [B, 3, 128, 128] in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.devices import to_float64
from diffusion_explained.micro.emoji import EmojiSet
from diffusion_explained.micro.reconstruction import on_white
from diffusion_explained.micro.retrieval import BATCH, Retrieval, embed_captions, embed_pictures
from diffusion_explained.micro.words import COLOURS

RING = 2  # pixels at the edge, by which the background is known
APART = 0.16  # of the range [-1, 1]: how far a pixel is from the background if it is none of it

# -- which words fit -------------------------------------------------------------------------------------------


def ranks(pictures: Tensor, words: Tensor, truth: Tensor) -> Tensor:
    """How many of the words [N, D] fit each picture [B, D] better than the true one, truth [B]: 0 is the best.

    Both are unit vectors; words that fit exactly as well count for half.
    """
    scores = pictures @ words.T
    own = scores.gather(1, truth.to(scores.device)[:, None])
    return (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2


def share(hits: Tensor) -> dict[str, float]:
    """A share of successes among booleans [B], with its standard error sqrt(p (1 - p) / B), and B."""
    p = to_float64(hits).mean().item()
    return {"share": p, "error": math.sqrt(p * (1 - p) / len(hits)), "n": len(hits)}


def naming(pictures: Tensor, words: Tensor, truth: Tensor) -> dict[str, Any]:
    """How often the true one of N words fits a picture best, and is among the best five; chance is 1 / N and 5 / N.

    pictures [B, D] and words [N, D] are unit vectors; truth [B] is the index of each picture's word.
    """
    places, count = ranks(pictures, words, truth), len(words)
    return {
        "top1": share(places < 1),
        "top5": share(places < 5),
        "median_rank": 1 + to_float64(places).median().item(),
        "among": count,
        "chance": {"top1": 1 / count, "top5": min(1.0, 5 / count)},
    }


def choices(retrieval: Retrieval, pictures: Tensor, captions: Sequence[Sequence[str]], tokenizer: Any) -> Tensor:
    """For each picture [B, D] its best among the captions that it has of its own, as many for each: int64 [B]."""
    count = len(captions[0])
    words = embed_captions(retrieval, [text for own in captions for text in own], tokenizer)
    return torch.einsum("bd,bcd->bc", pictures, words.reshape(len(captions), count, -1)).argmax(dim=1)


def naming_accuracy(retrieval: Retrieval, emoji: EmojiSet, tokenizer: Any, most: int = 1000) -> dict[str, Any]:
    """`naming` of at most so many real pictures, of the training and held out, among all subjects' names."""
    words = embed_captions(retrieval, emoji.names, tokenizer)
    found = {}
    for split, wanted in (("train", ~emoji.held_out), ("held_out", emoji.held_out)):
        chosen = spread(wanted.nonzero().flatten(), most)
        if len(chosen):
            pictures = embed_pictures(retrieval, on_white(emoji.images[chosen]))
            found[split] = naming(pictures, words, emoji.subject[chosen])
    return found


def spread(indices: Tensor, most: int) -> Tensor:
    """At most so many of some indices, evenly spread over them. indices [N] -> [most or fewer]."""
    if len(indices) <= most:
        return indices
    return indices[torch.arange(most, dtype=torch.int64, device="cpu") * len(indices) // most]


# -- what the pixels say ---------------------------------------------------------------------------------------


def background(images: Tensor) -> Tensor:
    """The colour of each picture's edge, the median of its outermost pixels: [B, 3]."""
    inner = torch.zeros(images.shape[-2:], dtype=torch.bool, device=images.device)
    inner[RING:-RING, RING:-RING] = True
    return images[:, :, ~inner].median(dim=2).values


def foreground(images: Tensor) -> Tensor:
    """bool [B, H, W]: the pixels that are not of the background's colour."""
    return (images - background(images)[:, :, None, None]).abs().amax(dim=1) > APART


def hue_saturation_value(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in degrees, saturation and value in 0..1, [B, H, W] each, of pictures in [-1, 1] (Smith 1978)."""
    rgb = (images.clamp(-1, 1) + 1) / 2
    value, largest = rgb.max(dim=1)
    chroma = value - rgb.amin(dim=1)
    r, g, b = rgb.unbind(1)
    sixths = torch.stack([(g - b), (b - r), (r - g)], dim=1) / chroma.clamp(min=1e-6)[:, None]
    offset = torch.tensor([0.0, 2.0, 4.0], device=images.device, dtype=torch.float32)
    hue = (sixths.gather(1, largest[:, None])[:, 0] + offset[largest]) * 60 % 360
    return hue, chroma / value.clamp(min=1e-6), value


def colour_classes(images: Tensor) -> Tensor:
    """Each pixel's colour word, an index into COLOURS [B, H, W], by hue, saturation and value."""
    hue, saturation, value = hue_saturation_value(images)
    names = {name: i for i, name in enumerate(COLOURS)}
    found = torch.full_like(hue, names["red"], dtype=torch.long)
    for name, low, high in (
        ("orange", 14, 42),
        ("yellow", 42, 68),
        ("green", 68, 170),
        ("blue", 170, 252),
        ("purple", 252, 300),
        ("pink", 300, 346),
    ):
        found[(hue >= low) & (hue < high)] = names[name]
    warm = (hue < 42) | (hue >= 346)
    found[warm & (hue < 50) & (value < 0.68) & (hue >= 8)] = names["brown"]
    found[((hue < 8) | (hue >= 330)) & (saturation < 0.55) & (value > 0.7)] = names["pink"]
    pale = saturation < 0.18
    found[pale] = names["grey"]
    found[pale & (value > 0.88)] = names["white"]
    found[(pale & (value < 0.42)) | (value < 0.2)] = names["black"]
    return found


def colour_shares(images: Tensor) -> Tensor:
    """How much of what is drawn has which colour: [B, 11], the sum 1 (0 where nothing is drawn)."""
    drawn, classes = foreground(images), colour_classes(images)
    counts = torch.stack([((classes == i) & drawn).sum((1, 2)) for i in range(len(COLOURS))], dim=1)
    return counts.float() / counts.sum(dim=1, keepdim=True).clamp(min=1)


def look(images: Tensor) -> dict[str, float]:
    """Means over pictures of what guidance drives up, of the pixels that are drawn.

    clipped: the share of them with a channel at either end of its range. saturation: that of HSV. contrast: the
    standard deviation over the whole picture. drawn: how much of the picture they are.

    images [B, 3, H, W] in [-1, 1].
    """
    drawn = foreground(images)
    area = drawn.sum((1, 2)).clamp(min=1)
    _, saturation, _ = hue_saturation_value(images)
    at_end = images.abs().amax(dim=1) >= 0.995
    return {
        "clipped": ((at_end & drawn).sum((1, 2)) / area).mean().item(),
        "saturation": ((saturation * drawn).sum((1, 2)) / area).mean().item(),
        "contrast": images.std(dim=(1, 2, 3)).mean().item(),
        "drawn": to_float64(drawn).mean().item(),
    }


def halves(images: Tensor) -> tuple[Tensor, Tensor]:
    """What stands left and what stands right: each picture twice, the other half painted with its background.

    images [B, 3, H, W] -> two of [B, 3, H, W].
    """
    left_side = torch.arange(images.shape[-1], device=images.device, dtype=torch.int64) < images.shape[-1] // 2
    empty = background(images)[:, :, None, None].expand_as(images)
    return torch.where(left_side, images, empty), torch.where(left_side, empty, images)


# -- how far two pictures are apart ----------------------------------------------------------------------------


@torch.no_grad()
def picture_distance(retrieval: Retrieval, a: Tensor, b: Tensor) -> Tensor:
    """How different pictures a and b [B, 3, H, W] look, [B]: 0 for the same, at most 4.

    mean over the stages of mean over places of |f / |f| - g / |g||^2, f and g the channels of the network's feature
    maps at a place: LPIPS (Zhang et al. 2018, Eq. 1) without its learned weights, and on our own network.
    """
    parts = []
    for x, y in zip(a.split(BATCH), b.split(BATCH), strict=True):
        maps = retrieval.image.feature_maps(torch.cat([x, y]).to(retrieval.device).float())
        pairs = (F.normalize(features, dim=1).chunk(2) for features in maps)
        distances = [(f - g).square().sum(1).mean((1, 2)) for f, g in pairs]
        parts.append(sum(distances[1:], distances[0]) / len(maps))
    return torch.cat(parts)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of pictures in [-1, 1], [B], 1 for the same (Wang et al. 2004, Eq. 13).

    The window is their Gaussian of 11 pixels and sigma 1.5; the mean is over places and colour channels.
    """
    offsets = torch.arange(11, device=a.device, dtype=a.dtype) - 5
    line = torch.exp(-offsets.square() / (2 * 1.5**2))
    window = (line[:, None] * line / line.sum() ** 2).expand(3, 1, 11, 11)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(x, window, groups=3)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a.square(), blur(b * b) - mean_b.square()
    together = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    similar = (2 * mean_a * mean_b + c1) * (2 * together + c2)
    return (similar / ((mean_a.square() + mean_b.square() + c1) * (var_a + var_b + c2))).mean((1, 2, 3))
