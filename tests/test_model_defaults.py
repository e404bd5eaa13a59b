"""A model's default settings are its own: from its files, from its card, and the same from each door."""

import inspect
import json
from importlib.util import find_spec

import diffusers
import published
import pytest
import torch

from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import find_weights, load, save_stand_in, stand_in
from diffusion_explained.stable_diffusion.defaults import (
    OFF,
    SEEN_LATER,
    Defaults,
    defaults_of,
    defaults_of_name,
    defaults_of_weights,
    fewer_pixels,
)
from diffusion_explained.stable_diffusion.families import DRIVEN, FAMILIES, MICRO, SIZES_GB, family_of_pipeline

OF_FILES = {  # (height, steps, guidance scale, sampler) where a folder's name says nothing
    "sd15": (512, 30, 7.5, "ddim"),
    "sd21_base": (512, 30, 7.5, "ddim"),
    "sd21_v": (768, 30, 7.5, "ddim"),
    "sd_turbo": (512, 1, OFF, "euler"),
    "sdxl": (1024, 30, 5.0, "euler"),
    "sdxl_turbo": (512, 1, OFF, "euler_ancestral"),
    "sdxl_v_zero_snr": (1024, 30, 5.0, "euler"),
    "playground_v25": (1024, 50, 3.0, "dpm_solver_pp_2m"),
    "sd3": (1024, 28, 7.0, "euler"),
    "sd35_medium": (1024, 40, 4.5, "euler"),
}


def of_files(name: str, called: str = "model", **scheduler: object) -> Defaults:
    facts = published.read(name)
    family = family_of_pipeline(facts["model_index"]["_class_name"])
    index = facts["model_index"]
    return defaults_of(called, family, facts[family.network], facts["vae"], facts["scheduler"] | scheduler, index)


@pytest.mark.parametrize("name", OF_FILES)
def test_published_files_give_the_settings_of_their_card(name):
    found, card = of_files(name), published.read(name)["cards"][0]
    assert (found.size[0], found.num_inference_steps, found.guidance_scale, found.sampler) == OF_FILES[name]
    assert found.spacing is None, "its own scheduler has the right one"
    if name not in ("sd15", "sd21_base", "sd21_v", "sdxl", "sdxl_v_zero_snr"):  # whose cards leave the steps open
        assert (found.num_inference_steps, found.guidance_scale) == (card["steps"], max(1.0, card["guidance_scale"]))


@pytest.mark.parametrize(
    ("of", "called", "expected"),
    [
        ("sdxl", "sdxl_lightning_8step", (8, OFF, "euler", "trailing")),
        ("sdxl", "/models/JuggernautXL_v9_Lightning", (4, OFF, "euler", "trailing")),
        ("sdxl", "sd_xl_turbo_1.0_fp16", (1, OFF, "euler_ancestral", "trailing")),
        ("sd15", "Hyper-SD15-8steps", (8, OFF, "ddim", "trailing")),
        ("sd15", "someone/lcm-dreamshaper", (4, OFF, "ddim", "trailing")),
        ("sd3", "stabilityai/stable-diffusion-3.5-large-turbo", (4, OFF, "euler", None)),
        ("sdxl", "/hub/models--stabilityai--sdxl-turbo/snapshots/0a1b", (1, OFF, "euler_ancestral", "trailing")),
        ("sd15", "HyperRealism_v3", (30, 7.5, "ddim", None)),
        ("sdxl", "landscapes_30steps", (30, 5.0, "euler", None)),
        ("sdxl", "/lightning/sd_xl_base_1.0", (30, 5.0, "euler", None)),
    ],
)
def test_the_name_of_a_distilled_model_says_how_it_is_used(of, called, expected):
    found = of_files(of, called)
    assert (found.num_inference_steps, found.guidance_scale, found.sampler, found.spacing) == expected


def test_a_trailing_scheduler_alone_makes_no_turbo():
    assert of_files("sdxl", timestep_spacing="trailing").num_inference_steps == 30
    assert of_files("sd21_base", timestep_spacing="trailing").num_inference_steps == 30


def test_each_familys_number_of_steps_is_that_of_diffusers_pipeline():
    for family in (FAMILIES["sd3"], *DRIVEN.values()):
        if family.drive is not None and not all(map(find_spec, family.drive.needs)):
            continue
        call = inspect.signature(getattr(diffusers, family.pipelines[0]).__call__).parameters
        assert family.num_inference_steps == call["num_inference_steps"].default, family.name


def test_python_draws_with_the_defaults_of_the_files(tmp_path):
    """A Turbo, told by its files: one step at its own size, sampler and levels, without guidance."""
    folder = published.write("sdxl_turbo", tmp_path / "model", unet={"cross_attention_dim": 64})
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder.parent / "sdxl-turbo").symlink_to(folder)
    model = load(tmp_path / "sdxl-turbo", device="cpu")
    assert config["cross_attention_dim"] == 64  # too narrow to be told by its files: by its name
    found = defaults_of_weights(find_weights(tmp_path / "sdxl-turbo"))
    assert model.defaults == found and model.default_size == 512
    got = final(model.steps("a cat", seed=3, height=64, width=64))
    options = {"sampler": "euler_ancestral", "spacing": "trailing", "guidance_scale": 1.0, "num_inference_steps": 1}
    assert torch.equal(got, final(model.steps("a cat", seed=3, height=64, width=64, **options)))


def test_a_distilled_models_spacing_replaces_its_schedulers(tmp_path):
    model = load(save_stand_in(tmp_path / "sdxl_lightning_4step", "sdxl"), device="cpu")
    assert model.scheduler_config["timestep_spacing"] == "leading" and model.default_spacing == "trailing"
    assert model.levels() == model.levels(4, "euler", "trailing") != model.levels(4, "euler", "leading")
    size = {"height": 64, "width": 64}
    assert torch.equal(model.prepare(1, **size).x_t, model.prepare(1, sampler="euler", spacing="trailing", **size).x_t)
    assert model.prepare(1, spacing="leading", **size).levels == model.levels(spacing="leading")


def test_a_stand_in_has_its_familys_defaults():
    model = stand_in("sd3")
    assert (model.default_num_inference_steps, model.default_guidance_scale, model.default_size) == (28, 7.0, 1024)


def test_models_that_are_not_here_have_the_defaults_that_they_will_have():
    assert set(SEEN_LATER) == set(SIZES_GB)
    of = ("sd15", "sd21_v", "sdxl", "sd3", "sd35_medium")
    for name, files in zip(SEEN_LATER, of, strict=True):
        assert defaults_of_name(name) == of_files(files, name), name
    assert defaults_of_name("stabilityai/sd-turbo").num_inference_steps == 1


def test_micro_and_a_smaller_picture_for_a_slow_machine():
    micro = defaults_of_weights(find_weights(MICRO))
    assert micro == Defaults((128, 128), 30, 4.0, "euler", None, "a blue cat")
    assert fewer_pixels(micro, 256, 12).size == (128, 128)
    assert fewer_pixels(Defaults((1024, 704), 4, 1.0, "euler"), 256, 12) == Defaults((256, 128), 4, 1.0, "euler")
    assert fewer_pixels(Defaults(None, 30, 1.0, "euler"), 2048, 30).size == (512, 512)
