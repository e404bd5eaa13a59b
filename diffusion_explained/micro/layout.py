"""Which subject a caption puts on which side: the labels that teach a text encoder to join a thing with its place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_explained.checks import typed_arguments
from diffusion_explained.micro.drawing import Scenes

SIDES = ("left", "right", "top", "bottom")
NO_SUBJECT = -1
APART = 0.25  # the least distance of a sprite's centre from the centre of the picture, along one axis, to be on a side
EITHER = (" next to ", " and ")  # these leave the order open, so that the caption does not say it


@typed_arguments
def said_sides(scenes: Scenes, subjects: Sequence[int]) -> Tensor:
    """The subject that each caption puts on the left, the right, the top and the bottom: int64 [B, 4], or -1.

    "a cat left of a dog" puts the cat on the left and the dog on the right. Scenes of several copies of one picture
    ("two cats"), and captions that leave the order open ("a cat and a dog"), have no labels.

    subjects: the subject of each picture of the set, `EmojiSet.subject.tolist()`.
    """
    rows = []
    for caption, pictures, places in zip(scenes.captions, scenes.sprite.tolist(), scenes.place.tolist(), strict=True):
        row, drawn = [NO_SUBJECT] * len(SIDES), [i for i, picture in enumerate(pictures) if picture >= 0]
        counted = len(drawn) > 1 and len({pictures[i] for i in drawn}) == 1
        if not counted and not any(word in caption for word in EITHER):
            for i in drawn:
                for axis in (0, 1):
                    if abs(places[i][axis]) > APART:
                        row[2 * axis + (places[i][axis] > 0)] = subjects[pictures[i]]
        rows.append(row)
    return torch.tensor(rows, dtype=torch.int64, device="cpu").reshape(len(rows), len(SIDES))
