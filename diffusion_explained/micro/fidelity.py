"""Measure whether the micro model's pictures show what their prompts say, with the retrieval network and from pixels.

Compare every measure with its value for real pictures: if the retrieval network misreads an emoji that an artist drew,
no model can be expected to do better. Pictures are float [B, 3, 128, 128] in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import image_batch, same_shape, typed_arguments, whole, whole_vector
from diffusion_explained.devices import to_float64
from diffusion_explained.micro.emoji import EmojiSet
from diffusion_explained.micro.reconstruction import on_white
from diffusion_explained.micro.retrieval import BATCH, Retrieval, embed_captions, embed_pictures
from diffusion_explained.micro.words import COLOURS

RING = 2  # the width in pixels of the edge from which the background is estimated
APART = 0.16  # in the range [-1, 1]: a pixel that differs from the background by more is foreground

# -- which words fit -------------------------------------------------------------------------------------------


@typed_arguments
def ranks(pictures: Tensor, words: Tensor, truth: Tensor) -> Tensor:
    """The number of words [N, D] that fit each picture [B, D] better than the true one, index truth [B]: 0 is best.

    Words and pictures are unit vectors; words that fit exactly as well as the true one count for half.
    Raises ValueError for shapes that do not fit.
    """
    if pictures.ndim != 2 or words.ndim != 2 or pictures.shape[1:] != words.shape[1:] or len(truth) != len(pictures):
        shapes = ", ".join(str(list(given.shape)) for given in (pictures, words, truth))
        raise ValueError(f"pictures [B, D], words [N, D] and truth [B] do not fit: {shapes}.")
    truth = whole_vector("truth", truth, len(words) - 1)
    scores = pictures @ words.T
    own = scores.gather(1, truth.to(scores.device)[:, None])
    return (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2


@typed_arguments
def share(hits: Tensor) -> dict[str, float]:
    """The share p of True among booleans [B], with its standard error sqrt(p (1 - p) / B), and B.

    Raises ValueError for no booleans.
    """
    if not len(hits):
        raise ValueError("hits must have at least one entry; got none.")
    p = to_float64(hits).mean().item()
    return {"share": p, "error": math.sqrt(p * (1 - p) / len(hits)), "n": len(hits)}


@typed_arguments
def naming(pictures: Tensor, words: Tensor, truth: Tensor) -> dict[str, Any]:
    """How often the true word of N fits a picture best, or is among the best five; chance is 1 / N and 5 / N.

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
    """For each picture [B, D] the index of the best of its own captions, int64 [B]; all have equally many."""
    count = len(captions[0])
    words = embed_captions(retrieval, [text for own in captions for text in own], tokenizer)
    return torch.einsum("bd,bcd->bc", pictures, words.reshape(len(captions), count, -1)).argmax(dim=1)


@typed_arguments
def naming_accuracy(retrieval: Retrieval, emoji: EmojiSet, tokenizer: Any, most: int = 1000) -> dict[str, Any]:
    """`naming` for at most `most` real pictures of each split, train and held out, among all subjects' names."""
    words = embed_captions(retrieval, emoji.names, tokenizer)
    found = {}
    for split, in_split in (("train", ~emoji.held_out), ("held_out", emoji.held_out)):
        chosen = spread(in_split.nonzero().flatten(), most)
        if len(chosen):
            pictures = embed_pictures(retrieval, on_white(emoji.images[chosen]))
            found[split] = naming(pictures, words, emoji.subject[chosen])
    return found


