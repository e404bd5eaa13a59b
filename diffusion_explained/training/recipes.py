"""Recipes: one small TOML file per shipped network, which `diffusion-explained train NAME` runs.

    for record in run_recipe("mnist_unet_flow", Path("runs")):
        print(record.step, record.num_steps, record.loss, record.images_per_second)

This writes runs/mnist_unet_flow/mnist_unet_flow.safetensors, with the measurements in its model card. If a run is
interrupted, running the recipe again resumes from its last checkpoint.
"""

from __future__ import annotations

import copy
import inspect
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.data.hub_datasets import DATASETS
from diffusion_explained.devices import hardware
from diffusion_explained.files import check_folder, read_bytes, shipped
from diffusion_explained.guidance import check_guidance
from diffusion_explained.messages import unknown_name
from diffusion_explained.metrics import evaluate
from diffusion_explained.models import Classifier, build_network, count_flops, count_parameters, of_data
from diffusion_explained.noise import seeded
from diffusion_explained.predictions import check_determined
from diffusion_explained.pretrained import Model, save_pretrained
from diffusion_explained.samplers import SAMPLERS
from diffusion_explained.schedules import schedule_from_config
from diffusion_explained.tables import check_file_name, check_keys, read_table
from diffusion_explained.training.classifier import ClassifierRecipe, ClassifierRecord
from diffusion_explained.training.classifier import run_recipe as run_classifier_recipe
from diffusion_explained.training.config import TrainConfig
from diffusion_explained.training.loop import TRAINABLE, Record, train
from diffusion_explained.training.processes import Processes, is_main_process, process_count
from diffusion_explained.training.recipe_starts import (
    load_teacher,
    start_from_data,
    start_from_teacher,
    start_from_weights,
)
from diffusion_explained.training.reflow import PairsConfig, PairsRecord
from diffusion_explained.weight_files import round_to_fp16

NEEDED = {  # the keys that a recipe of each task of `Recipe` must have
    "diffusion": ("name", "dataset", "kind", "network", "schedule", "training"),
    "reflow": ("name", "dataset", "teacher", "pairs", "schedule", "training"),
}
TASKS = (*NEEDED, "classifier")
MOST_BYTES = 2**20  # the largest allowed recipe file


@dataclass(frozen=True)
class EvaluationSettings:
    """One [[evaluation]] of a recipe: the number of samples, and the settings of `Model.sample`.

    Raises ValueError for settings out of range, so that a mistake is found before training.
    """

    n: int = 1000
    num_inference_steps: int = 10
    sampler: str | None = None
    guidance_scale: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    guidance_rescale: float = 0.0
    clip: float | None = None
    eta: float | None = None
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        least = {"n": 20, "num_inference_steps": 1, "seed": 0, "batch_size": 1}  # n: each class needs two samples
        for name, number in least.items():
            if (given := getattr(self, name)) is not None and given < number:
                raise ValueError(f"{name} must be {number} or more; got {given}.")
        if self.sampler is not None and self.sampler not in SAMPLERS:
            raise unknown_name("sampler", self.sampler, SAMPLERS)
        check_guidance(self.guidance_scale, self.guidance_interval, self.guidance_rescale)
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be above 0, or left out; got {self.clip}.")
        if self.eta is not None:
            takes = [name for name, sampler in SAMPLERS.items() if "eta" in inspect.signature(sampler).parameters]
            if self.sampler not in takes or not 0 <= self.eta <= 1:
                raise ValueError(f"eta is from 0 to 1, for the samplers {', '.join(takes)}; got {self.eta}.")


