"""The pictures that a model made: what is written is read, damage is noticed, and they say what they are."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_explained.data import DamagedDataError, ImageDataset, made, made_by_model, to_uint8
from diffusion_explained.data.hub_datasets import DATASETS
from diffusion_explained.models import UNet, UNetConfig
from diffusion_explained.pretrained import Model, load_pretrained, save_pretrained
from diffusion_explained.schedules import FlowSchedule

SCRIPT = Path(__file__).parents[1] / "recipes/cifar10_made.py"
NAMES = DATASETS["cifar10"].class_names
SMALL = UNetConfig(
    image_shape=(3, 32, 32), patch_size=4, widths=(8,), blocks=(1,), attention=(False,), embedding_width=8, head_width=8
)


@pytest.fixture
def recipe(monkeypatch):
    """The script, for two pictures a class instead of forty."""
    spec = importlib.util.spec_from_file_location("cifar10_made", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "IMAGES_PER_CLASS", 2)
    return module


@pytest.fixture
def written(recipe, tmp_path, monkeypatch) -> Path:
    """A file of 20 pictures that a small network made, where the loader looks for it."""
    torch.manual_seed(0)
    network = UNet(SMALL)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    save_pretrained(tmp_path / "small.safetensors", Model("small", network, FlowSchedule(), "flow", NAMES, {}))
    path = tmp_path / "cifar10_made.npz"
    recipe.write(path, str(tmp_path / "small.safetensors"), "cpu")
    monkeypatch.setitem(made.MADE_FILES, "cifar10", path)
    return path


def test_the_script_draws_every_class_from_the_seeds_that_it_states(written, recipe):
    dataset = made_by_model("cifar10")
    assert (dataset.name, dataset.split, dataset.class_names) == ("cifar10", "made", NAMES)
    assert dataset.images.shape == (20, 3, 32, 32) and dataset.images.dtype == torch.uint8
    assert dataset.labels.tolist() == [label for label in range(10) for _ in range(2)]
    model = load_pretrained(written.with_name("small.safetensors"))
    for i in (0, 7, 19):  # image i has seed i, whatever it was drawn beside
        alone = to_uint8(model.sample([i // 2], seed=i, **recipe.SETTINGS))[0].int()
        assert (alone - dataset.images[i].int()).abs().max() <= 1


def test_they_say_that_they_are_no_data(written):
    words = str(made_by_model("cifar10"))
    assert "cifar10 made: 20 images of 10 classes, from our own network small, which made them" in words
    assert "50 euler steps, guidance scale 2 for σ/α from 0.2 to 3)" in words
    assert words.endswith("this is not the data set cifar10")


def test_there_are_none_of_other_data_sets():
    with pytest.raises(ValueError, match=r"unknown data set with pictures made by a model 'cifar': did you mean"):
        made_by_model("cifar")


def altered(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return arrays | {"images": 255 - arrays["images"]}


def relabelled(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return arrays | {"labels": arrays["labels"][::-1]}


def nameless(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in arrays.items() if name != "about"}


@pytest.mark.parametrize("change", [altered, relabelled, nameless])
def test_what_was_changed_is_noticed(written, change):
    with np.load(written) as file:
        arrays = dict(file)
    np.savez_compressed(written, **change(arrays))
    with pytest.raises(DamagedDataError, match=r"cifar10_made\.npz is damaged.*Install the package again"):
        made_by_model("cifar10")


def test_what_is_cut_short_missing_or_of_another_shape_is_noticed(written):
    written.write_bytes(written.read_bytes()[:2000])
    with pytest.raises(DamagedDataError, match="is damaged"):
        made_by_model("cifar10")
    written.unlink()
    with pytest.raises(DamagedDataError, match="Install the package again"):
        made_by_model("cifar10")
    grey = ImageDataset(
        "cifar10", "made", torch.zeros(2, 1, 28, 28, dtype=torch.uint8), torch.tensor([0, 1]), NAMES, ""
    )
    guidance = {"guidance_scale": 1.0, "guidance_interval": [0, 1]}
    about = {"model": "small", "sampler": "euler", "num_inference_steps": 1, **guidance}
    made.write_made(written, grey, about)
    with pytest.raises(DamagedDataError, match=r"images of shape \(1, 28, 28\), not \(3, 32, 32\)"):
        made_by_model("cifar10")
