"""The known data sets: where each is on the hub, and the checks that its arrays must pass."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_explained.data.hub import DamagedDataError


@dataclass(frozen=True)
class Split:
    """One file of a data set, and the expected size and checksums of its decoded arrays."""

    filename: str
    size: int
    labels_sha256: str
    pixels_sha256: str | None = None
    channel_means: tuple[float, ...] = ()  # of bytes / 255; checked if the pixels' checksum is not known


@dataclass(frozen=True)
class HubDataset:
    """A labelled image data set on the Hugging Face hub: one parquet file per split, with PNG bytes in a column."""

    repo_id: str
    image_column: str
    label_column: str
    image_shape: tuple[int, int, int]  # (C, H, W)
    class_names: tuple[str, ...]
    splits: dict[str, Split]


DATASETS: dict[str, HubDataset] = {
    # These are LeCun's arrays byte for byte: with the headers of the IDX files in front, their MD5 are the
    # published ones (tests/test_data.py computes them).
    "mnist": HubDataset(
        repo_id="ylecun/mnist",
        image_column="image",
        label_column="label",
        image_shape=(1, 28, 28),
        class_names=tuple("0123456789"),
        splits={
            "train": Split(
                "mnist/train-00000-of-00001.parquet",
                60_000,
                labels_sha256="1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
                pixels_sha256="741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
            ),
            "test": Split(
                "mnist/test-00000-of-00001.parquet",
                10_000,
                labels_sha256="ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
                pixels_sha256="6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
            ),
        },
    ),
    "cifar10": HubDataset(
        repo_id="uoft-cs/cifar10",
        image_column="img",
        label_column="label",
        image_shape=(3, 32, 32),
        class_names=(
            "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
        ),
        splits={
            "train": Split(
                "plain_text/train-00000-of-00001.parquet",
                50_000,
                labels_sha256="2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
                channel_means=(0.4914, 0.4822, 0.4465),
            ),
            "test": Split(
                "plain_text/test-00000-of-00001.parquet",
                10_000,
                labels_sha256="cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
                channel_means=(0.4942, 0.4851, 0.4504),
            ),
        },
    ),
}  # fmt: skip

# The file that recipes/mnist_sample.py writes and the package includes; the recipe prints these checksums.
MNIST_SAMPLE = Split(
    "mnist_sample.npz",
    10_000,
    labels_sha256="b2adab1c31535fb08b27d0f9ff872ef2f3b0251af6bde8723cd0e69ff7951091",
    pixels_sha256="efe9a3c34da860baafd2839ff31774a7dbc30fd10dc81c08a66c10e9575e9504",
)


def sha256(values: Tensor) -> str:
    """The SHA-256 of a tensor's values as uint8 (pixels are uint8, and labels fit into it).

    values may have any shape, [...].
    """
    return hashlib.sha256(values.byte().contiguous().numpy().data).hexdigest()


def check_arrays(dataset: HubDataset, split: Split, images: Tensor, labels: Tensor) -> None:
    """Check that decoded arrays are those of the split: sizes, label range, checksums, channel means.

    Raises DamagedDataError, which says what is wrong; the caller adds the file's name and what to do.

    images [N, C, H, W], labels [N].
    """
    expected = (split.size, *dataset.image_shape)
    if tuple(images.shape) != expected:
        raise DamagedDataError(f"it holds images of shape {tuple(images.shape)}, not {expected}")
    if tuple(labels.shape) != (split.size,):
        raise DamagedDataError(f"it holds {tuple(labels.shape)} labels, not {split.size}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(dataset.class_names):
        raise DamagedDataError(f"it holds labels {low}..{high}, not 0..{len(dataset.class_names) - 1}")
    if sha256(labels) != split.labels_sha256:
        raise DamagedDataError("its labels are not the data set's (their checksum differs)")
    if split.pixels_sha256 and sha256(images) != split.pixels_sha256:
        raise DamagedDataError("its pixels are not the data set's (their checksum differs)")
    for channel, expected_mean in enumerate(split.channel_means):
        mean = images[:, channel].sum(dtype=torch.int64).item() / (255 * images[:, channel].numel())
        if abs(mean - expected_mean) > 2e-4:  # published to 4 digits; if one class were black, it would move by 0.05
            raise DamagedDataError(f"channel {channel} has mean {mean:.4f}, not {expected_mean:.4f}")
