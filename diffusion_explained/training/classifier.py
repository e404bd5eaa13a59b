"""Training the classifiers that measure samples: plain supervised learning, a record now and then.

    for record in train_classifier(network, load_dataset("mnist"), ClassifierTrainConfig(epochs=8)):
        print(record.step, record.loss)
    print(accuracy(network, load_dataset("mnist", "test")))

`run_recipe` does this for a file of recipes/ and writes the weights that the package ships.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import named_options
from diffusion_explained.data import ImageDataset, load_dataset, to_float
from diffusion_explained.data.known import DATASETS
from diffusion_explained.devices import hardware
from diffusion_explained.files import check_folder
from diffusion_explained.models import Classifier, build_network, count_parameters, network_config, of_data
from diffusion_explained.names import unknown_name
from diffusion_explained.noise import seeded
from diffusion_explained.tables import check_file_name, check_keys, read_table, typed
from diffusion_explained.training.augmentation import cut_out_randomly, flip_randomly, shift_randomly
from diffusion_explained.training.checkpoints import go_on
from diffusion_explained.training.classifier_state import ClassifierState, ClassifierTrainConfig
from diffusion_explained.training.folder_lock import one_at_a_time
from diffusion_explained.training.meter import Meter
from diffusion_explained.training.processes import Processes, process_count
from diffusion_explained.weight_files import fingerprint, round_to_fp16, write_weights


@dataclass(frozen=True)
class ClassifierRecord:
    """Where training is after `step` steps of `num_steps`; loss is the mean since the record before.

    epoch is how many times all images were seen; seconds is the time spent training, before checkpoints too.
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
def train_classifier(
    network: Classifier,
    dataset: ImageDataset,
    config: ClassifierTrainConfig,
    *,
    record_every: int = 10,
    checkpoints: Path | None = None,
    checkpoint_every: int = 500,
) -> Iterator[ClassifierRecord]:
    """Train `network` in place, on the device where it is, yielding a record every record_every steps and at the end.

    SGD on the cross entropy, one cycle of the learning rate (`one_cycle`), each image augmented anew. All images are
    on the device; what is random is drawn on the CPU. The last batch of an epoch is dropped when it is not whole.
    On one device and thread count the same seed gives the same network, also when a checkpoint is gone on from.

    checkpoints: a folder to save to every checkpoint_every steps, and at the end; training goes on from what it holds.

    Raises:
        ValueError: if the images are not what the network takes, or make less than one batch; for the checkpoints of
            another training.
        FolderInUseError, NotWrittenError: (OSErrors) if another training holds that folder, or it cannot be written.
        FloatingPointError: when the loss is no longer a number.
    """
    check_data(network, dataset, config)
    state = ClassifierState(network, config)
    description = describe(network, dataset, config)
    go_on(state, description, checkpoints)

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

    if state.step == num_steps:  # its checkpoint is the last one
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
    """Raise ValueError unless the images are what the network takes, and make a batch."""
    if dataset.image_shape != tuple(network.image_shape) or dataset.num_classes != network.num_classes:
        raise ValueError(
            f"the network takes {network.image_shape} images of {network.num_classes} classes, "
            f"and {dataset.name} has {dataset.image_shape} of {dataset.num_classes}"
        )
    if config.epochs < 1 or not 1 <= config.batch_size <= len(dataset):
        raise ValueError(
            f"{config.epochs} epochs of {len(dataset)} images in batches of {config.batch_size} make no step"
        )


def describe(network: Classifier, dataset: ImageDataset, config: ClassifierTrainConfig) -> dict[str, Any]:
    """What makes a training this one: a checkpoint goes on only if all of it is the same."""
    data = {"images": dataset.images, "labels": dataset.labels}
    return {
        "network": network_config(network),
        "training": asdict(config),
        "data": {"shape": list(dataset.images.shape), "sha256": fingerprint("", data)},
    }


def augment(x: Tensor, config: ClassifierTrainConfig, generator: torch.Generator) -> Tensor:
    """Images [B, C, H, W] as training sees them: moved, mirrored, and partly hidden."""
    x = shift_randomly(x, config.max_shift, generator, config.padding)
    if config.flip:
        x = flip_randomly(x, generator)
    return cut_out_randomly(x, config.cutout, generator)


def one_cycle(progress: float, peak: float = 0.25) -> float:
    """The learning rate's factor at progress 0..1: half a cosine up to 1 at `peak`, another one down to 0."""
    towards_peak = progress / peak if progress < peak else (1 - progress) / (1 - peak)
    return 0.5 * (1 - math.cos(math.pi * towards_peak))


@torch.no_grad()
def accuracy(network: Classifier, dataset: ImageDataset, batch_size: int = 500) -> float:
    """The share of a data set's images, 0..1, whose label the network gives the largest logit."""
    network.eval()
    device = next(network.parameters()).device
    correct = 0
    for x, labels in dataset.batches(batch_size):
        correct += int((network(x.to(device)).argmax(dim=1).cpu() == labels).sum())
    return correct / len(dataset)


@dataclass(frozen=True)
class ClassifierRecipe:
    """A classifier, from data to measured weights: a recipe of the task "classifier".

    dataset: a name of `load_dataset`; network: for `build_network`, but for what the data set gives; training: of
    `ClassifierTrainConfig`, whose seed is the recipe's.
    """

    task: str
    name: str
    dataset: str
    seed: int
    network: dict[str, Any]
    training: ClassifierTrainConfig

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any], source: Path) -> ClassifierRecipe:
        """Check what a TOML file holds, whole, before anything runs.

        Raises ValueError that names the file, the key, what was given and what is allowed.
        """
        try:
            check_keys(cls, tables, "the recipe", ("name", "dataset", "seed", "network", "training"))
            seed = typed(int, tables["seed"], "seed")
            if isinstance(tables["training"], Mapping) and "seed" in tables["training"]:
                raise ValueError("the seed of a classifier's recipe stands at its top, not in [training].")
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
        """The classifier, its weights drawn from torch's global generator. Raises ValueError for another network."""
        network = build_network(of_data(self.network, image_shape, num_classes))
        if not isinstance(network, Classifier):
            raise ValueError(f'the network of a classifier\'s recipe is "classifier"; got {self.network["network"]!r}.')
        return network


@named_options
def run_recipe(
    recipe: ClassifierRecipe, output: Path, device: str = "cpu", checkpoint_every: int = 500
) -> Iterator[ClassifierRecord]:
    """Train what a recipe describes, and write the weights and their card to `output`.

    The card's accuracy is that of the fp16 weights, on the test split, each image seen once, as it is. Checkpoints are
    kept beside the weights. Raises ValueError for several processes, and what `load_dataset` raises.
    """
    if (count := process_count()) != 1:
        raise ValueError(
            f"a classifier is trained by one process, in minutes, and {count} were started: "
            "run `diffusion-explained train` itself, without `accelerate launch` or torchrun."
        )
    check_folder(output.parent, "")  # before data is fetched
    config = recipe.training
    train, test = load_dataset(recipe.dataset, "train"), load_dataset(recipe.dataset, "test")
    # the initial weights are the seed's too
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
