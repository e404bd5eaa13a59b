"""Families whose pipeline is driven whole: diffusers' own latents, both sides of guidance, and refusals in words."""

import functools
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import diffusers
import pytest
import tiny_pipelines
import torch
from torch import Tensor

from diffusion_explained import samplers
from diffusion_explained.denoisers import Prediction
from diffusion_explained.noise import generators
from diffusion_explained.predictions import to_x0_eps
from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import find_weights, load, record
from diffusion_explained.stable_diffusion.families import family_of_pipeline
from diffusion_explained.stable_diffusion.layouts import pack, unpack
from diffusion_explained.stable_diffusion.loading import of_pipeline
from diffusion_explained.stable_diffusion.pace import measure_pace
from diffusion_explained.stable_diffusion.pipeline_model import PipelineModel
from diffusion_explained.stable_diffusion.trace_films import film_of_trace

PROMPT, STEPS = "a photo of a cat", 3  # the second of 3 steps of DPM-Solver++ is of second order
BATCHED = ("flux_schnell", "z_image", "pixart_sigma")  # one network call per side, a list, a batch of 2B
NORMED = ("qwen_image", "lumina2")  # their pipelines rescale the guided output to the length of the prompt's side
CALLS = [(name, number) for name, calls in tiny_pipelines.CALLS.items() for number in range(len(calls))]
GUIDED = ("flux_schnell", "z_image", "qwen_image", "sana", "pixart_sigma", "lumina2", "kolors", "ltx")
INSTRUCTED = ("sana", "lumina2")  # their pipelines put instructions before the prompt, but not before the negative one


@functools.cache
def model_of(name: str) -> PipelineModel:
    pipe = tiny_pipelines.build(name)
    found = of_pipeline(pipe, family_of_pipeline(type(pipe).__name__), name, "live")
    assert isinstance(found, PipelineModel)
    return found


def size_of(name: str) -> dict[str, int]:
    side = tiny_pipelines.SIZES.get(name, 64)
    return {"height": side, "width": side}


def theirs(name: str, count: int = 1, **options: Any) -> tuple[Tensor, Any]:
    """(The last latents of diffusers' own pipeline, as its loop stores them, and what it returns.)"""
    pipe, kept = model_of(name).pipe, {}
    step = pipe.scheduler.step

    def noted(*inputs: Any, **named: Any) -> Any:
        kept["latents"] = step(*inputs, **named)[0]
        return (kept["latents"],)

    if "negative_prompt" in options:  # a new list each time: Z-Image's pipeline writes into it
        options["negative_prompt"] = [options["negative_prompt"]] * count
    options |= {"num_frames": 25} if name == "ltx" else {}
    pipe.scheduler.step = noted
    try:
        result = pipe(
            prompt=[PROMPT] * count, num_inference_steps=STEPS, generator=generators(count, 5), **size_of(name),
            **options,
        )  # fmt: skip
    finally:
        del pipe.scheduler.step
    return kept["latents"], result[0]


def ours(name: str, count: int = 1, **options: Any) -> Tensor:
    run = model_of(name).steps(PROMPT, count, STEPS, seed=5, **size_of(name), **options)
    return final(run)


@pytest.mark.parametrize(("name", "number"), CALLS)
def test_the_latents_are_those_of_diffusers_pipeline(name, number):
    """With guidance off (some with two images), on, and a negative prompt, by the pipeline's own sampler."""
    their_options, our_options = tiny_pipelines.CALLS[name][number]
    count = 2 if number == 0 and name in BATCHED else 1
    expected, _ = theirs(name, count, output_type="latent", **their_options)
    got = pack(model_of(name).drive.layout, ours(name, count, **our_options))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", GUIDED)
