"""Load MNIST and CIFAR-10 from the Hugging Face hub: checked, decoded once, and then read from a cache.

    dataset = load_dataset("mnist", "train")       # 60,000 digits, uint8 [N, 1, 28, 28]
    x_0, labels = dataset.batch(torch.tensor([0, 1, 2]))

Without a network and a cache there is `bundled_mnist()`: 10,000 real digits that are part of the package.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.data.hub import DamagedDataError, DataUnavailableError, fetch_command, hub_file
from diffusion_explained.data.hub_datasets import DATASETS, MNIST_SAMPLE, HubDataset, check_arrays, sha256
from diffusion_explained.data.images import ImageDataset
from diffusion_explained.extras import extra
from diffusion_explained.files import atomic_path
from diffusion_explained.messages import unknown_name
from diffusion_explained.weight_files import read_tensors

LONGEST_HEADER = 10_000  # bytes at most of the cache's safetensors header, which has two tensors and a checksum
SAMPLE_FILE = Path(__file__).with_name(MNIST_SAMPLE.filename)


def cache_folder() -> Path:
    """The folder of decoded data: $DIFFUSION_EXPLAINED_CACHE, else a folder in the user's cache folder."""
    if chosen := os.environ.get("DIFFUSION_EXPLAINED_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffusion_explained"


@named_options
def load_dataset(name: str, split: str = "train", *, download: bool = True) -> ImageDataset:
    """Load one split of "mnist" or "cifar10": "train", "test", or for MNIST "sample", the 10,000 bundled images.

    The split is searched in the decoded cache, then in the hub's cache, then (if `download`) on the hub.
    Raises ValueError for an unknown name or split, and two kinds of OSError: DataUnavailableError when the data
    cannot be found, DamagedDataError when a file exists but is not that of the data set.
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    if (name, split) == ("mnist", "sample"):
        return bundled_mnist()
    dataset = DATASETS[name]
    if split not in dataset.splits:
        raise unknown_name(f"split of {name}", split, [*dataset.splits, *(["sample"] if name == "mnist" else [])])
    decoded = cache_folder() / f"{name}-{split}.safetensors"
    if decoded.is_file():
        try:
            images, labels = read_decoded(decoded, dataset, split)
            return ImageDataset(name, split, images, labels, dataset.class_names, f"the decoded cache, {decoded}")
        except DamagedDataError as error:
            warnings.warn(f"{error} It is decoded again.", stacklevel=2)
    try:
        parquet = hub_file(dataset.repo_id, dataset.splits[split].filename, download=download)
    except DataUnavailableError as error:
        if name == "mnist":
            raise DataUnavailableError(
                f'{error}\nor use the bundled digits: load_dataset("mnist", "sample").'
            ) from error
        raise
    images, labels = read_parquet(parquet, dataset, split)
    try:
        write_decoded(decoded, images, labels)
    except OSError as error:
        warnings.warn(
            f"the decoded {name} {split} split is not kept, so the next load decodes it again: {error} "
            f"Set DIFFUSION_EXPLAINED_CACHE to a folder that can be written.",
            stacklevel=2,
        )
    return ImageDataset(name, split, images, labels, dataset.class_names, f"the hub's file {parquet}")


@typed_arguments
def training_images(name: str) -> ImageDataset:
    """The training images on this machine: the train split if it is cached, else for MNIST the bundled sample.

    Nothing is downloaded; `str(dataset)` says which one it is. Raises DataUnavailableError if there is neither.
    """
    try:
        return load_dataset(name, "train", download=False)
    except DataUnavailableError as error:
        if name == "mnist":
            return bundled_mnist()
        dataset = DATASETS[name]
        command = fetch_command(dataset.repo_id, dataset.splits["train"].filename)
        raise DataUnavailableError(f"{error}. Fetch it once, with a network:\n    {command}") from error


def bundled_mnist() -> ImageDataset:
    """The 10,000 digits of MNIST's train split, 1,000 per class, that are part of the package.

    recipes/mnist_sample.py made the file; its "indices" are the images' indices in the train split.
    Raises DamagedDataError.
    """
    mnist = DATASETS["mnist"]
    try:
        with np.load(SAMPLE_FILE, allow_pickle=False) as sample:
            images, labels = torch.from_numpy(sample["images"]), torch.from_numpy(sample["labels"]).long()
        check_arrays(mnist, MNIST_SAMPLE, images, labels)
    except Exception as error:  # zipfile, zlib and numpy each raise their own errors for a damaged file
        raise DamagedDataError(f"{SAMPLE_FILE} is damaged: {error}. Install the package again.") from error
    return ImageDataset("mnist", "sample", images, labels, mnist.class_names, "the sample bundled with the package")


def read_parquet(path: Path, dataset: HubDataset, split: str) -> tuple[Tensor, Tensor]:
    """Decode one split's parquet file to images uint8 [N, C, H, W] and labels int64 [N], and check them.

    Raises DamagedDataError for a file that does not hold the split.
    """
    with extra("data"):
        import pyarrow.parquet  # lazy: only the first load of a data set needs it

    mode = "L" if dataset.image_shape[0] == 1 else "RGB"
    _, height, width = dataset.image_shape
    size = dataset.splits[split].size
    images = np.empty((size, height, width) if mode == "L" else (size, height, width, 3), np.uint8)
    labels = np.empty(size, np.int64)
    row = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns, needed = file.schema_arrow.names, (dataset.image_column, dataset.label_column)
            if not set(needed) <= set(columns):
                raise DamagedDataError(f"its columns are {', '.join(columns)[:80]}, not {' and '.join(needed)}")
            if not pyarrow.types.is_integer(file.schema_arrow.field(dataset.label_column).type):
                raise DamagedDataError(f"its column {dataset.label_column} holds no whole numbers")
            if file.metadata.num_rows != size:
                raise DamagedDataError(f"it holds {file.metadata.num_rows:,} rows, not {size:,}")
            for batch in file.iter_batches(columns=[dataset.image_column, dataset.label_column]):
                labels[row : row + len(batch)] = batch.column(dataset.label_column).to_numpy()
                for png in batch.column(dataset.image_column).field("bytes"):
                    if not png.is_valid:
                        raise DamagedDataError(f"row {row} has no image")
                    with Image.open(io.BytesIO(png.as_py()), formats=("PNG",)) as image:
                        if (image.mode, image.size) != (mode, (width, height)):
                            raise DamagedDataError(
                                f"row {row} is a {image.size[0]} x {image.size[1]} {image.mode} image, "
                                f"not {width} x {height} {mode}"
                            )
                        images[row] = np.asarray(image)
                    row += 1
        pixels = torch.from_numpy(images).reshape(size, height, width, -1).permute(0, 3, 1, 2).contiguous()
        check_arrays(dataset, dataset.splits[split], pixels, torch.from_numpy(labels))
    except Exception as error:  # pyarrow, zlib and Pillow each raise their own errors for a damaged file
        raise DamagedDataError(
            f"{path} is damaged: {error}. Fetch it again:\n"
            f"    {fetch_command(dataset.repo_id, dataset.splits[split].filename, again=True)}"
        ) from error
    return pixels, torch.from_numpy(labels)


def write_decoded(path: Path, images: Tensor, labels: Tensor) -> None:
    """Write decoded arrays and the checksum of their pixels to one file, which appears whole or not at all.

    images uint8 [N, C, H, W], labels int64 [N].
    """
    with atomic_path(path) as part:
        save_file({"images": images, "labels": labels}, part, metadata={"pixels_sha256": sha256(images)})


def read_decoded(path: Path, dataset: HubDataset, split: str) -> tuple[Tensor, Tensor]:
    """Read and check the arrays that `write_decoded` wrote; a DamagedDataError names the file."""
    size = dataset.splits[split].size
    try:
        tensors, words = read_tensors(path, "cache", most=size * (math.prod(dataset.image_shape) + 8) + LONGEST_HEADER)
        images, labels = tensors["images"], tensors["labels"]
        if images.dtype != torch.uint8 or labels.dtype != torch.int64:
            raise DamagedDataError(f"it holds {images.dtype} and {labels.dtype}, not uint8 and int64")
        check_arrays(dataset, dataset.splits[split], images, labels)
        if sha256(images) != words.get("pixels_sha256"):
            raise DamagedDataError("its pixels are not those that were written")
    except (OSError, KeyError) as error:
        raise DamagedDataError(f"The decoded cache {path} is damaged: {error}.") from error
    return images, labels
