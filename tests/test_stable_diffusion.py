"""Our samplers against diffusers' own pipelines: the same latents from the same seeds, for every family.

The pipelines are stand-ins, tiny and random, written to disk and loaded from there.
"""

import inspect
from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from diffusion_explained import samplers
from diffusion_explained.noise import generators
from diffusion_explained.samplers import SAMPLERS, final
from diffusion_explained.stable_diffusion import StableDiffusion, load, save_stand_in
from diffusion_explained.stable_diffusion.preview import fit_preview

PROMPT, SIDE, STEPS = "a photo of a cat", 64, 10
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
STAND_INS = {
    "sd": {},
    "sd_v": {"prediction": "v"},
    "sd_inpaint": {"in_channels": 9},
    "sdxl": {},
    "sd3": {},
    "sd3_t5": {"t5": True},
}
SCHEDULERS = {
    "ddim": diffusers.DDIMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "dpm_solver_pp_2m": diffusers.DPMSolverMultistepScheduler,
}
GUIDANCE = {"off": (1.0, None), "7.5": (7.5, None), "negative": (7.5, "blurry")}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StableDiffusion]:
    """A model of each family, saved and loaded."""
    folder, made = tmp_path_factory.mktemp("stand_ins"), {}
    for name, options in STAND_INS.items():
        save_stand_in(folder / name, name.split("_")[0], **options)
        made[name] = load(folder / name, device="cpu")
    return made


@pytest.fixture(scope="module")
def image() -> Tensor:
    """A smooth picture [1, 3, SIDE, SIDE] in [-1, 1]."""
    small = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return torch.nn.functional.interpolate(small, size=SIDE, mode="bilinear")


