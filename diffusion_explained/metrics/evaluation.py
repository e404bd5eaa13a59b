"""All measurements of a diffusion model at one setting, with those of real images that the model never saw.

evaluation = evaluate(load_pretrained("mnist_unet_flow"), n=1000, num_inference_steps=10, guidance_scale=2.0)
print(evaluation)                              # or evaluation.to_dict(), for a model card
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from diffusion_explained.checks import typed_arguments, whole
from diffusion_explained.data import DataUnavailableError, ImageDataset, load_dataset, training_images
from diffusion_explained.metrics.classes import classify, shipped_classifier
from diffusion_explained.metrics.coverage import Coverage
from diffusion_explained.metrics.distances import mean_pairwise_distance
from diffusion_explained.metrics.frechet import frechet_distance, frechet_spread
from diffusion_explained.metrics.neighbours import nearest, neighbour_coverage
from diffusion_explained.models.classifier import Classifier
from diffusion_explained.noise import check_seed, stream


class Model(Protocol):
    """The part of `pretrained.Model` that an evaluation needs."""

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> torch.device: ...

    def sample(self, labels: Tensor, *, seed: int, **settings: Any) -> Tensor: ...


@dataclass(frozen=True)
class Measures:
    """The measurements of a set of n images with labels; see `metrics` for the definitions.

    accuracy: the share of images, 0..1, that the classifier assigns to their label.
    coverage: how many images the classifier assigns to each class.
    neighbour_coverage: the share, 0..1, of training images that have one of the images in their neighbourhood.
    frechet_distance: the distance to n training images of the same classes, in the classifier's features.
    frechet_spread: the standard deviation of that distance over sets of n images like this one.
    diversity: the mean pairwise distance within a class, in the features.
    nearest_training_image: the median distance to the nearest training image, in pixels.
    """

    accuracy: float
    coverage: Coverage
    neighbour_coverage: float
    frechet_distance: float
    frechet_spread: float
    diversity: float
    nearest_training_image: float


@dataclass(frozen=True)
class Evaluation:
    """One model at one setting: the measures of its samples, and those of the same number of real images as reference.

    The Frechet distance of the real images is the floor: they are unseen images of the same source.
    """

    model: str
    n: int
    settings: dict[str, Any]
    train: str
    unseen: str
    samples: Measures
    real: Measures

    @property
    def frechet_floor(self) -> float:
        """The Frechet distance of unseen real images; samples cannot be expected to have a smaller one."""
        return self.real.frechet_distance

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        rows = [
            ("", "samples", "real"),
            ("class accuracy", f"{self.samples.accuracy:.2%}", f"{self.real.accuracy:.2%}"),
            ("classes reached", *(f"{m.coverage.reached} of {len(m.coverage.counts)}" for m in self._both)),
            ("evenness of classes", *(f"{m.coverage.evenness:.4f}" for m in self._both)),
            ("neighbourhoods reached", *(f"{m.neighbour_coverage:.1%}" for m in self._both)),
            ("Fréchet distance", *(f"{m.frechet_distance:.3f} ±{m.frechet_spread:.3f}" for m in self._both)),
            ("diversity", *(f"{m.diversity:.3f}" for m in self._both)),
            ("nearest training image", *(f"{m.nearest_training_image:.2f}" for m in self._both)),
        ]
        table = "\n".join(f"{name:<24}{samples:>16}{real:>16}" for name, samples, real in rows)
        return (
            f"{self.model}: {self.n:,} samples ({settings})\n{table}\n"
            f"(training images: {self.train}; real: {self.n:,} {self.unseen};\n"
            f"features and classes are those of this package's own classifier, so the distance is no FID)"
        )

    @property
    def _both(self) -> tuple[Measures, Measures]:
        return self.samples, self.real


class Reference:
    """The reference for samples of a data set: features of n training images, and the measures of n unseen real images.

    Both sets have the same number of images of each class, drawn with the seed. If the data set's test split is not on
    this machine, one half of the training images replaces it, and samples are compared with the other half.

    Args:
        dataset: the data set that the model was trained on. n: the number of samples that will be measured.
        classifier: the classifier that measures; None for the data set's shipped one. device: where to compute.

    Raises ValueError for an n that is too small, or larger than the real images allow.
    """

    def __init__(
        self,
        dataset: str = "mnist",
        n: int = 1000,
        *,
        classifier: Classifier | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        n = whole("n", n, 0)
        check_seed(seed, max(1, n))
        train = training_images(dataset)
        if n < 2 * train.num_classes:
            least = 2 * train.num_classes
            raise ValueError(f"n = {n} is too small: give {least} or more, so that each class has two samples.")
        self.labels = torch.arange(n, device="cpu", dtype=torch.int64) % train.num_classes
        self.classifier = classifier or shipped_classifier(dataset, str(device))
        self.device = next(self.classifier.parameters()).device
        generator = stream(seed)
        try:
            test, self.unseen = load_dataset(dataset, "test", download=False), "images of the test split"
        except DataUnavailableError:
            first, second = torch.randperm(
                len(train), generator=generator, device="cpu", dtype=torch.int64
            ).tensor_split(2)
            train, test = train.subset(first), train.subset(second)
            self.unseen = "other training images, because the test split is not on this machine"
        self.train = train
        reference = train.batch(_draw_like(train, self.labels, generator))[0]
        self.reference_features = classify(reference, self.classifier)[0].to(self.device)
        self.real = self.measures(test.batch(_draw_like(test, self.labels, generator))[0])

    def measures(self, x_0: Tensor) -> Measures:
        """Measure images [n, C, H, W] with the labels `self.labels`: image i is of class i % num_classes."""
        features, logits = classify(x_0, self.classifier)
        seen, num_classes = logits.argmax(dim=1), self.train.num_classes
        spread = [mean_pairwise_distance(features[self.labels == label]) for label in range(num_classes)]
        features, reference = features.to(self.device), self.reference_features
        return Measures(
            accuracy=int((seen == self.labels).sum()) / len(seen),
            coverage=Coverage(tuple(seen.bincount(minlength=num_classes).tolist())),
            neighbour_coverage=neighbour_coverage(features, reference),
            frechet_distance=frechet_distance(features, reference),
            frechet_spread=frechet_spread(features, reference),
            diversity=sum(spread) / len(spread),
            nearest_training_image=nearest(x_0.to(self.device), self.train.images)[1].median().item(),
        )


@typed_arguments
def evaluate(
    model: Model,
    *,
    n: int = 1000,
    dataset: str = "mnist",
    classifier: Classifier | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Callable[[int, int], object] | None = None,
    **settings: Any,
) -> Evaluation:
    """Draw n samples, evenly over the classes, and measure them and the same number of unseen real images.

    Args:
        model: `model.sample(labels, seed=..., **settings)` must return images; sample i has the seed `seed + i`,
            whatever the batch size.
        n: the number of samples; the Frechet distance needs more samples than the classifier has features, and is
            comparable only between evaluations of the same n.
        dataset, classifier: as for `Reference`.
        batch_size: samples per batch; by default 100 on a CPU, 1000 on a GPU.
        progress: called as progress(samples drawn, n) after each batch.
        settings: passed on to `model.sample`, and kept in the `Evaluation`.

    Raises ValueError for an n that is too small, or larger than the real images allow.
    """
    reference = Reference(dataset, n, classifier=classifier, seed=seed, device=model.device)
    x_0 = draw(model, reference.labels, seed, batch_size, progress, **settings)
    samples = reference.measures(x_0)
    settings = {**settings, "seed": seed}
    return Evaluation(model.name, n, settings, str(reference.train), reference.unseen, samples, reference.real)


@typed_arguments
def draw(
    model: Model,
    labels: Tensor,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Callable[[int, int], object] | None = None,
    **settings: Any,
) -> Tensor:
    """Draw samples [n, C, H, W] of labels [n] in batches and return them on the CPU; arguments as for `evaluate`."""
    batch_size = (
        whole("batch_size", batch_size, 1)
        if batch_size is not None
        else (100 if torch.device(model.device).type == "cpu" else 1000)
    )
    drawn = []
    for start in range(0, len(labels), batch_size):
        drawn.append(model.sample(labels[start : start + batch_size], seed=seed + start, **settings).cpu())
        if progress:
            progress(start + len(drawn[-1]), len(labels))
    return torch.cat(drawn)


def _draw_like(dataset: ImageDataset, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Indices [n] of random, distinct images: image i has the label labels[i]."""
    indices = torch.empty_like(labels)
    for label in labels.unique().tolist():
        places = torch.nonzero(labels == label).flatten()
        images = torch.nonzero(dataset.labels == label).flatten()
        if len(images) < len(places):
            raise ValueError(
                f"n = {len(labels)} needs {len(places)} images of each class, and {dataset} has "
                f"{len(images)} of class {dataset.class_names[label]}; give a smaller n"
            )
        indices[places] = images[
            torch.randperm(len(images), generator=generator, device="cpu", dtype=torch.int64)[: len(places)]
        ]
    return indices
