"""Data: MNIST and CIFAR-10 as one type, the parts of them that the package includes, 2-D toys, and users' pictures."""

from diffusion_explained.data.hub import DamagedDataError, DataUnavailableError
from diffusion_explained.data.images import ImageDataset, to_float, to_uint8
from diffusion_explained.data.load import bundled_mnist, cache_folder, load_dataset, training_images
from diffusion_explained.data.made import made_by_model
from diffusion_explained.data.pictures import load_image
from diffusion_explained.data.toys import TOYS, from_points, from_strokes, gaussian_modes, toy

__all__ = [
    "TOYS",
    "DamagedDataError",
    "DataUnavailableError",
    "ImageDataset",
    "bundled_mnist",
    "cache_folder",
    "from_points",
    "from_strokes",
    "gaussian_modes",
    "load_dataset",
    "load_image",
    "made_by_model",
    "to_float",
    "to_uint8",
    "toy",
    "training_images",
]
