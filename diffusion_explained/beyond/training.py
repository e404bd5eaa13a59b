"""Train the network of a kind of data: `diffusion-explained train NAME` for a recipe of recipes/beyond/.

A recipe has the tables of the other recipes (`training.recipes`), and its data set is the kind: made by code, with the
training's seed. The same loop trains, the same checkpoints resume; only the data and the measures are the kind's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from diffusion_explained.beyond.kinds import Kind, measured
from diffusion_explained.checks import typed_arguments
from diffusion_explained.files import check_folder, shipped
from diffusion_explained.models import build_network, of_data
from diffusion_explained.models.network import NetworkModule
from diffusion_explained.noise import seeded
from diffusion_explained.schedules import schedule_from_config
from diffusion_explained.tables import read_table
from diffusion_explained.training.config import TrainConfig
from diffusion_explained.training.loop import Record, train
from diffusion_explained.training.processes import is_main_process
from diffusion_explained.training.recipes import (
    EvaluationSettings,
    Recipe,
    RecipeFile,
    describe_training,
    finish,
    read_recipe,
)


def recipe_file(kind: Kind) -> RecipeFile:
    """The shipped recipe of a kind."""
    return read_recipe(shipped("recipes") / "beyond" / f"{kind.name}.toml")


def recipe_of(kind: Kind, file: RecipeFile) -> Recipe:
    """A recipe's settings, checked. Raises ValueError, naming the file, for settings that it cannot run with."""
    try:
        config = read_table(TrainConfig, file.tables["training"], "[training]")
        others = {key: value for key, value in file.tables.items() if key != "training"}
        recipe = read_table(Recipe, others, "the recipe", training=config)
        if recipe.dataset != kind.name or recipe.network is None or recipe.kind is None:
            raise ValueError(f'the recipe of {kind.name} has dataset = "{kind.name}", a network and a kind.')
        for settings in recipe.evaluation:
            read_table(EvaluationSettings, settings, "[[evaluation]]")
    except ValueError as error:
        raise ValueError(f"{file.path}: {error}") from error
    return recipe


@typed_arguments
def train_kind(
    kind: Kind,
    recipe: Recipe,
    output: Path,
    device: torch.device | str = "cpu",
    *,
    images: int | None = None,
    checkpoint_every: int = 500,
) -> Iterator[Record]:
    """Train a kind's network, yielding records; then measure the fp16 weights, and write them with their card.

    output: the weight file; checkpoints are kept beside it. images: replaces the recipe's number of training items.
    Raises ValueError for settings that the training cannot run with; other errors as for `train`.
    """
    if recipe.network is None or recipe.kind is None:
        raise ValueError(f"{recipe.name} needs a network and a kind of prediction.")
    if is_main_process():
        check_folder(output.parent, "")  # before data is made
    config = recipe.training if images is None else replace(recipe.training, images=images)
    prediction, schedule = recipe.kind, schedule_from_config(recipe.schedule)
    of_network = of_data(recipe.network, kind.shape, len(kind.class_names))
    network = seeded(config.seed, lambda: build_network(of_network))
    if not isinstance(network, NetworkModule):
        raise ValueError(f"{recipe.name} needs a network that denoises, not a classifier.")
    data = kind.data(kind.train_size, config.seed)
    record: Record | None = None
    for record in train(
        network,
        data.x_0,
        data.labels,
        schedule,
        prediction,
        config,
        class_names=kind.class_names,
        device=device,
        checkpoints=output.parent / "checkpoints",
        checkpoint_every=checkpoint_every,
    ):
        yield record
    if record is None or not is_main_process():
        return
    made_of = f"{kind.train_size} items made by diffusion_explained.beyond with seed {config.seed}"
    card = describe_training(replace(recipe, training=config), made_of, record, device)
    finish(output, recipe, record.model, card, lambda made: [measured(kind, made, **one) for one in recipe.evaluation])
