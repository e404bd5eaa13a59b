"""Data: MNIST and CIFAR-10 behind one type, the bundled digits, 2-D toys, and a user's own picture."""

from diffusion_explained.data.hub import DamagedDataError, DataUnavailableError
from diffusion_explained.data.images import ImageDataset, to_float, to_uint8
from diffusion_explained.data.load import bundled_mnist, cache_folder, load_dataset, training_images

__all__ = [
    "DamagedDataError",
    "DataUnavailableError",
    "ImageDataset",
    "bundled_mnist",
    "cache_folder",
    "load_dataset",
    "to_float",
    "to_uint8",
    "training_images",
]
