"""What this package's small classifier sees in samples: their features, the accuracy of their classes, their diversity.

The classifier (`models.classifier`) was trained only on real images; its features are the space in which sets of images
are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from diffusion_explained.checks import check_finite, check_image_range, float_data, typed_arguments, whole, whole_vector
from diffusion_explained.data import to_float
from diffusion_explained.metrics.distances import mean_pairwise_distance
from diffusion_explained.models.classifier import Classifier
from diffusion_explained.pretrained import load_classifier


@typed_arguments
@lru_cache(maxsize=4)
def shipped_classifier(dataset: str = "mnist", device: torch.device | str = "cpu") -> Classifier:
    """The shipped classifier that measures samples of a data set; it is loaded once and shared, so do not change it."""
    return load_classifier(f"{dataset}_classifier", device)


@torch.no_grad()
@typed_arguments
def classify(x_0: Tensor, classifier: Classifier | None = None, batch_size: int = 500) -> tuple[Tensor, Tensor]:
    """The classifier's features [N, D] and logits [N, num_classes] of images [N, C, H, W] in [-1, 1].

    Images of bytes (uint8) are first converted to floats in [-1, 1]. classifier: None for the shipped one of MNIST.
    Raises ValueError for images of another shape, for NaN, and for numbers far beyond [-1, 1].
    """
    classifier = classifier or shipped_classifier()
    if x_0.ndim != 4 or tuple(x_0.shape[1:]) != tuple(classifier.image_shape) or len(x_0) == 0:
        raise ValueError(
            f"this classifier takes images [N, {', '.join(map(str, classifier.image_shape))}] with N of 1 or more; "
            f"got {list(x_0.shape)}"
        )
    batch_size = whole("batch_size", batch_size, 1)
    x_0 = to_float(x_0) if x_0.dtype == torch.uint8 else float_data("images", x_0)
    check_finite(x_0, "images")
    check_image_range(x_0)
    device = next(classifier.parameters()).device
    features = torch.cat([classifier.features(x.to(device).float()) for x in x_0.split(batch_size)])
    return features.cpu(), classifier.logits(features).cpu()


@typed_arguments
def class_accuracy(x_0: Tensor, labels: Tensor | Sequence[int], classifier: Classifier | None = None) -> float:
    """The share of images [N, C, H, W], 0..1, that the classifier assigns to the requested class, labels [N]."""
    labels = _labels(labels, x_0)
    _, logits = classify(x_0, classifier)
    return int((logits.argmax(dim=1) == labels).sum()) / len(labels)


@typed_arguments
def diversity_by_class(
    x_0: Tensor, labels: Tensor | Sequence[int], classifier: Classifier | None = None
) -> dict[int, float]:
    """The diversity of each class: the mean pairwise distance of its images in the classifier's features.

    x_0 [N, C, H, W], labels [N]; every class among the labels needs two or more images.
    """
    labels = _labels(labels, x_0)
    features, _ = classify(x_0, classifier)
    return {int(label): mean_pairwise_distance(features[labels == label]) for label in labels.unique()}


@typed_arguments
def diversity(x_0: Tensor, labels: Tensor | Sequence[int], classifier: Classifier | None = None) -> float:
    """The mean of `diversity_by_class`: 0 if every class has collapsed to a single image; compare with real images.

    x_0 [N, C, H, W], labels [N].
    """
    by_class = diversity_by_class(x_0, labels, classifier)
    return sum(by_class.values()) / len(by_class)


def _labels(labels: Tensor | Sequence[int], x_0: Tensor) -> Tensor:
    """Labels as int64 [N] on the CPU, one per image of x_0 [N, ...]; ValueError for anything else."""
    labels = whole_vector("labels", labels)
    if len(labels) != len(x_0):
        raise ValueError(f"{len(x_0)} images need as many labels; got {len(labels)}.")
    return labels
