"""Our samplers against diffusers' own pipelines: the same latents from the same seeds, for every family.

The pipelines are stand-ins, tiny and random, written to disk and loaded from there by us and by diffusers.
"""

import diffusers
import pytest
import torch

from diffusion_explained.noise import generators
from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import StableDiffusion, load, save_stand_in

PROMPT, NEGATIVE, SIDE, STEPS = "a photo of a cat", "blurry", 64, 10
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
FAMILIES = {"sd": {}, "sd_v": {"prediction": "v"}, "sdxl": {}, "sd3": {}}
SCHEDULERS = {
    "ddim": diffusers.DDIMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "dpm_solver_pp_2m": diffusers.DPMSolverMultistepScheduler,
}
GUIDANCE = {"off": (1.0, None), "7.5": (7.5, None), "negative": (7.5, NEGATIVE)}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, StableDiffusion]:
    """A model of each family, saved and loaded."""
    folder = tmp_path_factory.mktemp("stand_ins")
    made = {}
    for name, options in FAMILIES.items():
        save_stand_in(folder / name, name.split("_")[0], **options)
        made[name] = load(folder / name, device="cpu")
    return made


def theirs(model: StableDiffusion, pipeline: str, sampler: str, spacing: str = "leading", **arguments) -> torch.Tensor:
    """The final latents of one of diffusers' pipelines, with its own scheduler of that name.

    Its configuration is the model's, but for the spacing, and for the noise schedule in float64, as ours is.
    """
    scheduler = model.pipe.scheduler
    if sampler != "flow":
        scheduler = SCHEDULERS[sampler].from_config(scheduler.config, timestep_spacing=spacing)
        scheduler.alphas_cumprod = torch.cumprod(1 - scheduler.betas.double(), dim=0).float()
    parts = {**model.pipe.components, "scheduler": scheduler}
    cls = getattr(diffusers, pipeline)
    options = {"requires_safety_checker": False} if model.family.name == "sd" else {}
    pipe = cls(**{name: part for name, part in parts.items() if name in _taken(cls)}, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe(prompt=[PROMPT] * 2, generator=generators(2, seed=5), output_type="latent", **arguments).images


def _taken(cls: type) -> set[str]:
    import inspect

    return set(inspect.signature(cls.__init__).parameters)


TEXT_TO_IMAGE = {
    "sd": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "sd3": "StableDiffusion3Pipeline",
}


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("sampler", SCHEDULERS)
@pytest.mark.parametrize("family", ["sd", "sd_v", "sdxl"])
def test_text_to_image_equals_diffusers(models, family, sampler, guidance):
    model, (scale, negative) = models[family], GUIDANCE[guidance]
    negatives = None if negative is None else [negative] * 2
    wanted = theirs(
        model, TEXT_TO_IMAGE[model.family.name], sampler, height=SIDE, width=SIDE, num_inference_steps=STEPS,
        guidance_scale=scale, negative_prompt=negatives,
    )  # fmt: skip
    steps = model.steps(
        PROMPT, negative=negative, guidance_scale=scale, num_inference_steps=STEPS, sampler=sampler, spacing="leading",
        seed=5, batch_size=2, height=SIDE, width=SIDE,
    )  # fmt: skip
    torch.testing.assert_close(final(steps), wanted, **CLOSE)
