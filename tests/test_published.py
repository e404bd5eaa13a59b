"""Published models, called as their cards say: the latents of diffusers' own pipeline, or a refusal in words."""

import functools
import inspect
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import published
import pytest
import torch
from torch import Tensor

from diffusion_explained.noise import generators
from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import StableDiffusion, configurations, find_weights, listing, load
from diffusion_explained.stable_diffusion import latents as autoencoder
from diffusion_explained.stable_diffusion.levels import schedule_of

PROMPT, SIDE = "a photo of a cat", 64
REFUSED = {"lcm_dreamshaper": "a latent consistency model in a pipeline of its own, which is not supported"}
CARDS = [(name, number) for name in published.NAMES for number in range(len(published.read(name)["cards"]))]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every published model, tiny, on disk."""
    home = tmp_path_factory.mktemp("published")
    return {name: published.write(name, home / name) for name in published.NAMES}


def their_pipeline(folder: Path) -> Any:
    """diffusers' pipeline as a user loads it."""
    options = {"text_encoder_3": None, "tokenizer_3": None} if (folder / "transformer").is_dir() else {}
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def loaded(folders: dict[str, Path]) -> Callable[[str], StableDiffusion]:
    """loaded(name): the published model as we read it, once for all tests; a run changes nothing of it."""
    return functools.cache(lambda name: load(folders[name], device="cpu"))


@pytest.fixture(scope="module")
def pipes(folders: dict[str, Path]) -> Callable[..., Any]:
    """pipes(name, scheduler): diffusers' pipeline, read once; its scheduler keeps state: each call makes one anew."""

    @functools.cache
    def read(name: str) -> tuple[Any, Any]:
        pipe = their_pipeline(folders[name])
        return pipe, pipe.scheduler

    def pipe(name: str, scheduler: str | None = None) -> Any:
        pipe, own = read(name)
        kind = type(own) if scheduler is None else getattr(diffusers, scheduler)
        pipe.scheduler = kind.from_config(own.config)
        return pipe

    return pipe


def theirs(pipe: Any, steps: int, **options: Any) -> Tensor:
    return pipe(
        [PROMPT] * 2, num_inference_steps=steps, height=SIDE, width=SIDE, generator=generators(2, seed=5),
        output_type="latent", **options,
    ).images  # fmt: skip


def ours(model: StableDiffusion, sampler: str | None, steps: int, **options: Any) -> Tensor:
    run = model.steps(
        PROMPT, sampler=sampler, num_inference_steps=steps, seed=5, batch_size=2, height=SIDE, width=SIDE, **options
    )
    return final(run)


def as_here(guidance_scale: float) -> float:
    """A card's guidance scale in our convention: diffusers' "off" is every scale up to 1, and ours is 1."""
    return max(1.0, guidance_scale)


@pytest.mark.parametrize("guidance", ["card", "off", "negative"])
@pytest.mark.parametrize(("name", "number"), CARDS)
def test_a_published_model_is_driven_as_diffusers_drives_it_or_refused(loaded, pipes, name, number, guidance):
    card = published.read(name)["cards"][number]
    scale = {"card": card["guidance_scale"], "off": 1.0, "negative": max(card["guidance_scale"], 2.0)}[guidance]
    words = {"negative": "blurry"} if guidance == "negative" else {}
    # as many steps as the card says for a model's own scheduler; what differs is seen at the first steps
    most = card["steps"] if guidance == "card" and number == 0 else 8 if guidance == "card" else 3
    steps = min(card["steps"], most)
    try:
        model = loaded(name)
        got = ours(model, card["sampler"], steps, guidance_scale=as_here(scale), **words)
    except ValueError as error:
        assert REFUSED.get(name) and REFUSED[name] in str(error)
        return
    assert name not in REFUSED
    negatives = {"negative_prompt": ["blurry"] * 2} if words else {}
    expected = theirs(pipes(name, card["scheduler"]), steps, guidance_scale=scale, **negatives)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in published.NAMES if name not in REFUSED])
