"""`Kind`: what a kind of data beyond images must say, so that the package trains, draws, measures and writes it.

The engine is the one that draws digits. A kind's data are tensors in [-1, 1] of any shape, its network is one of
`models.NETWORKS`, `training.train` trains it, and `pretrained.Model` draws it, step by step, with the same samplers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_explained.checks import typed_arguments, whole
from diffusion_explained.data import to_float
from diffusion_explained.messages import unknown_name
from diffusion_explained.noise import stream
from diffusion_explained.pretrained import Model

SPLITS = ("train", "test")
TEST_SEEDS = 2**31  # the seeds of the split "test" start here


class Data(NamedTuple):
    """Data of one kind: x_0 [N, ...], uint8 (0..255 stands for -1..1) or float in [-1, 1], and its labels [N]."""

    x_0: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Kind:
    """A kind of data.

    name: of the kind, of its weight file in weights/beyond/ and of its recipe in recipes/beyond/.
    shape: of one item, as the network's image_shape. class_names: one per label, without spaces or commas.
    sample_data: called as sample_data(n, generator, split); makes n items, item i of class i % len(class_names). No
        item of the split "test" is made from the same material as one of "train".
    train_size: the number of items that the recipe trains on.
    measure: called as measure(data, reference); the numbers of one set of float data, beside real data of the split
        "test" if the measure needs a reference.
    chance: called as chance(data, generator); a set that knows nothing of what is measured, as the lower bound.
    sampling: the settings of `Model.sample` that suit its network: num_inference_steps and sampler.
    writers: file suffix -> writer, called as writer(x_0 [B, ...], names); the bytes of a file with these items. The
        first suffix is the default. names: the class of each item, or none.
    """

    name: str
    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    sample_data: Callable[[int, torch.Generator, str], Data]
    train_size: int
    measure: Callable[[Data, Data], dict[str, float]]
    chance: Callable[[Data, torch.Generator], Data]
    sampling: Mapping[str, Any]
    writers: Mapping[str, Callable[[Tensor, Sequence[str]], bytes]]

    def data(self, n: int, seed: int = 0, split: str = "train") -> Data:
        """Make n items of a split, "train" or "test", from a seed. Raises ValueError for another split or number.

        A seed gives each split its own stream of random numbers, so that no item is in both.
        """
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        first = TEST_SEEDS if split == "test" else 0
        return self.sample_data(whole("n", n, 1), stream(first + whole("seed", seed, 0, TEST_SEEDS - 1)), split)


def measured(kind: Kind, model: Model, n: int, seed: int = 0, **settings: Any) -> dict[str, Any]:
    """Measure n samples of a model, the classes in turn; beside them other real data (the floor), and chance.

    settings: those of `Model.sample`. Returns {"n", "settings", "samples", "real", "chance"}, each of the last three a
    table of the kind's measures. Raises ValueError for unknown settings or a number out of range.
    """
    labels = torch.arange(whole("n", n, 1), device="cpu", dtype=torch.int64) % len(kind.class_names)
    batches = labels.split(64)
    starts = range(seed, seed + n, 64)
    x_0 = torch.cat(
        [model.sample(part, seed=first, **settings).cpu() for part, first in zip(batches, starts, strict=True)]
    )
    # three independent sets of real data: the reference, the floor, and the material of chance
    reference, real, third = (as_float(kind.data(n, seed + i, "test")) for i in range(3))
    sets = {"samples": Data(x_0, labels), "real": real, "chance": kind.chance(third, stream(seed))}
    numbers = {name: rounded(kind.measure(data, reference)) for name, data in sets.items()}
    return {"n": n, "settings": settings, **numbers}


@typed_arguments
def as_float(data: Data) -> Data:
    """The same data with x_0 [N, ...] as float32 in [-1, 1]."""
    return Data(to_float(data.x_0) if data.x_0.dtype == torch.uint8 else data.x_0.float(), data.labels)


def rounded(numbers: Mapping[str, float]) -> dict[str, float]:
    """The same numbers with four significant digits, as cards and pages show them."""
    return {name: float(f"{number:.4g}") for name, number in numbers.items()}
