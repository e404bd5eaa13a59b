"""The refiner of Stable Diffusion XL: diffusers' own two pipelines end in the same latents, and so does each alone."""

import copy
import functools

import diffusers
import pytest
import torch
from test_cli import assert_refused, run

from diffusion_explained.forward import add_noise
from diffusion_explained.noise import generators
from diffusion_explained.samplers import euler, final
from diffusion_explained.stable_diffusion import Trace, find_weights, load, save_stand_in, stand_in, stand_ins
from diffusion_explained.stable_diffusion.families import REFINER, family_of_pipeline
from diffusion_explained.stable_diffusion.loading import of_pipeline

PROMPT, SIZE, STEPS, START = "a photo of a cat", {"height": 64, "width": 64}, 10, 0.75
THEIRS = {"euler": "EulerDiscreteScheduler", "dpm_solver_pp_2m": "DPMSolverMultistepScheduler",
          "euler_ancestral": "EulerAncestralDiscreteScheduler"}  # fmt: skip


@functools.cache
def pipe_of_refiner():
    """A pipeline of diffusers of the refiner's kind: one text encoder, five numbers beside the text."""
    base = stand_in("sdxl", device="cpu").pipe
    with torch.random.fork_rng():
        torch.manual_seed(7)
        config = {**base.unet.config, "cross_attention_dim": 32, "projection_class_embeddings_input_dim": 5 * 8 + 32}
        unet = diffusers.UNet2DConditionModel.from_config(config)
        encoder = stand_ins._clip(base.tokenizer_2, projection=32)
    return diffusers.StableDiffusionXLImg2ImgPipeline(
        vae=base.vae, text_encoder=None, tokenizer=None, text_encoder_2=encoder, tokenizer_2=base.tokenizer_2,
        unet=unet, scheduler=base.scheduler, requires_aesthetics_score=True, force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def models():
    pipe = pipe_of_refiner()
    return stand_in("sdxl", device="cpu"), of_pipeline(pipe, family_of_pipeline(type(pipe).__name__), "refiner", "live")


def ours(models, sampler, **options):
    base, refiner = models
    given = {"seed": 5, "guidance_scale": 4.0, "sampler": sampler, "refiner_start": START, **SIZE, **options}
    return list(base.steps(PROMPT, 1, STEPS, refiner=refiner, **given))


@pytest.mark.parametrize("sampler", THEIRS)
def test_the_latents_are_those_of_diffusers_two_pipelines(models, sampler):
    scheduler = getattr(diffusers, THEIRS[sampler]).from_config(models[0].pipe.scheduler.config)
    base, refiner = (copy.copy(model.pipe) for model in models)
    base.scheduler, refiner.scheduler = copy.deepcopy(scheduler), copy.deepcopy(scheduler)
    stream = generators(1, 5)
    given = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "output_type": "latent", "generator": stream,
             "negative_prompt": ["a dog"]}  # fmt: skip
    half = base([PROMPT], denoising_end=START, **SIZE, **given).images
    expected = refiner([PROMPT], image=half, denoising_start=START, **given).images
    steps = ours(models, sampler, negative="a dog")
    torch.testing.assert_close(steps[-1].x_next, expected, rtol=1e-4, atol=1e-4)
    kept = {"dpm_solver_pp_2m": lambda step: step.x_t}.get(sampler, lambda step: step.x_t / step.level.alpha)
    taken = next(step.i for step in steps if torch.allclose(kept(step), half, rtol=1e-4, atol=1e-4))
    assert 5 < taken < STEPS, "there the refiner takes over"
    assert [step.i for step in steps] == list(range(STEPS))
    alone = models[0].steps(PROMPT, 1, STEPS, seed=5, guidance_scale=4.0, sampler=sampler, negative="a dog", **SIZE)
    assert (final(alone) - expected).abs().max() > 1e-3


def test_the_refiner_alone_goes_from_a_picture_as_in_diffusers(models):
    refiner = models[1]
    picture = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    latents = refiner.encode(picture)
    theirs = refiner.pipe([PROMPT], image=latents, num_inference_steps=4, strength=0.5, guidance_scale=4.0,
                          generator=generators(1, 5), output_type="latent").images  # fmt: skip
    start = refiner.prepare(5, levels=refiner.levels(4), **SIZE)
    denoise, levels = refiner.denoiser(refiner.encode_text(PROMPT), 4.0, start=start), start.levels[2:]
    got = final(euler(denoise, add_noise(latents, start.x_t, levels[0]), levels))
    torch.testing.assert_close(got, theirs, rtol=1e-4, atol=1e-4)


def test_what_does_not_belong_together_is_refused(models):
    base, refiner = models
    for other, words in [(base, "A refiner belongs to Stable Diffusion XL"), (stand_in("sd", device="cpu"), "belongs")]:
        with pytest.raises(ValueError, match=words):
            base.steps(PROMPT, 1, STEPS, refiner=other, **SIZE)
    for start, who in [(0.0, "the base"), (1.0, "the refiner")]:
        with pytest.raises(ValueError, match=f"leaves {who} none of 10 steps"):
            ours(models, "euler", refiner_start=start)
    with pytest.raises(ValueError, match="a number between 0 and 1"):
        ours(models, "euler", refiner_start=2.0)
    with pytest.raises(ValueError, match="leave image out"):
        base.steps(PROMPT, 1, STEPS, refiner=refiner, image=torch.zeros(3, 64, 64))
    with pytest.raises(ValueError, match="A refiner takes no ControlNet and no image prompt"):
        base.steps(PROMPT, 1, STEPS, refiner=refiner, control=torch.zeros(3, 64, 64), **SIZE)
    slow = copy.copy(refiner.pipe)
    slow.scheduler = type(slow.scheduler).from_config(slow.scheduler.config, timestep_spacing="trailing")
    with pytest.raises(ValueError, match="different levels"):
        ours((base, of_pipeline(slow, refiner.family, "slow", "live")), "euler")


def test_a_folder_of_the_refiner_is_loaded_and_the_chain_recorded(models, tmp_path):
    pipe_of_refiner().save_pretrained(tmp_path / "refiner")
    found = find_weights(tmp_path / "refiner")
    assert found.family.name == REFINER and set(found.parts) == {"unet", "vae", "text_encoder_2"}
    loaded = load(tmp_path / "refiner", device="cpu")
    assert torch.equal(loaded.network.conv_in.weight, models[1].network.conv_in.weight)
    base, out = save_stand_in(tmp_path / "xl", "sdxl"), tmp_path / "t.safetensors"
    command = ("record", PROMPT, "--model", base, "--device", "cpu", "--steps", 5, "--size", 64, "--out", out)
    result = run(*command, "--refiner", tmp_path / "refiner")
    assert result.exit_code == 0, result.output
    assert Trace.load(out).settings["model"].endswith(f" + {tmp_path / 'refiner'}")
    assert_refused(run(*command, "--refiner", base), "A refiner belongs to")
