"""Training the classifiers that measure samples, by supervised learning.

    for record in train_classifier(network, load_dataset("mnist"), ClassifierTrainConfig(epochs=8)):
        print(record.step, record.loss)
    print(accuracy(network, load_dataset("mnist", "test")))

`run_recipe` does this for a recipe file of recipes/ and writes the weights that the package ships.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.data import ImageDataset, load_dataset, to_float
from diffusion_explained.data.hub_datasets import DATASETS
from diffusion_explained.devices import hardware
from diffusion_explained.files import check_folder
from diffusion_explained.messages import unknown_name
from diffusion_explained.models import Classifier, build_network, count_parameters, network_config, of_data
from diffusion_explained.noise import seeded
from diffusion_explained.tables import check_file_name, check_keys, read_table, typed
from diffusion_explained.training.augmentation import cut_out_randomly, flip_randomly, shift_randomly
from diffusion_explained.training.checkpoints import resume
from diffusion_explained.training.classifier_state import ClassifierState, ClassifierTrainConfig
from diffusion_explained.training.folder_lock import one_at_a_time
from diffusion_explained.training.meter import Meter
from diffusion_explained.training.processes import Processes, process_count
from diffusion_explained.weight_files import fingerprint, round_to_fp16, write_weights


@dataclass(frozen=True)
class ClassifierRecord:
    """The progress of training after `step` steps of `num_steps`; loss is the mean since the previous record.

    epoch counts passes over all images; seconds is the total training time, including that before a checkpoint.
    """

    step: int
    num_steps: int
    epoch: float
    images_seen: int
    loss: float
    learning_rate: float
    images_per_second: float
    seconds: float


@named_options
@one_at_a_time
@typed_arguments
def train_classifier(
    network: Classifier,
    dataset: ImageDataset,
    config: ClassifierTrainConfig,
    *,
    record_every: int = 10,
    checkpoints: Path | None = None,
    checkpoint_every: int = 500,
) -> Iterator[ClassifierRecord]:
    """Train `network` in place, on its device, yielding a record every record_every steps and at the end.

    SGD on the cross entropy, with one cycle of the learning rate (`one_cycle`) and a new augmentation of each image in
    every epoch. All images are kept on the device; random numbers are drawn on the CPU. An incomplete last batch of an
    epoch is dropped. With the same device and number of threads, the same seed gives the same network, also when
    training resumes from a checkpoint.

    checkpoints: a folder to save to every checkpoint_every steps and at the end; if the folder holds a checkpoint,
        training resumes from it.

    Raises:
        ValueError: if the images do not fit the network, or are fewer than one batch; if the checkpoints are of another
            training run.
        FolderInUseError, NotWrittenError: (OSErrors) if another training run uses the folder, or it cannot be written.
        FloatingPointError: when the loss is no longer a finite number.
    """
    check_data(network, dataset, config)
    state = ClassifierState(network, config)
    description = describe(network, dataset, config)
    resume(state, description, checkpoints)

    device = next(network.parameters()).device
    images, labels = dataset.images.to(device), dataset.labels.to(device)
    steps_per_epoch = len(dataset) // config.batch_size
    num_steps = config.epochs * steps_per_epoch

    meter = Meter(
        state, config, Processes.here(device, config.batch_size),
        record_every=record_every, checkpoints=checkpoints, checkpoint_every=checkpoint_every, description=description,
    )  # fmt: skip

    def record() -> ClassifierRecord:
        rate, seen = config.learning_rate * one_cycle((state.step - 1) / num_steps), state.step * config.batch_size
        epoch, speed = state.step / steps_per_epoch, meter.images_per_second
        return ClassifierRecord(state.step, num_steps, epoch, seen, state.loss, rate, speed, state.seconds)

    if state.step == num_steps:  # the checkpoint is that of the last step
        yield record()
    network.train()
    meter.start()
    while state.step < num_steps:
        first = state.step % steps_per_epoch * config.batch_size
        if first == 0:
            state.order = torch.randperm(len(dataset), generator=state.generator, device="cpu", dtype=torch.int64)
        chosen = state.order[first : first + config.batch_size].to(device)
        x = augment(to_float(images[chosen]), config, state.generator)
        state.set_learning_rate(config.learning_rate * one_cycle(state.step / num_steps))
        meter.add(state.gradient_step(x, labels[chosen]))
        state.step += 1
        if meter.after_step(last=state.step == num_steps):
            yield record()
            meter.start()
    network.eval()


def check_data(network: Classifier, dataset: ImageDataset, config: ClassifierTrainConfig) -> None:
    """Raise ValueError unless the images fit the network and make at least one batch."""
    if dataset.image_shape != tuple(network.image_shape) or dataset.num_classes != network.num_classes:
        raise ValueError(
            f"the network takes {network.image_shape} images of {network.num_classes} classes, "
            f"and {dataset.name} has {dataset.image_shape} of {dataset.num_classes}"
        )
    if config.epochs < 1 or not 1 <= config.batch_size <= len(dataset):
        raise ValueError(
            f"{config.epochs} epochs of {len(dataset)} images in batches of {config.batch_size} make no step: "
            f"give 1 epoch or more, and a batch_size from 1 to {len(dataset)}."
        )


def describe(network: Classifier, dataset: ImageDataset, config: ClassifierTrainConfig) -> dict[str, Any]:
    """The description of a training run: a checkpoint is resumed only if all of it is the same."""
    data = {"images": dataset.images, "labels": dataset.labels}
    return {
        "network": network_config(network),
        "training": asdict(config),
        "data": {"shape": list(dataset.images.shape), "sha256": fingerprint("", data)},
    }


@typed_arguments
def augment(x: Tensor, config: ClassifierTrainConfig, generator: torch.Generator) -> Tensor:
    """Images [B, C, H, W] as the network is trained on them: shifted, mirrored, and partly covered."""
    x = shift_randomly(x, config.max_shift, generator, config.padding)
    if config.flip:
        x = flip_randomly(x, generator)
    return cut_out_randomly(x, config.cutout, generator)


@typed_arguments
def one_cycle(progress: float, peak: float = 0.25) -> float:
    """The factor on the learning rate at progress 0..1: half a cosine up to 1 at `peak`, then another down to 0."""
    towards_peak = progress / peak if progress < peak else (1 - progress) / (1 - peak)
    return 0.5 * (1 - math.cos(math.pi * towards_peak))


@typed_arguments
@torch.no_grad()
def accuracy(network: Classifier, dataset: ImageDataset, batch_size: int = 500) -> float:
    """The share of a data set's images, 0..1, for which the network's largest logit is that of the label."""
    network.eval()
    device = next(network.parameters()).device
    correct = 0
    for x, labels in dataset.batches(batch_size):
        correct += int((network(x.to(device)).argmax(dim=1).cpu() == labels).sum())
    return correct / len(dataset)


@dataclass(frozen=True)
class ClassifierRecipe:
    """A recipe of the task "classifier", from data to measured weights.

    dataset: a name of `load_dataset`; network: the configuration for `build_network`, without image_shape and
    num_classes, which come from the data set; training: a `ClassifierTrainConfig` with the recipe's seed.
    """

    task: str
    name: str
    dataset: str
    seed: int
    network: dict[str, Any]
    training: ClassifierTrainConfig

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any], source: Path) -> ClassifierRecipe:
        """Build a recipe from the content of a TOML file and check all of it, before anything runs.

        Raises ValueError, naming the file, the key, what was given and what is allowed.
        """
        try:
            check_keys(cls, tables, "the recipe", ("name", "dataset", "seed", "network", "training"))
            seed = typed(int, tables["seed"], "seed")
            if isinstance(tables["training"], Mapping) and "seed" in tables["training"]:
                raise ValueError("the seed of a classifier's recipe belongs at the top of the file, not in [training].")
            training = replace(read_table(ClassifierTrainConfig, tables["training"], "[training]"), seed=seed)
            others = {key: value for key, value in tables.items() if key != "training"}
            recipe = read_table(cls, others, "the recipe", training=training)
            check_file_name(recipe.name, "name")
            if recipe.dataset not in DATASETS:
                raise unknown_name("dataset", recipe.dataset, DATASETS)
            data = DATASETS[recipe.dataset]
            seeded(0, lambda: recipe.build(data.image_shape, len(data.class_names)))
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
        return recipe

    def build(self, image_shape: Sequence[int], num_classes: int) -> Classifier:
        """The classifier, with weights drawn from torch's global generator. Raises ValueError for another network."""
        network = build_network(of_data(self.network, image_shape, num_classes))
        if not isinstance(network, Classifier):
            raise ValueError(
                f'the network of a classifier\'s recipe must be "classifier"; got {self.network["network"]!r}.'
            )
        return network