def test_latents_are_decoded_as_diffusers_decodes_them(loaded, pipes, name):
    """Playground's latents_mean and latents_std, Stable Diffusion 3's shift_factor, and everybody's scaling_factor."""
    pipe, model = pipes(name), loaded(name)
    latents = theirs(pipe, 2, guidance_scale=1.0)
    seeds = {"generator": generators(2, seed=5), "height": SIDE, "width": SIDE, "num_inference_steps": 2}
    expected = pipe([PROMPT] * 2, guidance_scale=1.0, output_type="pt", **seeds).images
    torch.testing.assert_close(model.decode(latents) / 2 + 0.5, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["playground_v25", "sdxl", "sd3"])
def test_a_picture_is_encoded_as_diffusers_image_to_image_encodes_it(loaded, pipes, name):
    model = loaded(name)
    image = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    kind = "StableDiffusion3Img2ImgPipeline" if name == "sd3" else "StableDiffusionXLImg2ImgPipeline"
    pipe = getattr(diffusers, kind).from_pipe(pipes(name), torch_dtype=torch.float32)
    given = {"batch_size": 2, "num_images_per_prompt": 1, "dtype": torch.float32, "device": torch.device("cpu")}
    if name == "sd3":
        pipe.scheduler.set_timesteps(4)
        level = torch.full((2,), float(pipe.scheduler.timesteps[-1]))  # almost clean; its noise is taken off below
        noisy = pipe.prepare_latents(image, level, generator=generators(2, 5), **given)
        sigma, streams = float(pipe.scheduler.sigmas[3]), generators(2, 5)
        ours = autoencoder.encode(model.pipe.vae, model.device, image, streams)
        eps = torch.stack([torch.randn(ours.shape[1:], generator=stream) for stream in streams])
        torch.testing.assert_close((1 - sigma) * ours + sigma * eps, noisy, rtol=1e-4, atol=1e-4)
        return
    expected = pipe.prepare_latents(image, None, generator=generators(2, 5), add_noise=False, **given)
    ours = autoencoder.encode(model.pipe.vae, model.device, image, generators(2, 5))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_card_that_says_guidance_0_means_off_which_is_1_here(loaded):
    """diffusers: off up to 1; here 0 is the negative side alone, and a warning says how a card's 0.0 is written."""
    model = loaded("sdxl_turbo")
    off, one = ours(model, None, 1, guidance_scale=1.0), ours(model, None, 1, guidance_scale=as_here(0.0))
    assert torch.equal(off, one)
    with pytest.warns(UserWarning, match=r"card says 0\.0 for no guidance, give 1"):
        zero = ours(model, None, 1, guidance_scale=0.0)
    assert (zero - off).abs().max() > 1e-3


@pytest.mark.parametrize("width", [16, 15])
@pytest.mark.parametrize("scale", [1.0, 4.0, 8.0])
def test_a_network_that_takes_the_guidance_scale_as_an_input(tmp_path, scale, width):
    """A latent consistency model in the form of Stable Diffusion: one pass, the scale embedded, no negative side."""
    index = {"_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "DDIMScheduler"]}
    scheduler = published.read("sd21_v")["scheduler"] | {"prediction_type": "epsilon"}
    folder = published.write(
        "lcm_dreamshaper", tmp_path, model_index=index, scheduler=scheduler, unet={"time_cond_proj_dim": width}
    )
    model = load(folder, device="cpu")
    pipe = their_pipeline(folder)
    got = ours(model, "ddim", 4, guidance_scale=scale)
    torch.testing.assert_close(got, theirs(pipe, 4, guidance_scale=scale), rtol=1e-4, atol=1e-4)
    if scale > 1:
        assert (got - ours(model, "ddim", 4, guidance_scale=1.0)).abs().max() > 1e-3
    steps = list(model.steps(PROMPT, sampler="ddim", num_inference_steps=2, guidance_scale=scale, height=64, width=64))
    assert all(step.pred.eps_uncond is None for step in steps)
    for options in ({"negative": "blurry"}, {"guidance_interval": (0.2, 3.0)}, {"guidance_rescale": 0.5}):
        with pytest.raises(ValueError, match="takes the guidance scale as an input"):
            ours(model, "ddim", 4, guidance_scale=scale, **options)


def test_a_tiny_autoencoder_names_its_latents_and_draws_nothing(tmp_path):
    """AutoencoderTiny (taesd) has no distribution to draw from."""
    folder = published.write("sd21_v", tmp_path)
    tiny = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1), scaling_factor=0.7,
    )  # fmt: skip
    shutil.rmtree(folder / "vae")
    tiny.save_pretrained(folder / "vae")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "vae": ["diffusers", "AutoencoderTiny"]}))
    model = load(folder, device="cpu")
    image = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    torch.testing.assert_close(model.encode(image), tiny.encode(image).latents.detach() * 0.7)
    pipe = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        [PROMPT] * 2, image=image / 2 + 0.5, strength=0.5, num_inference_steps=4, generator=generators(2, seed=5),
        output_type="latent",
    ).images  # fmt: skip
    got = final(model.steps(PROMPT, image=image, strength=0.5, num_inference_steps=4, seed=5, batch_size=2))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("said", "size"), [(12, (96, 96)), ([8, 12], (64, 96)), (None, None)])
