"""All the measurements of a diffusion model at one setting, beside those of real images that it never saw.

evaluation = evaluate(load_pretrained("mnist_unet_flow"), n=1000, num_inference_steps=10, guidance_scale=2.0)
print(evaluation)                              # or evaluation.to_dict(), for a model card
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from diffusion_explained.data import DataUnavailableError, ImageDataset, load_dataset, training_images
from diffusion_explained.metrics import Coverage, classify, frechet_distance, mean_pairwise_distance, nearest
from diffusion_explained.models.classifier import Classifier


class Model(Protocol):
    """What an evaluation needs of `pretrained.Model`."""

    name: str
    num_classes: int

    def sample(self, labels: Tensor, *, seed: int, **settings: Any) -> Tensor: ...


@dataclass(frozen=True)
class Measures:
    """What is measured of a crowd of n images with labels; see `metrics` for the definitions.

    accuracy: the share, 0..1, whose class the classifier sees.
    coverage: how often it sees each class.
    frechet_distance: to n training images of the same classes, in the classifier's features.
    diversity: the mean pairwise distance within a class, in the features.
    nearest_training_image: the median distance to the nearest training image, in pixels.
    """

    accuracy: float
    coverage: Coverage
    frechet_distance: float
    diversity: float
    nearest_training_image: float


@dataclass(frozen=True)
class Evaluation:
    """One model at one setting: the measures of its samples, and of as many real images as the yardstick.

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
            ("Fréchet distance", *(f"{m.frechet_distance:.3f}" for m in self._both)),
            ("diversity", *(f"{m.diversity:.3f}" for m in self._both)),
            ("nearest training image", *(f"{m.nearest_training_image:.2f}" for m in self._both)),
        ]
        table = "\n".join(f"{name:<24}{samples:>12}{real:>12}" for name, samples, real in rows)
        return (
            f"{self.model}: {self.n:,} samples ({settings})\n{table}\n"
            f"(training images: {self.train}; real: {self.n:,} {self.unseen};\n"
            f"features and classes are those of this package's own classifier, so the distance is no FID)"
        )

    @property
    def _both(self) -> tuple[Measures, Measures]:
        return self.samples, self.real


def evaluate(
    model: Model,
    *,
    n: int = 1000,
    dataset: str = "mnist",
    classifier: Classifier | None = None,
    seed: int = 0,
    batch_size: int = 100,
    progress: Callable[[int, int], object] | None = None,
    **settings: Any,
) -> Evaluation:
    """Draw n samples, as many of each class, and measure them, and as many unseen real images, the same way.

    Args:
        model: whose `sample(labels, seed=..., **settings)` gives images; sample i starts from seed + i, whatever
            the batch size.
        n: how many; the Frechet distance needs more than the classifier has features, and is comparable only
            between evaluations of the same n.
        dataset: the data set that the model was trained on. Where its test split is not on this machine, half of
            the training images take its place, and samples are compared with the other half.
        progress: called with (samples drawn, n) after each batch.
        settings: passed on to `model.sample`, and kept in the record.

    Raises ValueError for an n that is too small, or larger than the real images allow.
    """
    if n < 2 * model.num_classes:
        raise ValueError(f"n = {n} is too small: give {2 * model.num_classes} or more, two of each class, to compare.")
    labels = torch.arange(n) % model.num_classes
    generator = torch.Generator().manual_seed(seed)
    train = training_images(dataset)
    try:
        test, unseen = load_dataset(dataset, "test", download=False), "images of the test split"
    except DataUnavailableError:
        first, second = torch.randperm(len(train), generator=generator).tensor_split(2)
        train, test = train.subset(first), train.subset(second)
        unseen = "other training images, because the test split is not on this machine"
    reference = train.batch(_draw_like(train, labels, generator))[0]
    real = test.batch(_draw_like(test, labels, generator))[0]

    reference_features, _ = classify(reference, classifier)

    def measures(x_0: Tensor) -> Measures:
        features, logits = classify(x_0, classifier)
        seen = logits.argmax(dim=1)
        spread = [mean_pairwise_distance(features[labels == label]) for label in range(model.num_classes)]
        return Measures(
            accuracy=(seen == labels).double().mean().item(),
            coverage=Coverage(tuple(seen.bincount(minlength=logits.shape[1]).tolist())),
            frechet_distance=frechet_distance(features, reference_features),
            diversity=sum(spread) / len(spread),
            nearest_training_image=nearest(x_0, train.images)[1].median().item(),
        )

    yardstick = measures(real)  # first: an n that is too small is refused before any sample is drawn
    drawn = []
    for start in range(0, n, batch_size):
        part = labels[start : start + batch_size]
        drawn.append(model.sample(part, seed=seed + start, **settings).cpu())
        if progress:
            progress(start + len(part), n)

    samples = measures(torch.cat(drawn))
    return Evaluation(model.name, n, {**settings, "seed": seed}, str(train), unseen, samples, yardstick)


def _draw_like(dataset: ImageDataset, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Indices [n] of random, different images whose labels are `labels`, one for one."""
    indices = torch.empty_like(labels)
    for label in labels.unique().tolist():
        places = torch.nonzero(labels == label).flatten()
        images = torch.nonzero(dataset.labels == label).flatten()
        if len(images) < len(places):
            raise ValueError(
                f"n = {len(labels)} takes {len(places)} images of each class, and {dataset} has "
                f"{len(images)} of class {dataset.class_names[label]}; take a smaller n"
            )
        indices[places] = images[torch.randperm(len(images), generator=generator)[: len(places)]]
    return indices