@dataclass(frozen=True)
class Recipe:
    """A recipe for a diffusion model, trained on a data set, or for a rectified flow, trained on a teacher's pairs.

    dataset and split: as for `load_dataset`. kind: the prediction type. network: the configuration for `build_network`,
    without image_shape and num_classes, which come from the data set. schedule: as for `schedule_from_config`.
    training: a `TrainConfig`. evaluation: settings of `evaluate`; each is measured for the card. limits: what the model
    cannot do, for the card. guidance_scale, clip: the model's defaults for sampling.

    With the task "reflow" there is no split, kind or network: the network is the teacher's and, by default, starts from
    the teacher's weights. teacher: a recipe whose weights are in the same output folder, the name of weights that ship,
    or a weight file. pairs: a `PairsConfig`. dataset: the teacher's data set, for the evaluation.
    """

    name: str
    task: str
    dataset: str
    schedule: dict[str, Any]
    training: TrainConfig
    kind: str | None = None
    network: dict[str, Any] | None = None
    split: str = "train"
    teacher: str | None = None
    pairs: PairsConfig | None = None
    limits: str = ""
    guidance_scale: float = Model.default_guidance_scale
    clip: float | None = Model.default_clip
    evaluation: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any], source: Path) -> Recipe:
        """Build a recipe from the content of a TOML file and check all of it, before anything runs.

        Raises ValueError, naming the file, the key, what was given and what is allowed.
        """
        foreign = {"diffusion": ("teacher", "pairs"), "reflow": ("kind", "network", "split")}[tables["task"]]
        try:
            if wrong := [key for key in foreign if key in tables]:
                raise ValueError(f"a recipe of the task {tables['task']} has no {', '.join(wrong)}.")
            check_keys(cls, tables, "the recipe", NEEDED[tables["task"]])
            parts: dict[str, Any] = {"training": read_table(TrainConfig, tables["training"], "[training]")}
            if "pairs" in tables:
                parts["pairs"] = read_table(PairsConfig, tables["pairs"], "[pairs]")
            if not isinstance(tables.get("evaluation", []), list):
                raise ValueError("head each table of evaluation settings with [[evaluation]], two brackets.")
            others = {key: value for key, value in tables.items() if key not in parts}
            recipe = read_table(cls, others, "the recipe", **parts)
            recipe.check()
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
        return recipe

    def check(self) -> None:
        """Raise ValueError for a name, data set, network, schedule or settings that this recipe cannot run with."""
        check_file_name(self.name, "name")
        if self.dataset not in DATASETS:
            raise unknown_name("dataset", self.dataset, DATASETS)
        data = DATASETS[self.dataset]
        if self.task == "diffusion" and self.split not in (known := (*data.splits, "sample")):
            raise unknown_name("split", self.split, known)
        if self.kind is not None and self.kind not in TRAINABLE:
            raise unknown_name("kind of prediction to train", self.kind, TRAINABLE)
        schedule = schedule_from_config(self.schedule)
        if self.network is not None:
            of_network = of_data(self.network, data.image_shape, len(data.class_names))
            if isinstance(seeded(0, lambda: build_network(of_network)), Classifier):
                raise ValueError('the network "classifier" is for the task "classifier": it does not denoise.')
        check_guidance(self.guidance_scale)
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be above 0, or left out; got {self.clip}.")
        for settings in self.evaluation:
            steps = read_table(EvaluationSettings, settings, "[[evaluation]]").num_inference_steps
            for level in schedule.levels(steps)[:-1]:
                if self.kind is not None:
                    check_determined(self.kind, level.alpha, level.sigma)


def recipe_names() -> list[str]:
    """The names of the recipes that the package ships."""
    return sorted(path.stem for path in shipped("recipes").glob("*.toml"))


class RecipeFile(NamedTuple):
    """A recipe's file as `read_recipe` read it: its tables, and its path."""

    tables: dict[str, Any]
    path: Path