def test_the_size_that_is_drawn_is_the_networks_own(tmp_path, said, size):
    model = load(published.write("sd21_v", tmp_path, unet={"sample_size": said}), device="cpu")
    if size is None:
        with pytest.raises(ValueError, match="give height and width"):
            model.prepare()
        assert model.prepare(height=64, width=64).x_t.shape == (1, 4, 8, 8)
        return
    pipe = their_pipeline(tmp_path)
    expected = pipe(PROMPT, num_inference_steps=2, generator=generators(1, 5), output_type="latent").images
    assert model.trained_size == size
    got = final(model.steps(PROMPT, num_inference_steps=2, guidance_scale=7.5, seed=5))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


# -- refused by name --------------------------------------------------------------------------------------

CHANGES: list[tuple[str, str, dict[str, Any], str]] = [
    ("sd15", "vae", {"latents_mean": [0.1] * 4, "latents_std": [1.0] * 4}, "latents_mean"),
    ("sd15", "vae", {"shift_factor": 0.1}, "shift_factor"),
    ("sdxl", "vae", {"shift_factor": 0.1}, "shift_factor"),
    ("sdxl", "vae", {"latents_mean": [0.1] * 4}, "one of latents_mean and latents_std"),
    ("sdxl", "vae", {"latents_mean": [0.1] * 4, "latents_std": [0.0] * 4}, "latents_std"),
    ("sdxl", "vae", {"latents_mean": [0.1] * 3, "latents_std": [1.0] * 3}, "4 numbers each"),
    ("sd3", "vae", {"shift_factor": None}, "shift_factor"),
    ("sd3", "vae", {"shift_factor": float("nan")}, "a finite number"),
    ("sd15", "vae", {"scaling_factor": 0}, "a positive number"),
    ("sd15", "vae", {"scaling_factor": "0.18215"}, "a positive number"),
    ("sd15", "vae", {"scale_factor": 0.2}, "scale_factor"),
    ("sd15", "unet", {"class_embed_type": "timestep"}, "class_embed_type"),
    ("sd15", "unet", {"num_class_embeds": 10}, "num_class_embeds"),
    ("sd15", "unet", {"encoder_hid_dim_type": "image_proj", "encoder_hid_dim": 32}, "encoder_hid_dim_type"),
    ("sd15", "unet", {"addition_embed_type": "text_time"}, "addition_embed_type"),
    ("sdxl", "unet", {"addition_embed_type": "image"}, "addition_embed_type"),
    ("sdxl", "unet", {"addition_embed_type": None}, "addition_embed_type"),
    ("sd15", "unet", {"dual_cross_attention": True}, "dual_cross_attention"),
    ("sd15", "unet", {"attention_type": "gated"}, "attention_type"),
    ("sd15", "unet", {"some_new_key": 3}, "some_new_key"),
    ("sd15", "unet", {"quantization_config": {"bits": 4}}, "quantization_config"),
    ("sd15", "unet", {"in_channels": 8}, "in_channels 8"),
    ("sd15", "unet", {"in_channels": 9}, "in_channels 9"),
    ("sd15", "unet", {"out_channels": 8}, "out_channels 8"),
    ("sd15", "unet", {"sample_size": "64"}, "sample_size"),
    ("sd15", "unet", {"layers_per_block": 1_000_000}, "layers_per_block"),
    ("sd15", "unet", {"cross_attention_dim": 64}, "cross_attention_dim"),
    ("sdxl", "unet", {"projection_class_embeddings_input_dim": 72}, "refiner"),
    ("sd3", "transformer", {"num_layers": 1_000_000}, "num_layers"),
    ("sd3", "transformer", {"pooled_projection_dim": 96}, "pooled_projection_dim"),
    ("sd35_medium", "transformer", {"qk_norm": "sideways"}, "qk_norm"),
    ("sdxl", "model_index", {"requires_aesthetics_score": True}, "requires_aesthetics_score"),
    ("sdxl", "model_index", {"is_turbo": True}, "is_turbo"),
    ("sd15", "model_index", {"vae": ["diffusers", "AutoencoderKLWan"]}, "AutoencoderKLWan"),
    ("sd15", "model_index", {"unet": ["diffusers", "UNet3DConditionModel"]}, "UNet3DConditionModel"),
    ("sd15", "model_index", {"vae": [None, None]}, "lists no vae"),
    ("sd15", "model_index", {"controlnet": ["diffusers", "ControlNetModel"]}, "controlnet"),
]