def test_both_sides_of_guidance_are_the_pipelines_own(name):
    """Each side equals an evaluation without guidance, of the prompt and of the negative one: none is swapped."""
    model, options = model_of(name), dict(tiny_pipelines.CALLS[name][-1][1])
    negative = options.pop("negative", None)
    text = model.encode_text(PROMPT, negative)
    start = model.prepare(3, levels=model.levels(2, **size_of(name)), **size_of(name))
    x_t, level = start.x_t, start.levels[1]
    pred = model.denoiser(text, 4.0, start=start)(x_t, level)
    blank = {"qwen_image": " "}.get(name, "")
    for side, prompt in ((pred.eps_cond, PROMPT), (pred.eps_uncond, blank if negative is None else negative)):
        if side is pred.eps_uncond and name in INSTRUCTED:
            continue
        alone = model.denoiser(model.encode_text(prompt), 1.0)(x_t, level)
        assert alone.eps_uncond is None
        torch.testing.assert_close(side, alone.eps, rtol=1e-4, atol=1e-5)
    assert (pred.eps_cond - pred.eps_uncond).abs().max() > 1e-5
    if name not in NORMED:
        torch.testing.assert_close(pred.eps, torch.lerp(pred.eps_uncond, pred.eps_cond, 4.0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["flux_dev", "flux2_klein", "qwen_image", "sana", "kolors", "ltx"])
def test_latents_are_decoded_as_the_pipeline_decodes_them(name):
    latents, images = theirs(name, 1, output_type="pt", **tiny_pipelines.CALLS[name][0][0])
    model = model_of(name)
    shape = model.latent_shape(**size_of(name))
    got = model.decode(unpack(model.drive.layout, latents, shape[1:]))
    torch.testing.assert_close(got / 2 + 0.5, images, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "heun", "dpm_solver_pp_2m", "euler_ancestral"])
def test_our_other_samplers_run_on_the_network_itself(sampler):
    """Called by hand, without a pipeline, FLUX.1's network gives the same pictures with each of our samplers."""
    model = model_of("flux_schnell")
    embeds, pooled, text_ids = model.pipe.encode_prompt(PROMPT, None)
    levels = model.levels(STEPS, sampler, height=64, width=64)
    ids = model.pipe._prepare_latent_image_ids(1, 4, 4, torch.device("cpu"), torch.float32)

    @torch.no_grad()
    def by_hand(x_t: Tensor, level: Any) -> Prediction:
        output = model.network(
            hidden_states=pack("patches", x_t), timestep=torch.tensor([level.sigma]), pooled_projections=pooled,
            encoder_hidden_states=embeds, txt_ids=text_ids, img_ids=ids,
        )[0]  # fmt: skip
        x_0, eps = to_x0_eps("flow", unpack("patches", output, (8, 8)), x_t, level.alpha, level.sigma)
        return Prediction(x_0, eps, eps)

    start = model.prepare(7, levels=levels, sampler=sampler, height=64, width=64)
    expected = final(samplers.run(sampler, by_hand, start))
    got = final(model.steps(PROMPT, 1, STEPS, sampler=sampler, seed=7, height=64, width=64))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_the_pipeline_and_the_process_stay_as_they_were():
    model = model_of("pixart_sigma")
    before = dict(vars(model.pipe))
    stream, threads = torch.get_rng_state(), threading.active_count()
    steps = model.steps(PROMPT, 1, STEPS, **size_of("pixart_sigma"))
    next(steps)
    steps.close()
    model.decode(torch.zeros(1, *model.latent_shape(**size_of("pixart_sigma"))))
    assert all(vars(model.pipe)[key] is value for key, value in before.items())
    assert torch.equal(torch.get_rng_state(), stream) and threading.active_count() == threads


def test_no_call_searches_the_modules_for_the_device(monkeypatch):
    """At the size of FLUX.1 a search takes milliseconds, and there would be one or more per step."""
    model = model_of("flux_schnell")
    searched = type(model.pipe)._execution_device.fget
    monkeypatch.setattr(type(model.pipe), "_execution_device", property(lambda pipe: pytest.fail("searched")))
    latents = final(model.steps(PROMPT, 1, 2, **size_of("flux_schnell")))
    assert model.decode(latents).shape == (1, 3, 64, 64)
    assert model.driver.device == searched(model.pipe)