@typed_arguments
def spread(indices: Tensor, most: int) -> Tensor:
    """At most `most` of the indices, evenly spread. indices [N] -> [most or fewer]."""
    most = whole("most", most, 1)
    if len(indices) <= most:
        return indices
    return indices[torch.arange(most, dtype=torch.int64, device="cpu") * len(indices) // most]


# -- measures from pixels --------------------------------------------------------------------------------------


@typed_arguments
def background(images: Tensor) -> Tensor:
    """The background colour of each picture: the median of its outermost pixels, [B, 3]."""
    image_batch("images", images, 3)
    inner = torch.zeros(images.shape[-2:], dtype=torch.bool, device=images.device)
    inner[RING:-RING, RING:-RING] = True
    return images[:, :, ~inner].median(dim=2).values


@typed_arguments
def foreground(images: Tensor) -> Tensor:
    """bool [B, H, W]: the pixels whose colour differs from the background's."""
    return (images - background(images)[:, :, None, None]).abs().amax(dim=1) > APART


@typed_arguments
def hue_saturation_value(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in degrees, saturation and value in 0..1, [B, H, W] each, of pictures in [-1, 1] (Smith 1978)."""
    rgb = (image_batch("images", images, 3).clamp(-1, 1) + 1) / 2
    value, largest = rgb.max(dim=1)
    chroma = value - rgb.amin(dim=1)
    r, g, b = rgb.unbind(1)
    sixths = torch.stack([(g - b), (b - r), (r - g)], dim=1) / chroma.clamp(min=1e-6)[:, None]
    offset = torch.tensor([0.0, 2.0, 4.0], device=images.device, dtype=torch.float32)
    hue = (sixths.gather(1, largest[:, None])[:, 0] + offset[largest]) * 60 % 360
    return hue, chroma / value.clamp(min=1e-6), value


@typed_arguments
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


@typed_arguments
def colour_shares(images: Tensor) -> Tensor:
    """Each colour's share of the foreground pixels: [B, 11], which sum to 1 (to 0 if there is no foreground)."""
    drawn, classes = foreground(images), colour_classes(images)
    counts = torch.stack([((classes == i) & drawn).sum((1, 2)) for i in range(len(COLOURS))], dim=1)
    return counts.float() / counts.sum(dim=1, keepdim=True).clamp(min=1)


@typed_arguments
def look(images: Tensor) -> dict[str, float]:
    """Statistics of the foreground that grow with the guidance scale, averaged over pictures.

    clipped: the share of foreground pixels with a channel at either end of its range. saturation: of HSV, in the
    foreground. contrast: the standard deviation over the whole picture. drawn: the share of foreground pixels.

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


@typed_arguments
def halves(images: Tensor) -> tuple[Tensor, Tensor]:
    """The left and the right half of each picture: two copies, each with the other half painted with the background.

    images [B, 3, H, W] -> two tensors [B, 3, H, W].
    """
    left_side = torch.arange(images.shape[-1], device=images.device, dtype=torch.int64) < images.shape[-1] // 2
    return only(images, left_side), only(images, ~left_side)


@typed_arguments
def only(images: Tensor, where: Tensor) -> Tensor:
    """One part of each picture, the rest painted with the background.

    images [B, 3, H, W], where: bool, of any shape that broadcasts to it -> [B, 3, H, W].
    """
    return torch.where(where, images, background(images)[:, :, None, None].expand_as(images))


# -- distances between two pictures ----------------------------------------------------------------------------


@torch.no_grad()
@typed_arguments
def picture_distance(retrieval: Retrieval, a: Tensor, b: Tensor) -> Tensor:
    """The perceptual distance of pictures a and b [B, 3, H, W], [B]: 0 for equal pictures, at most 4.

    The mean over stages and positions of |f / |f| - g / |g||^2, with f and g the channels of the network's feature maps
    at a position: LPIPS (Zhang et al. 2018, Eq. 1) without its learned weights, and with our own network.
    """
    same_shape("a and b", image_batch("a", a, 3), image_batch("b", b, 3))
    parts = []
    for x, y in zip(a.split(BATCH), b.split(BATCH), strict=True):
        maps = retrieval.image.feature_maps(torch.cat([x, y]).to(retrieval.device).float())
        pairs = (F.normalize(features, dim=1).chunk(2) for features in maps)
        distances = [(f - g).square().sum(1).mean((1, 2)) for f, g in pairs]
        parts.append(sum(distances[1:], distances[0]) / len(maps))
    return torch.cat(parts)


@typed_arguments
def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of pictures [B, 3, H, W] in [-1, 1]: [B], 1 for equal ones (Wang et al. 2004, Eq. 13).

    The window is the paper's Gaussian of 11 pixels with sigma 1.5; the mean is over positions and colour channels.
    Raises ValueError for shapes that differ, and for pictures smaller than the window.
    """
    same_shape("a and b", image_batch("a", a, 3), image_batch("b", b, 3))
    if min(a.shape[2:]) < 11:
        raise ValueError(f"Pictures must be at least as large as the window, 11 x 11; got {list(a.shape)}.")
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