@pytest.mark.parametrize(("name", "part", "change", "words"), CHANGES)
def test_what_is_not_driven_is_refused_by_name_before_any_weights_are_read(
    folders, tmp_path, name, part, change, words
):
    folder = shutil.copytree(folders[name], tmp_path / name)
    path = folder / ("model_index.json" if part == "model_index" else f"{part}/config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        find_weights(folder)
    assert len(str(caught.value)) < 600


def test_the_tables_hold_every_key_of_diffusers_own_classes():
    """A new version of diffusers with a new key is noticed here, before a model has it."""
    for family in ("sd", "sdxl", "sd3"):
        for part, classes in configurations.tables_of(family).items():
            for name, table in classes.items():
                if hasattr(diffusers, name):
                    keys = set(inspect.signature(getattr(diffusers, name).__init__).parameters) - {"self"}
                    assert keys <= set(table), (part, name, keys - set(table))


GARBAGE = [
    None, True, 0, -1, 10**30, 10**400, 1e308, math.nan, -math.inf, "text", [], [None], [10**30], {"a": 1},
    [0.5] * 1000, functools.reduce(lambda inner, _: [inner], range(60), []),
]  # fmt: skip


@pytest.mark.parametrize("name", ["sd15", "cosxl", "sdxl_v_zero_snr", "sd35_medium"])
def test_whatever_a_configuration_says_is_answered_in_words(name):
    """Each key of each file in turn: what is not understood is a ValueError of a few lines, and nothing else."""
    facts = published.read(name)
    extra = ("_class_name", "unknown", "shift", "trained_betas", "use_karras_sigmas", "sigma_min")
    refused = 0
    for part in ("model_index", "unet", "vae", "transformer", "scheduler"):
        for key in (*facts.get(part, ()), *extra):
            for value in GARBAGE if part in facts else ():
                changed = {**facts, part: {**facts[part], key: value}}
                try:
                    check_configurations(changed)
                except ValueError as error:
                    refused += 1
                    assert len(str(error)) < 1000 or part == "model_index", (part, key, value)
    check_configurations(facts)
    assert refused > 500


def check_configurations(facts: dict[str, Any]) -> None:
    """Check a folder's configurations, with text encoders that fit."""
    found = listing.listing_of(facts["model_index"], "the folder")
    widths = {"sd": (768, 0), "sdxl": (768, 1280), "sd3": (768, 1280)}[found.family.name]
    parts = {part: facts[part] for part in ("unet", "vae", "transformer") if part in facts}
    for part, width in zip(("text_encoder", "text_encoder_2"), widths, strict=True):
        if width:
            parts[part] = {"hidden_size": width, "projection_dim": width}
    listing.check_configurations(found, parts, facts["scheduler"], "the folder")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_train_timesteps", 10**30), ("num_train_timesteps", 999.5), ("num_train_timesteps", None),
        ("beta_end", math.nan), ("beta_end", None), ("beta_start", 10**30), ("steps_offset", math.inf),
        ("trained_betas", True), ("trained_betas", [None]), ("trained_betas", [10**30]), ("trained_betas", []),
    ],
)  # fmt: skip
def test_a_schedulers_number_is_a_number(key, value):
    config = {**published.read("sd15")["scheduler"], key: value}
    with pytest.raises(ValueError, match=rf"PNDMScheduler, sets {key} to "):
        schedule_of(config)
