"""Measures of the quality of samples, and all of them for one model at one setting.

| module       | measures                                                                                      |
|--------------|-----------------------------------------------------------------------------------------------|
| `classes`    | with this package's classifier: features, accuracy of the classes, diversity within a class   |
| `coverage`   | how samples are distributed over classes or modes                                             |
| `frechet`    | the Frechet distance between two sets of features, its spread, floor and bias                 |
| `distances`  | sliced Wasserstein distance between sets of points; mean distance over the pairs of a set     |
| `neighbours` | whether samples copy training images, and how many real images have a sample nearby           |
| `evaluation` | `evaluate`: all of these for one model, beside real images that the model never saw           |
| `diagnosis`  | `diagnose`: the fault of a network that was trained on a toy, by name                         |
"""

from diffusion_explained.metrics.classes import (
    class_accuracy,
    classify,
    diversity,
    diversity_by_class,
    shipped_classifier,
)
from diffusion_explained.metrics.coverage import Coverage, class_coverage, mode_coverage
from diffusion_explained.metrics.diagnosis import Diagnosis, diagnose
from diffusion_explained.metrics.distances import mean_pairwise_distance, sliced_wasserstein
from diffusion_explained.metrics.evaluation import Evaluation, Measures, Reference, draw, evaluate
from diffusion_explained.metrics.frechet import (
    frechet_bias,
    frechet_distance,
    frechet_floor,
    frechet_spread,
    gaussian_frechet_distance,
    matrix_root,
)
from diffusion_explained.metrics.neighbours import nearest, nearest_training_images, neighbour_coverage

__all__ = [
    "Coverage",
    "Diagnosis",
    "Evaluation",
    "Measures",
    "Reference",
    "class_accuracy",
    "class_coverage",
    "classify",
    "diagnose",
    "diversity",
    "diversity_by_class",
    "draw",
    "evaluate",
    "frechet_bias",
    "frechet_distance",
    "frechet_floor",
    "frechet_spread",
    "gaussian_frechet_distance",
    "matrix_root",
    "mean_pairwise_distance",
    "mode_coverage",
    "nearest",
    "nearest_training_images",
    "neighbour_coverage",
    "shipped_classifier",
    "sliced_wasserstein",
]