@pytest.fixture(scope="module")
def mask() -> Tensor:
    """[SIDE, SIDE], 1 in the lower half: paint that anew."""
    return (torch.arange(SIDE) >= SIDE // 2).float()[:, None].expand(SIDE, SIDE)


def theirs(model: StableDiffusion, pipeline: str, sampler: str, spacing: str | None = None, **arguments: Any) -> Tensor:
    """The final latents of one of diffusers' pipelines, on two images, called as its users call it.

    Its scheduler is XScheduler.from_config(pipe.scheduler.config); a spacing is given to that.
    """
    cls, scheduler = getattr(diffusers, pipeline), model.pipe.scheduler
    if model.family.name != "sd3":
        scheduler = SCHEDULERS[sampler].from_config(
            scheduler.config, **({} if spacing is None else {"timestep_spacing": spacing})
        )
    parts = {**model.pipe.components, "scheduler": scheduler}
    takes = inspect.signature(cls.__init__).parameters
    options = {"requires_safety_checker": False} if "requires_safety_checker" in takes else {}
    pipe = cls(**{name: part for name, part in parts.items() if name in takes}, **options)
    pipe.set_progress_bar_config(disable=True)
    arguments.setdefault("generator", generators(2, seed=5))
    return pipe([PROMPT] * 2, num_inference_steps=STEPS, output_type="latent", **arguments).images


def ours(model: StableDiffusion, sampler: str, **options: Any) -> Tensor:
    return final(
        model.steps(PROMPT, sampler=sampler, num_inference_steps=STEPS, seed=5, batch_size=2, **options),
    )


# -- text to image ----------------------------------------------------------------------------------------

CASES = [(family, sampler) for family in ("sd", "sd_v", "sdxl") for sampler in SCHEDULERS] + [("sd3", "euler")]
NAMES = {"sd": "StableDiffusion", "sdxl": "StableDiffusionXL", "sd3": "StableDiffusion3"}


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize(("family", "sampler"), [*CASES, ("sd3_t5", "euler")])
def test_text_to_image_equals_diffusers(models, family, sampler, guidance):
    model, (scale, negative) = models[family], GUIDANCE[guidance]
    negatives = None if negative is None else [negative] * 2
    size = {"height": SIDE, "width": SIDE, "guidance_scale": scale}
    expected = theirs(model, NAMES[model.family.name] + "Pipeline", sampler, negative_prompt=negatives, **size)
    torch.testing.assert_close(ours(model, sampler, negative=negative, **size), expected, **CLOSE)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_a_given_spacing_equals_diffusers(models, sampler, spacing):
    """DDIM of diffusers steps to t - T // n, which is no timestep that it visits for "linspace": not compared."""
    if (sampler, spacing) == ("ddim", "linspace"):
        pytest.skip("diffusers' DDIM does not go to its own next timestep there")
    model, size = models["sd"], {"height": SIDE, "width": SIDE, "guidance_scale": 7.5}
    expected = theirs(model, "StableDiffusionPipeline", sampler, spacing, **size)
    torch.testing.assert_close(ours(model, sampler, spacing=spacing, **size), expected, **CLOSE)


def test_thirty_steps_of_stable_diffusions_default(models):
    """The configuration that the model ships with, at the number of steps that people use."""
    model = models["sd"]
    levels = model.levels(30)
    scheduler = diffusers.DDIMScheduler.from_config(model.pipe.scheduler.config)
    scheduler.set_timesteps(30)
    assert [level.t for level in levels[:-1]] == scheduler.timesteps.tolist()
    assert levels[-1].alpha == pytest.approx(float(scheduler.final_alpha_cumprod) ** 0.5)
    assert levels[-1].sigma > 0  # set_alpha_to_one is false
    assert model.levels(30, "euler")[-1].sigma == 0


def test_flow_levels_are_the_pipelines_or_even(models):
    """diffusers' default for Stable Diffusion 3 shifts its last time twice; "trailing" is even before the shift."""
    model = models["sd3"]
    scheduler = model.pipe.scheduler
    scheduler.set_timesteps(STEPS)
    np.testing.assert_allclose([level.sigma for level in model.levels(STEPS)], scheduler.sigmas.numpy(), atol=1e-6)
    assert model.levels(STEPS)[-2].sigma < 0.01
    assert model.levels(STEPS, spacing="trailing")[-2].sigma == pytest.approx(3 / STEPS / (1 + 2 / STEPS))


# -- image to image, and inpainting -----------------------------------------------------------------------
# diffusers is given the image twice: it encodes one image with the first seed only, so that the second picture would
# depend on the first one's seed. And it takes pictures in [0, 1].


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize(("family", "sampler"), CASES)
def test_image_to_image_equals_diffusers(models, image, family, sampler, strength):
    model = models[family]
    options = {"image": image, "strength": strength, "guidance_scale": 7.5}
    twice = {**options, "image": (image / 2 + 0.5).expand(2, -1, -1, -1)}
    if family == "sd3":
        twice |= {"height": SIDE, "width": SIDE}  # it would scale the picture up to its own size
    expected = theirs(model, NAMES[model.family.name] + "Img2ImgPipeline", sampler, **twice)
    torch.testing.assert_close(ours(model, sampler, **options), expected, **CLOSE)


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize(("family", "sampler"), CASES)
def test_inpainting_equals_diffusers(models, image, mask, family, sampler, strength):
    """Given masked_image_latents, diffusers does not draw for them: its 4-channel way has no use for them."""
    model = models[family]
    options = {"image": image, "strength": strength, "guidance_scale": 7.5}
    unused = torch.zeros(1, model.latent_shape()[0], SIDE // 8, SIDE // 8)
    twice = {**options, "image": (image / 2 + 0.5).expand(2, -1, -1, -1), "mask_image": mask[None, None]}
    expected = theirs(
        model, NAMES[model.family.name] + "InpaintPipeline", sampler, height=SIDE, width=SIDE,
        masked_image_latents=unused, **twice,
    )  # fmt: skip
    torch.testing.assert_close(ours(model, sampler, mask=mask, **options), expected, **CLOSE)


@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_a_network_trained_to_inpaint_equals_diffusers(models, image, mask, sampler):
    model = models["sd_inpaint"]
    options = {"image": image, "guidance_scale": 7.5}
    twice = {**options, "image": (image / 2 + 0.5).expand(2, -1, -1, -1), "mask_image": mask[None, None]}
    expected = theirs(model, "StableDiffusionInpaintPipeline", sampler, height=SIDE, width=SIDE, strength=1.0, **twice)
    torch.testing.assert_close(ours(model, sampler, mask=mask, **options), expected, **CLOSE)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_inpainting_keeps_what_is_known_with_every_sampler(models, image, mask, sampler):
    model = models["sd"]
    steps = list(
        model.steps(PROMPT, image=image, mask=mask, sampler=sampler, num_inference_steps=6, seed=1, guidance_scale=3.0)
    )
    kept = model.encode(image)
    upper, lower = (..., slice(0, SIDE // 16), slice(None)), (..., slice(SIDE // 16, None), slice(None))
    # the encoder's draw differs from its mean by its own small spread
    assert (steps[-1].x_next - kept)[upper].abs().max() < 6 * model.pipe.vae.config.scaling_factor
    assert torch.equal(steps[-1].x_next[upper], steps[0].pred.x_0[upper])
    assert (steps[-1].x_next - kept)[lower].abs().max() > 0.1
    for step in steps:
        known = step.pred.x_0[upper], step.pred.eps[upper]
        assert torch.equal(known[0], steps[0].pred.x_0[upper]) and torch.equal(known[1], steps[0].pred.eps[upper])


# -- seeds and steps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", STAND_INS)
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "euler_ancestral"])
def test_a_seed_is_the_same_picture_in_any_batch(models, image, mask, family, sampler):
    model = models[family]
    given = {"image": image, "mask": mask} if family == "sd_inpaint" else {"height": SIDE, "width": SIDE}

    def run(**options):
        return final(model.steps(PROMPT, sampler=sampler, num_inference_steps=4, **given, **options))

    alone = run(seed=12)
    torch.testing.assert_close(run(seed=10, batch_size=4)[2:3], alone, **CLOSE)
    torch.testing.assert_close(run(seed=[7, 12])[1:], alone, **CLOSE)
    assert (run(seed=13) - alone).abs().max() > 0.1


def test_the_stages_by_hand_are_the_whole(models):
    """What the documentation shows: text, start, denoiser, a sampler of `samplers`, and the decoder."""
    model = models["sd"]
    text = model.encode_text(PROMPT, negative="blurry")
    start = model.prepare([3, 4], levels=model.levels(5), height=SIDE, width=SIDE)
    denoise = model.denoiser(text, guidance_scale=4.0, start=start)
    steps = list(samplers.ddim(denoise, start.x_t, start.levels))
    options = {"negative": "blurry", "guidance_scale": 4.0, "num_inference_steps": 5, "height": SIDE, "width": SIDE}
    images = model.sample(PROMPT, seed=[3, 4], **options)
    assert torch.equal(model.decode(steps[-1].x_next), images)
    assert images.shape == (2, 3, SIDE, SIDE) and images.dtype == torch.float32 and bool((images.abs() <= 1).all())
    for step in steps:
        assert step.x_t.dtype == torch.float32 and step.pred.eps_uncond.shape == (2, 4, SIDE // 8, SIDE // 8)
        x_t = step.level.alpha * step.pred.x_0 + step.level.sigma * step.pred.eps
        torch.testing.assert_close(x_t, step.x_t, rtol=1e-4, atol=1e-4)
        assert model.decode(step.pred.x_0).shape == (2, 3, SIDE, SIDE)


def test_guidance_is_one_batch_of_both_sides(models):
    model, sizes = models["sd"], []

    def seen(x, **named):
        sizes.append(len(x))
        return model.network(x, **named)

    counted = replace(model, call=seen)
    options = {"num_inference_steps": 3, "batch_size": 2, "height": SIDE, "width": SIDE}
    assert [step.pred.eps_uncond is None for step in counted.steps(PROMPT, guidance_scale=1, **options)] == [True] * 3
    assert [step.pred.eps_uncond is None for step in counted.steps(PROMPT, guidance_scale=2, **options)] == [False] * 3
    assert sizes == [2] * 3 + [4] * 3


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_the_condition_is_what_the_text_encoders_gave(models, name):
    """The network reads the embeddings of `Text`, the negative prompt's before the prompt's."""
    model, given = models[name], []

    def seen(x, **named):
        given.append(named)
        return model.network(x, **named)

    text = model.encode_text(["a cat", "a castle"], "red")
    start = model.prepare(0, 2, height=SIDE, width=SIDE)
    replace(model, call=seen).denoiser(text, 5.0, start=start)(start.x_t, start.levels[0])
    read = given[0]
    assert torch.equal(read["encoder_hidden_states"], torch.cat([text.negative_embeds.expand(2, -1, -1), text.embeds]))
    if name == "sdxl":
        pooled = torch.cat([text.negative_pooled.expand(2, -1), text.pooled])
        assert torch.equal(read["added_cond_kwargs"]["text_embeds"], pooled)


def test_prompts_one_per_image(models):
    model = models["sd"]
    options = {"num_inference_steps": 3, "height": SIDE, "width": SIDE, "guidance_scale": 7.5}
    both = final(model.steps(["a cat", "a castle"], negative=["blurry", "red"], seed=2, **options))
    second = final(model.steps("a castle", negative="red", seed=3, **options))
    torch.testing.assert_close(both[1:], second, **CLOSE)


def test_encoding_is_the_inverse_that_the_autoencoder_allows(models, image):
    model = models["sd"]
    latents = model.encode(image)
    assert latents.shape == (1, 4, SIDE // 8, SIDE // 8)
    scaling = model.pipe.vae.config.scaling_factor
    with torch.no_grad():
        expected = model.pipe.vae.encode(image).latent_dist.mean * scaling
        decoded = model.pipe.vae.decode(expected / scaling).sample.clamp(-1, 1)
    assert torch.equal(latents, expected)
    torch.testing.assert_close(model.decode(latents), decoded, rtol=1e-5, atol=1e-5)


def test_preview_finds_a_decoder_that_is_linear():
    matrix = torch.tensor([[0.2, -0.1, 0.0, 0.1], [0.0, 0.3, 0.1, 0.0], [0.1, 0.0, -0.2, 0.1]])

    def colours(z: Tensor) -> Tensor:
        return (torch.einsum("oc,bchw->bohw", matrix, z) + 0.1).clamp(-1, 1)

    def decode(z: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(colours(z), scale_factor=8)

    latents = 0.5 * torch.randn(2, 4, 5, 7, generator=torch.Generator().manual_seed(4))
    shown = fit_preview(decode, 4, torch.device("cpu"))(latents)
    torch.testing.assert_close(shown, colours(latents), rtol=0.02, atol=0.02)


def test_preview_of_a_model_is_an_eighth_of_its_picture(models):
    latents = models["sd3"].prepare(8, 2, height=SIDE, width=2 * SIDE).x_t
    assert models["sd3"].preview(latents).shape == (2, 3, SIDE // 8, SIDE // 4)