def test_an_error_of_the_network_and_nan_are_raised(monkeypatch):
    model = model_of("lumina2")
    forward = model.network.forward
    monkeypatch.setattr(model.network, "forward", lambda *given, **named: (forward(*given, **named)[0] * torch.nan,))
    with pytest.raises(ValueError, match="became NaN or infinite"):
        ours("lumina2")
    monkeypatch.setattr(model.network, "forward", lambda *given, **named: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ours("lumina2")


@pytest.mark.parametrize("name", [name for name in tiny_pipelines.CALLS if name not in ("sana_flow", "flux2_klein")])
def test_a_run_of_each_family_is_recorded(tmp_path, name):
    """Of a video its middle frame, and of its latents the middle one."""
    model = model_of(name)
    trace = record(model, PROMPT, num_inference_steps=2, **size_of(name))
    again = type(trace).load(trace.save(tmp_path / "run.safetensors"))
    shape = model.latent_shape(**size_of(name))
    assert again.settings["latent_shape"] == [shape[0], *shape[-2:]]
    assert again.settings["frames"] == (25 if name == "ltx" else None)
    assert again.settings["guidance_scale"] == model.default_guidance_scale
    assert [token["encoder"] for token in again.tokens[0]] == [
        reads.replace("tokenizer", "text_encoder") for reads in model.drive.reads
    ]
    assert film_of_trace(again).captions
    if name == "ltx":
        x_t = model.prepare(0, **size_of(name)).x_t
        assert model.preview(x_t).shape == (1, shape[1], 3, *shape[2:])


# -- from a folder ----------------------------------------------------------------------------------------

FOLDERS = [name for name in tiny_pipelines.CALLS if name not in ("kolors", "flux_dev", "sana_flow", "flux2_klein")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("driven")
    for name in FOLDERS:
        model_of(name).pipe.save_pretrained(home / name)
    return {name: home / name for name in FOLDERS}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_loaded_whole(folders, name):
    model = load(folders[name], device="cpu")
    assert isinstance(model, PipelineModel) and model.family is model_of(name).family
    for part, module in model_of(name).pipe.components.items():
        if isinstance(module, torch.nn.Module):
            loaded = getattr(model.pipe, part).state_dict()
            assert all(torch.equal(loaded[key], value) for key, value in module.state_dict().items()), part
    assert model.levels(STEPS, **size_of(name)) == model_of(name).levels(STEPS, **size_of(name))


@pytest.mark.parametrize(
    ("name", "part", "change", "words"),
    [
        ("pixart_sigma", "transformer", {"quantization_config": {"bits": 4}}, "sets quantization_config"),
        ("pixart_sigma", "transformer", {"new_key": 3}, "sets 'new_key', which this version of diffusers"),
        ("pixart_sigma", "transformer", {"_class_name": "DiTTransformer2DModel"}, "transformer is a DiTTransformer2D"),
        ("pixart_sigma", "scheduler", {"_class_name": "LCMScheduler"}, "LCMScheduler"),
        ("z_image", "scheduler", {"_class_name": "UniPCMultistepScheduler"}, "scheduler is a UniPCMultistepScheduler"),
        ("z_image", "scheduler", {"stochastic_sampling": True}, "stochastic_sampling"),
        ("ltx", "model_index", {"vae": ["diffusers", "AutoencoderKL"]}, "vae is a AutoencoderKL"),
        ("ltx", "model_index", {"text_encoder": [None, None]}, "lists no text_encoder"),
        ("ltx", "model_index", {"controlnet": ["diffusers", "ControlNetModel"]}, "not supported: controlnet"),
        ("ltx", "model_index", {"is_distilled": True}, "is_distilled"),
    ],
)
def test_what_a_folder_says_otherwise_is_refused_by_name(folders, tmp_path, name, part, change, words):
    folder = shutil.copytree(folders[name], tmp_path / name)
    files = {"model_index": "model_index.json", "scheduler": "scheduler/scheduler_config.json"}
    path = folder / files.get(part, f"{part}/config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=words):
        load(folder, device="cpu")


def test_a_model_is_refused_after_its_model_index_alone(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline", "vae": ["diffusers", "X"]}))
    with pytest.raises(ValueError, match=r"This model is Wan, which is not supported; supported are .*FLUX\.1.*LTX"):
        find_weights(tmp_path)


# -- refused in words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("pixart_sigma", {"guidance_scale": 0.5}, "switches guidance off at a scale of 0.5: give 1"),
        ("z_image", {"guidance_scale": 1.5}, "or more than 2"),
        ("flux2_klein", {"guidance_scale": 4.0}, "distilled to need no guidance and ignores it"),
        ("flux2_klein", {"negative": "a dog"}, "takes no negative prompt"),
        ("flux_schnell", {"negative": "a dog"}, "used without guidance"),
        ("flux_dev", {"negative": "a dog"}, "give both negative and true_cfg_scale"),
        ("flux_dev", {"true_cfg_scale": 2.0}, "give both negative and true_cfg_scale"),
        ("sana", {"true_cfg_scale": 2.0}, "true_cfg_scale"),
        ("sana", {"guidance_rescale": 0.5}, "guidance_rescale"),
        ("lumina2", {"spacing": "karras"}, "chooses the levels itself"),
        ("lumina2", {"image": torch.zeros(1, 3, 64, 64)}, "driven from text only"),
        ("lumina2", {"height": 63, "width": 64}, "multiples of 16"),
        ("pixart_sigma", {"height": 256, "width": 512}, "draws at fixed sizes"),
        ("qwen_image", {"num_inference_steps": 1, "height": 64, "width": 64}, "take 2 or more"),
    ],
)
def test_what_the_pipeline_would_ignore_is_refused(name, options, words):
    with pytest.raises(ValueError, match=words):
        final(model_of(name).steps(PROMPT, **{"num_inference_steps": 2, **size_of(name), **options}))


def test_latents_of_another_shape_are_refused():
    model = model_of("ltx")
    with pytest.raises(ValueError, match=r"Latents are \[B, C, f, h, w\]"):
        model.decode(torch.zeros(1, 8, 2, 2))
    with pytest.raises(ValueError, match="pictures are not encoded"):
        model.encode(torch.zeros(1, 3, 64, 64))


def test_every_tiny_pipeline_is_one_that_diffusers_makes():
    """The stand-ins have the classes that the families name, so that a family is never tested by another's network."""
    for name in tiny_pipelines.BUILD:
        pipe, drive = model_of(name).pipe, model_of(name).drive
        assert isinstance(pipe, diffusers.DiffusionPipeline)
        for part, classes in drive.parts.items():
            assert not classes or type(getattr(pipe, part)).__name__ in classes


def test_the_pace_is_measured_at_the_models_own_size():
    pace = measure_pace(model_of("pixart_sigma"))
    assert pace.seconds > 0


@pytest.mark.parametrize(
    ("name", "steps", "scale", "size"),
    [
        ("flux_schnell", 4, 1.0, 1024), ("flux_dev", 28, 3.5, 1024), ("flux2_klein", 4, 1.0, 1024),
        ("flux2_klein_base", 50, 4.0, 1024), ("qwen_image", 50, 4.0, 1328), ("sana", 20, 4.5, 512),
        ("pixart_sigma", 20, 4.5, 256), ("kolors", 50, 5.0, 1024), ("ltx", 50, 3.0, 704),
    ],
)  # fmt: skip
def test_the_defaults_are_the_models_own(name, steps, scale, size):
    model = model_of(name)
    found = (model.default_num_inference_steps, model.default_guidance_scale, model.default_size)
    assert found == (steps, scale, size)
