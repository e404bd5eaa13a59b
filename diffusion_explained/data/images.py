"""`ImageDataset`: labelled images of any data set, stored as bytes and returned as float32 in [-1, 1]."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffusion_explained.checks import check_finite, float_data, typed_arguments, whole, whole_vector


def to_float(images: Tensor) -> Tensor:
    """Bytes to the range of diffusion models: x = image / 127.5 - 1, so 0 -> -1 and 255 -> 1, float32.

    Raises ValueError for anything but bytes: numbers that are floats already would be scaled a second time.

    The images may have any shape: [...] -> [...].
    """
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        given = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"to_float makes floats of bytes, a uint8 tensor; got {given}.")
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(x: Tensor) -> Tensor:
    """The inverse of `to_float`: round(127.5 * (x + 1)), clipped to 0..255; exact for every result of `to_float`.

    Raises ValueError for NaN or infinity, which must never be shown, and for images that are bytes already.

    The images may have any shape: [...] -> [...].
    """
    check_finite(float_data("images", x), "images")
    return x.detach().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


@typed_arguments
@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Images uint8 [N, C, H, W] and their labels int64 [N].

    `source` describes where the images came from, for a person to read.

    Raises ValueError for tensors of other shapes or dtypes.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != torch.uint8:
            raise ValueError(f"images must be uint8 [N, C, H, W], got {self.images.dtype} {tuple(self.images.shape)}")
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64:
            raise ValueError(
                f"labels must be int64 [{len(self.images)}], one per image, "
                f"got {self.labels.dtype} {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        size = f"{len(self):,} images of {self.num_classes} classes"
        return f"{self.name} {self.split}: {size}, from {self.source}"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The images at `indices` (int64 [B]): x_0 float32 [B, C, H, W] in [-1, 1], and their labels [B]."""
        indices = self._known(indices)
        return to_float(self.images[indices]), self.labels[indices]

    @typed_arguments
    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, in order, as (x_0 [B, C, H, W], labels [B]); the last batch may be smaller.

        Raises ValueError for a batch_size that is not a whole number of 1 or more.
        """
        batch_size = whole("batch_size", batch_size, 1)
        indices = torch.arange(len(self), device="cpu", dtype=torch.int64)
        return (self.batch(some) for some in indices.split(batch_size))

    def to_float(self) -> Tensor:
        """All images as one float32 tensor [N, C, H, W] in [-1, 1]: four times the memory of the bytes."""
        return to_float(self.images)

    def subset(self, indices: Tensor) -> ImageDataset:
        """The images at `indices` (int64 [M]) as a data set of their own, in that order."""
        return self._at(self._known(indices))

    def _at(self, indices: Tensor) -> ImageDataset:
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def _known(self, indices: Tensor) -> Tensor:
        return whole_vector("indices", indices, len(self) - 1, f"whole numbers from 0 to {len(self) - 1}")

    @typed_arguments
    def of_class(self, label: int) -> ImageDataset:
        """Only the images of one class. Raises ValueError for a label that does not exist."""
        label = whole(f"a label of {self.name}", label, 0, self.num_classes - 1)
        return self._at(torch.nonzero(self.labels == label).flatten())