@named_options
def run_recipe(
    recipe: ClassifierRecipe, output: Path, device: torch.device | str = "cpu", checkpoint_every: int = 500
) -> Iterator[ClassifierRecord]:
    """Train the classifier that a recipe describes, and write the weights and their model card to `output`.

    The card's accuracy is that of the fp16 weights on the test split, without augmentation. Checkpoints are kept beside
    the weights. Raises ValueError for several processes, and the errors of `load_dataset`.
    """
    if (count := process_count()) != 1:
        raise ValueError(
            f"a classifier is trained by one process (it takes minutes), and {count} were started: "
            "run `diffusion-explained train` itself, without `accelerate launch` or torchrun."
        )
    check_folder(output.parent, "")  # before the data set is downloaded
    config = recipe.training
    train, test = load_dataset(recipe.dataset, "train"), load_dataset(recipe.dataset, "test")
    # the seed determines the initial weights too
    network = seeded(config.seed, lambda: recipe.build(train.image_shape, train.num_classes)).to(device)
    checkpoints = output.parent / "checkpoints"
    for record in train_classifier(network, train, config, checkpoints=checkpoints, checkpoint_every=checkpoint_every):
        yield record
    round_to_fp16(network)
    card = {
        "task": "classifier",
        "recipe": asdict(recipe),
        "data": f"{train.name}, train split, {len(train):,} images",
        "class_names": list(train.class_names),
        "images_seen": record.images_seen,
        "seconds": round(record.seconds),
        "hardware": hardware(device),
        "torch": torch.__version__,
        "parameters": count_parameters(network),
        "test_accuracy": accuracy(network, test),
    }
    write_weights(output, network, network_config(network), card)
