"""Micro's own image prompt: what it reads, what it draws of a picture, and the file that diffusers reads too."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffusion_explained.measured import read_measured
from diffusion_explained.micro.emoji import load_emoji_sample
from diffusion_explained.micro.image_prompt import (
    IMAGE_PROMPT_FOLDER,
    load_micro_image_prompt,
    new_image_prompt,
    save_image_prompt,
)
from diffusion_explained.micro.made_styles import MADE
from diffusion_explained.micro.picture_features import AREAS, PictureEncoder
from diffusion_explained.micro.random_styles import FAMILIES, TESTED, is_tested, random_style
from diffusion_explained.micro.reconstruction import on_white
from diffusion_explained.micro.retrieval import embed_pictures, load_retrieval
from diffusion_explained.micro.subjects import load_subjects
from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import StableDiffusion, WeightsUnavailableError, load, load_image_prompt
from diffusion_explained.stable_diffusion.control_residuals import record_image_attention, short_name
from diffusion_explained.stable_diffusion.image_prompt_loading import FILE
from diffusion_explained.stable_diffusion.lora import BASE, identity

SETTINGS = {"num_inference_steps": 8, "guidance_scale": 4.0}


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return load_micro_image_prompt(load("micro", device="cpu", dtype=torch.float32))


@pytest.fixture(scope="module")
def held_out() -> torch.Tensor:
    """Twelve pictures of the sample that no training saw, [12, 3, 128, 128]."""
    emoji = load_emoji_sample()
    return on_white(emoji.images[emoji.held_out.nonzero().flatten()[:12]])


def test_a_picture_alone_is_drawn_again(model: StableDiffusion, held_out: torch.Tensor):
    count, retrieval = len(held_out), load_retrieval()
    own = embed_pictures(retrieval, held_out)
    hits = {}
    for scale in (0.0, 1.0):
        shown = {"image_prompt": held_out, "image_prompt_scale": scale}
        drawn = model.sample([""] * count, seed=range(count), **shown, **SETTINGS)
        nearest = (embed_pictures(retrieval, drawn) @ own.T).argmax(1)
        hits[scale] = int((nearest == torch.arange(count)).sum())
    assert hits[1.0] >= 9, hits  # 90 to 96 of 100 among 100, with 30 steps
    assert hits[0.0] <= 4, hits  # chance is one of twelve


def test_another_thing_takes_the_style_of_the_picture(model: StableDiffusion, held_out: torch.Tensor):
    """Outlines of other things: the pictures that the text names become outlines too, without colours."""
    names = ["cat", "rocket", "guitar", "umbrella"]
    shown = MADE["ink"](held_out[: len(names)])
    plain, outlines = (
        model.sample(names, seed=range(len(names)), **given, **SETTINGS) for given in ({}, {"image_prompt": shown})
    )
    colourful = [(x.amax(1) - x.amin(1)).mean().item() for x in (plain, outlines)]
    assert colourful[1] < 0.25 * colourful[0], colourful


def test_diffusers_reads_the_file_and_computes_the_same(held_out: torch.Tensor):
    model = load_micro_image_prompt(load("micro", device="cpu", dtype=torch.float32))
    (loaded,) = model.image_prompts
    start = model.prepare(0, levels=model.levels(3))
    text = model.encode_text("a cat")
    denoise = model.denoiser(text, 4.0, start=start, image_prompt=held_out[:1], image_prompt_scale=0.8)
    level = start.levels[1]
    own = denoise(start.x_t, level).eps
    other = load("micro", device="cpu", dtype=torch.float32)
    other.pipe.load_ip_adapter(str(IMAGE_PROMPT_FOLDER), subfolder="", weight_name=FILE, image_encoder_folder=None)
    other.pipe.set_ip_adapter_scale(0.8)
    embeds = loaded.encoder(held_out[:1])
    both = torch.cat([torch.zeros_like(embeds), embeds])[:, None]
    named = {"added_cond_kwargs": {"image_embeds": [both]}}
    cond, uncond = text.conditions(1)
    with torch.no_grad():
        raw = other.network(
            start.x_t.repeat(2, 1, 1, 1), model.schedule.network_time(torch.tensor([level.t])).repeat(2),
            encoder_hidden_states=torch.cat([uncond[0], cond[0]]), **named, return_dict=False,
        )[0]  # fmt: skip
    guided = raw[:1] + 4.0 * (raw[1:] - raw[:1])
    theirs = start.x_t + level.alpha * guided  # eps of the velocity v = eps - x_0: x_t + alpha v
    assert (own - theirs).abs().max() < 1e-4


def test_it_is_trained_for_this_base_and_says_so(model: StableDiffusion):
    with safe_open(IMAGE_PROMPT_FOLDER / FILE, framework="pt") as file:
        assert file.metadata()[BASE] == identity(model.network, {})
    card = json.loads((IMAGE_PROMPT_FOLDER / "image_prompt.json").read_text())
    assert card["parameters"] == sum(x.numel() for x in model.image_prompts[0].adapter.parameters())
    assert (IMAGE_PROMPT_FOLDER / FILE).stat().st_size < 4e6


def test_an_adapter_of_your_own_is_saved_loaded_and_belongs_to_its_base(model: StableDiffusion, tmp_path: Path):
    adapter, encoder = new_image_prompt(model.network, load_retrieval())
    place = save_image_prompt(tmp_path / "own", adapter, encoder, base=identity(model.network, {}))
    (loaded,) = load_micro_image_prompt(model, tmp_path / "own").image_prompts
    for name, x in adapter.state_dict().items():
        assert torch.equal(loaded.adapter.state_dict()[name], x.half().float()), name
    assert {"features.centre", "features.spread"} < load_file(place).keys()
    save_image_prompt(tmp_path / "other", adapter, encoder, base="0123456789abcdef")
    with pytest.raises(ValueError, match="was trained on the weights 0123456789abcdef"):
        load_micro_image_prompt(model, tmp_path / "other")
    with torch.no_grad():
        adapter.ip_adapter["1"].to_k_ip.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        save_image_prompt(tmp_path / "own", adapter, encoder, base="x")
    assert load_micro_image_prompt(model, tmp_path / "own").image_prompts  # the file of before is still there


def test_a_file_that_does_not_fit_is_refused_in_words(model: StableDiffusion, tmp_path: Path):
    with pytest.raises(ValueError, match="load it by load_micro_image_prompt"):
        load_image_prompt(model, IMAGE_PROMPT_FOLDER)
    with pytest.raises(WeightsUnavailableError, match="There is no file"):
        load_micro_image_prompt(model, tmp_path)
    tensors = load_file(IMAGE_PROMPT_FOLDER / FILE)
    save_file({**tensors, "features.centre": torch.zeros(17, 3)}, tmp_path / FILE)
    with pytest.raises(ValueError, match="reads other features of a picture"):
        load_micro_image_prompt(model, tmp_path)


def test_a_picture_of_another_size_is_refused(model: StableDiffusion):
    with pytest.raises(ValueError, match="A reference picture is 128 x 128 pixels; got 64 x 64: resize it"):
        model.sample("a cat", image_prompt=torch.zeros(1, 3, 64, 64))


def test_the_features_are_means_and_deviations_over_the_whole_and_its_parts(held_out: torch.Tensor):
    retrieval = load_retrieval()
    encoder = PictureEncoder(retrieval)
    features = encoder.features(held_out)
    assert features.shape == (12, AREAS, 2 * 528) and encoder.width == 2 * 528 + AREAS
    first = retrieval.image.feature_maps(held_out)[0]  # [12, 32, 64, 64]
    torch.testing.assert_close(features[:, 0, :32], first.mean((2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features[:, 0, 528:560], first.std((2, 3), correction=0), atol=1e-4, rtol=1e-3)
    second_part = first[:, :, :16, 16:32]  # row 0, column 1 of the 4 x 4 parts
    torch.testing.assert_close(features[:, 2, :32], second_part.mean((2, 3)), atol=1e-5, rtol=1e-4)
    encoder.standardise(features)
    embeds = encoder.embeds(features)
    assert embeds[..., : 2 * 528].mean(0).abs().max() < 1e-4
    assert torch.equal(embeds[3, :, 2 * 528 :], torch.eye(AREAS))


def test_a_made_up_style_is_one_rule_for_all_pictures_and_another_for_each_number(held_out: torch.Tensor):
    pictures = held_out[:4]
    drawn = [random_style(i)(pictures) for i in range(24)]
    for i, x in enumerate(drawn):
        assert x.shape == pictures.shape and -1 <= float(x.min()) and float(x.max()) <= 1
        apart = (x[2:] - random_style(i)(pictures[2:])).abs() > 1e-4  # a product of other sizes may round otherwise
        assert apart.float().mean() < 1e-3, i
        assert (x - pictures).abs().mean() > 0.005, i
    other = [not any(torch.equal(x, y) for y in drawn[:i]) for i, x in enumerate(drawn)]
    assert sum(other) >= 21  # "few levels" alone has three rules
    assert len(FAMILIES) == 11
    with pytest.raises(ValueError):
        random_style(-1)


def test_a_tenth_of_the_subjects_is_kept_out_of_the_made_up_styles():
    names = [name for group in load_subjects().values() for name in group]
    share = sum(map(is_tested, names)) / len(names)
    assert abs(share - TESTED) < 0.03, share


def test_the_measured_numbers_say_what_the_documentation_says():
    rows = read_measured("micro_image_prompt")["rows"]
    found = {
        (row["part"], row["setting"]["style"], row["setting"]["of"], row["setting"].get("scale")): row for row in rows
    }
    for style in ("fluent", "noto", "twemoji"):
        shown, alone = found["style", style, "image prompt", 1.0], found["style", style, "the text alone", None]
        assert shown["in_the_style"]["share"] > alone["in_the_style"]["share"] + 0.1
        again = found["subject", style, "image prompt alone, scale 1", None]
        assert again["same_picture"]["share"] >= 0.9
    assert found["style", "ink", "image prompt", 1.0]["in_the_style"]["share"] > 0.8
    assert found["style", "mosaic", "image prompt", 1.0]["in_the_style"]["share"] < 0.1


def test_steps_with_a_picture_are_the_samplers_steps(model: StableDiffusion, held_out: torch.Tensor):
    steps = list(model.steps("a cat", num_inference_steps=3, image_prompt=held_out[:1], seed=0))
    assert len(steps) == 3 and torch.equal(
        final(iter(steps)), final(model.steps("a cat", num_inference_steps=3, image_prompt=held_out[:1], seed=0))
    )


def test_what_the_picture_adds_is_recorded_at_each_layer_and_changes_nothing(
    model: StableDiffusion, held_out: torch.Tensor
):
    shown = {"image_prompt": held_out[:1], "num_inference_steps": 2, "seed": 0}
    plain = final(model.steps("a cat", **shown))
    with record_image_attention(model) as added:
        for step in model.steps("a cat", **shown):
            added.after(step)
    assert torch.equal(step.x_next, plain)
    maps, shares = added.maps(), added.shares()
    assert list(maps) == ["down 0.0", "down 1.0", "up 0.0", "up 0.1", "up 1.0", "up 1.1", "middle"]
    assert maps["down 0.0"].shape == (2, 16, 16) and maps["middle"].shape == (2, 8, 8) and shares.shape == (2, 7)
    with record_image_attention(model) as half:
        for step in model.steps("a cat", image_prompt_scale=0.5, **shown):
            half.after(step)
            break
    torch.testing.assert_close(half.shares()[0, 0], shares[0, 0] / 2, atol=1e-3, rtol=0.05)  # the first layer's input
    with record_image_attention(model) as nothing:
        for step in model.steps("a cat", num_inference_steps=1, seed=0):
            nothing.after(step)
    assert not nothing.shares().any()
    with (
        pytest.raises(ValueError, match="no image prompt: load one first"),
        record_image_attention(load("micro", device="cpu")),
    ):
        pass


@pytest.mark.parametrize(
    ("layer", "short"),
    [
        ("down_blocks.1.attentions.0.transformer_blocks.0.attn2", "down 1.0"),
        ("up_blocks.3.attentions.2.transformer_blocks.0.attn2", "up 3.2"),
        ("down_blocks.2.attentions.1.transformer_blocks.9.attn2", "down 2.1.9"),
        ("mid_block.attentions.0.transformer_blocks.0.attn2", "middle"),
        ("mid_block.attentions.0.transformer_blocks.4.attn2", "middle 4"),
    ],
)
def test_layers_have_names_for_people(layer: str, short: str):
    assert short_name(layer) == short