@typed_arguments
def read_recipe(name: str | Path | RecipeFile) -> RecipeFile:
    """Read the tables of a shipped recipe or of your own .toml file; returns them and the file's path.

    Raises ValueError for an unknown name or task and for a file that is not TOML, FileNotFoundError for a missing file.
    """
    if isinstance(name, RecipeFile):
        return name
    if isinstance(name, str) and not name.endswith(".toml"):
        if name not in recipe_names():
            raise unknown_name("recipe", name, recipe_names())
        path = shipped("recipes") / f"{name}.toml"
    else:
        path = Path(name)
        if path.is_dir():
            raise ValueError(f"{path} is a folder; give the .toml file of a recipe.")
        if not path.exists():
            raise FileNotFoundError(f"there is no recipe {path}; shipped ones are {', '.join(recipe_names())}.")
    try:
        text = read_bytes(path, "recipe", MOST_BYTES).decode("utf-8-sig")  # with a byte-order mark or without one
        tables = tomllib.loads(text.replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no TOML: {error}.") from error
    if not isinstance(tables.get("task"), str) or tables["task"] not in TASKS:
        raise unknown_name(f"task in {path}:", tables.get("task"), TASKS)
    return RecipeFile(tables, path)


@named_options
@typed_arguments
def run_recipe(
    name: str | Path | RecipeFile,
    folder: Path = Path("runs"),
    device: torch.device | str = "cpu",
    *,
    images: int | None = None,
    split: str | None = None,
    start_from: str | Path | None = None,
    checkpoint_every: int = 500,
) -> Iterator[Record | PairsRecord | ClassifierRecord]:
    """Train what a recipe describes, yielding records, and write weights and card to `weights_file(name, folder)`.

    images and split replace those of a diffusion recipe. start_from: a name or a file of `load_pretrained`, whose
    weights replace the random ones or the teacher's at the start: a further stage of training, with its own warm-up.
    Checkpoints are kept beside the weights every checkpoint_every steps, and an interrupted run resumes from the last.
    Errors as for `read_recipe`, `load_dataset`, `load_pretrained` and `train`.
    """
    tables, path = read_recipe(name)
    output = _weights_file(tables, path, folder)
    if tables["task"] in NEEDED:
        recipe = Recipe.from_tables(tables, path)
        if split is not None and recipe.teacher is not None:
            raise ValueError(f"{path} trains on what its teacher draws, and on no split of {recipe.dataset}.")
        recipe = replace(
            recipe,
            split=recipe.split if split is None else split,
            training=replace(recipe.training, images=recipe.training.images if images is None else images),
        )
        yield from train_diffusion(recipe, output, device, checkpoint_every, start_from)
    elif images is not None or split is not None or start_from is not None:
        raise ValueError(
            f"{path} trains a classifier, which starts anew and sees every image of the train split, epoch after epoch."
        )
    else:
        yield from run_classifier_recipe(ClassifierRecipe.from_tables(tables, path), output, device, checkpoint_every)


@typed_arguments
def weights_file(name: str | Path | RecipeFile, folder: Path = Path("runs")) -> Path:
    """The file that `run_recipe` writes. Raises ValueError for a name that is no file name; errors as `read_recipe`."""
    return _weights_file(*read_recipe(name), folder)


def _weights_file(tables: Mapping[str, Any], path: Path, folder: Path) -> Path:
    try:
        named = check_file_name(tables.get("name"), "name")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return folder / named / f"{named}.safetensors"


def train_diffusion(
    recipe: Recipe,
    output: Path,
    device: torch.device | str = "cpu",
    checkpoint_every: int = 500,
    start_from: str | Path | None = None,
) -> Iterator[Record | PairsRecord]:
    """Run a recipe: load data or draw pairs, train, write the weights, and measure the fp16 weights for the card.

    Raises ValueError for a recipe that lacks a network or a teacher; other errors as for `run_recipe`.
    """
    if is_main_process():
        check_folder(output.parent, "")  # before data is downloaded or pairs are drawn
    schedule = schedule_from_config(recipe.schedule)

    def begin(network: nn.Module, kind: str) -> dict[str, Any]:
        return {} if start_from is None else start_from_weights(start_from, network, kind, schedule)

    if recipe.teacher is not None and recipe.pairs is not None:  # the task "reflow"
        processes = Processes.here(device, recipe.training.batch_size)
        teacher = load_teacher(recipe.teacher, output.parent.parent, processes.device)
        network = copy.deepcopy(teacher.network).requires_grad_(True)
        earlier = begin(network, teacher.kind)  # a mistake shows before the pairs are drawn
        start = yield from start_from_teacher(teacher, network, recipe.pairs, output.parent / "pairs", processes)
    else:
        if recipe.network is None or recipe.kind is None:
            raise ValueError(f"{recipe.name} needs a network and a kind of prediction, or a teacher and pairs.")
        start = start_from_data(recipe.dataset, recipe.split, recipe.network, recipe.kind, recipe.training.seed)
        earlier = begin(start.network, start.kind)

    record: Record | None = None
    for record in train(
        start.network,
        start.images,
        start.labels,
        schedule,
        start.kind,
        recipe.training,
        noise=start.noise,
        class_names=start.class_names,
        device=device,
        checkpoints=output.parent / "checkpoints",
        checkpoint_every=checkpoint_every,
    ):
        yield record
    if record is None or not is_main_process():
        return

    card = {**describe_training(recipe, start.data, record, device), **earlier}
    finish(output, recipe, record.model, card, partial(measure, recipe=recipe))


def finish(
    output: Path,
    recipe: Recipe,
    trained: Model,
    card: dict[str, Any],
    measure: Callable[[Model], list[dict[str, Any]]],
) -> None:
    """Write a trained model's fp16 weights, with what `measure` finds of them as the card's "evaluation".

    trained: the model of a training's last record. output: the weight file. Raises the errors of `save_pretrained`.
    """
    network = copy.deepcopy(trained.network)  # the reader of the last record still holds the model
    round_to_fp16(network)  # so that what is measured is what the file will hold
    made = replace(
        trained,
        name=recipe.name,
        network=network,
        card=card,
        default_guidance_scale=recipe.guidance_scale,
        default_clip=recipe.clip,
    )
    card["evaluation"] = measure(made)
    save_pretrained(output, made)


def measure(model: Model, recipe: Recipe) -> list[dict[str, Any]]:
    """The results of `evaluate` at each of the recipe's evaluation settings, for a model card."""
    kept = ("n", "settings", "samples", "real", "unseen")
    found = [evaluate(model, dataset=recipe.dataset, **settings).to_dict() for settings in recipe.evaluation]
    return [{key: measured[key] for key in kept} for measured in found]


def describe_training(recipe: Recipe, data: str, record: Record, device: torch.device | str) -> dict[str, Any]:
    """The part of a model card that describes the training; it does not need the finished weights."""
    network = record.model.network
    return {
        "task": recipe.task,
        "recipe": {key: value for key, value in asdict(recipe).items() if value is not None},
        "data": data,
        "images_seen": record.images_seen,
        "steps": record.step,
        "training_loss": round(record.loss, 5),
        "seconds": round(record.seconds),
        "hardware": hardware(device, process_count()),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "parameters": count_parameters(network),
        "flops_per_image": count_flops(network),
        "limits": recipe.limits,
    }
