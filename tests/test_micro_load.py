"""Micro Stable Diffusion as it is loaded: by name or folder, without a GPU, and the same pictures as diffusers'."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from micro_folder import random_micro
from typer.testing import CliRunner

from diffusion_explained import samplers
from diffusion_explained.cli import doctor
from diffusion_explained.cli.main import app
from diffusion_explained.schedules import FlowSchedule
from diffusion_explained.stable_diffusion import StableDiffusion, WeightsUnavailableError, load, loading, weights
from diffusion_explained.stable_diffusion.backend import diffusers
from diffusion_explained.stable_diffusion.families import MICRO_FAMILY, MICRO_TITLE

PROMPT = "a blue cat left of a red heart"


@pytest.fixture(scope="module", params=["eps", "flow"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_micro(tmp_path_factory.mktemp("micro") / request.param, request.param)


@pytest.fixture(scope="module")
def model(folder: Path) -> StableDiffusion:
    return load(folder, "cpu")


def pipeline(folder: Path):
    loaded = diffusers().StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


# -- by name and by folder --------------------------------------------------------------------------------


def test_needs_no_gpu_and_knows_itself(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loading, "choose_device", lambda name="auto": torch.device("cpu"))
    model = load(folder)
    assert model.device.type == "cpu" and model.label == "live" and model.family == MICRO_FAMILY
    assert model.kind == folder.name and model.default_sampler == {"eps": "ddim", "flow": "euler"}[model.kind]
    assert (model.default_size, model.pixels, model.latent_shape()) == (128, 8, (4, 16, 16))
    assert {part.dtype for part in (model.network, model.pipe.vae, model.pipe.text_encoder)} == {torch.float32}


def test_micro_is_found_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weights, "MICRO_FOLDER", folder)
    monkeypatch.setattr(loading, "choose_device", lambda name="auto": torch.device("cpu"))
    assert load("micro").name == MICRO_TITLE
    assert load("micro", download=True).name == MICRO_TITLE, "nothing is to download"


def test_missing_weights_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weights, "MICRO_FOLDER", tmp_path)
    monkeypatch.setattr(loading, "choose_device", lambda name="auto": torch.device("cpu"))
    for download in (False, True):
        with pytest.raises(WeightsUnavailableError, match="install the package again, or train them"):
            load("micro", download=download)


def test_a_pipeline_without_the_card_is_no_micro(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loading, "choose_device", lambda name="auto": torch.device("cpu"))
    other = shutil.copytree(folder, tmp_path / "other")
    (other / weights.MICRO_CARD).unlink()
    with pytest.raises(loading.NoGPUError, match='"micro"'):
        load(other)


# -- what it computes -------------------------------------------------------------------------------------


def test_a_prompt_is_32_tokens(model: StableDiffusion):
    text = model.encode_text(PROMPT, negative="yellow")
    assert text.embeds.shape == text.negative_embeds.shape == (1, 32, 192)
    (tokens,) = text.tokens[0]
    assert len(tokens.ids) == 32 and tokens.used == 2 + len(PROMPT.split())
    assert [word for word, _ in tokens.words] == PROMPT.split()
    assert model.encode_text("cat " * 40).cut[0] == ("cat " * 10).strip()


def test_a_seed_is_one_picture_in_any_batch(model: StableDiffusion):
    options = {"num_inference_steps": 3, "guidance_scale": 3.0}
    both, one = model.sample(PROMPT, seed=[4, 5], **options), model.sample(PROMPT, seed=5, **options)
    assert both.shape == (2, 3, 128, 128) and bool(both.isfinite().all())
    torch.testing.assert_close(both[1:], one, atol=1e-4, rtol=0)


def test_same_latents_as_diffusers(model: StableDiffusion, folder: Path):
    pipe, seed = pipeline(folder), 3
    if model.kind == "eps":
        pipe.scheduler = diffusers().DDIMScheduler.from_config(pipe.scheduler.config)
        levels = model.levels(5)
    else:  # the first order of DPM-Solver++ is Euler's method on the straight path

        class Untruncated(diffusers().DPMSolverMultistepScheduler):
            """Tells the network its times as they are; diffusers cuts them to whole numbers."""

            def set_timesteps(self, *args, **kwargs):
                super().set_timesteps(*args, **kwargs)
                self.timesteps = 1000 * self.sigmas[:-1]

        pipe.scheduler = Untruncated.from_config(pipe.scheduler.config, solver_order=1)
        pipe.scheduler.set_timesteps(5)
        levels = FlowSchedule().levels_at(pipe.scheduler.sigmas[:-1])
    theirs = pipe(
        PROMPT, negative_prompt="red", num_inference_steps=5, guidance_scale=4.0, height=128, width=128,
        generator=torch.Generator().manual_seed(seed), output_type="latent",
    ).images  # fmt: skip
    start = model.prepare(seed, levels=levels)
    denoise = model.denoiser(model.encode_text(PROMPT, negative="red"), 4.0, start=start)
    for step in samplers.SAMPLERS[model.default_sampler](denoise, start.x_t, start.levels):
        ours = step.x_next
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


def test_diffusers_draws_with_the_scheduler_that_is_saved(folder: Path):
    image = pipeline(folder)(PROMPT, num_inference_steps=4, height=128, width=128, output_type="pt").images
    assert image.shape == (1, 3, 128, 128) and bool(image.isfinite().all())


def test_image_to_image_and_inpainting(model: StableDiffusion):
    image, mask = torch.zeros(3, 128, 128), torch.zeros(128, 128)
    mask[:, 64:] = 1
    kept = model.sample(PROMPT, image=image, mask=mask, num_inference_steps=2)
    assert kept.shape == (1, 3, 128, 128)
    assert model.sample(PROMPT, image=image, strength=0.5, num_inference_steps=4).shape == (1, 3, 128, 128)


# -- what attaches to Stable Diffusion attaches to it -----------------------------------------------------


def test_controlnet_residuals_attach(model: StableDiffusion):
    unet, library = model.network, diffusers()
    control = library.ControlNetModel.from_unet(unet).eval()
    x, t, text = torch.randn(1, 4, 16, 16), torch.tensor([500.0]), model.encode_text(PROMPT).embeds
    with torch.no_grad():
        down, mid = control(
            x, t, encoder_hidden_states=text, controlnet_cond=torch.zeros(1, 3, 128, 128), return_dict=False
        )
        plain = unet(x, t, encoder_hidden_states=text).sample
        same, other = (
            unet(
                x,
                t,
                encoder_hidden_states=text,
                down_block_additional_residuals=[residual + more for residual in down],
                mid_block_additional_residual=mid + more,
            ).sample
            for more in (0.0, 1.0)
        )
    torch.testing.assert_close(plain, same)  # a new ControlNet adds nothing
    assert not torch.allclose(plain, other)


def test_image_prompt_attention_attaches(folder: Path):
    """IP-Adapter's cross-attention processors, as diffusers installs them."""
    unet = pipeline(folder).unet
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

    processors = {
        name: IPAdapterAttnProcessor2_0(width_of(unet, name), cross_attention_dim=192, num_tokens=(4,))
        if name.endswith("attn2.processor")
        else processor
        for name, processor in unet.attn_processors.items()
    }
    unet.set_attn_processor(processors)
    x, t, text = torch.randn(1, 4, 16, 16), torch.tensor([500.0]), torch.randn(1, 32, 192)
    with torch.no_grad():
        first, second = (
            unet(x, t, encoder_hidden_states=(text, [image])).sample for image in torch.randn(2, 1, 1, 4, 192)
        )
    assert not torch.allclose(first, second)


def width_of(unet: torch.nn.Module, name: str) -> int:
    """The width of the attention whose processor has this name."""
    return unet.get_submodule(name.removesuffix(".processor")).to_q.in_features


# -- the command line -------------------------------------------------------------------------------------


def test_record_needs_no_gpu_and_speaks_of_no_minutes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weights, "MICRO_FOLDER", folder)
    monkeypatch.setattr(loading, "choose_device", lambda name="auto": torch.device("cpu"))
    out = tmp_path / "cat.safetensors"
    ran = CliRunner().invoke(app, ["record", PROMPT, "--model", "micro", "--steps", "2", "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    assert out.is_file() and "minutes" not in ran.output


def test_record_offers_no_download_of_micro(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weights, "MICRO_FOLDER", tmp_path)
    ran = CliRunner().invoke(app, ["record", PROMPT, "--model", "micro", "--out", str(tmp_path / "cat.safetensors")])
    assert ran.exit_code == 2 and "Download them?" not in ran.output


def test_doctor_speaks_of_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    look = doctor.CHECKS["Micro Stable Diffusion"]
    monkeypatch.setattr(weights, "MICRO_FOLDER", folder)
    assert look("micro").status == "ok" and MICRO_TITLE in look("micro").text
    monkeypatch.setattr(weights, "MICRO_FOLDER", tmp_path)
    assert look("micro").status == "missing" and "install the package again" in look("micro").advice


# -- what ships -------------------------------------------------------------------------------------------


def test_shipped_weights_are_whole_small_and_measured():
    folder = weights.MICRO_FOLDER
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 30e6
    card = json.loads((folder / weights.MICRO_CARD).read_text())
    assert card["autoencoder"]["psnr_held_out"] >= 30
    model = load("micro", "cpu")
    assert model.kind == card["text_to_image"]["prediction"]
    assert sum(model.parameters().values()) == card["autoencoder"]["parameters"] + sum(
        card["text_to_image"]["parameters"].values()
    )


def test_shipped_micro_draws_a_red_heart():
    picture = load("micro", "cpu").sample("red heart", seed=0, num_inference_steps=12)[0]
    white, middle = picture[:, :4, :4].mean(), picture[:, 54:74, 54:74].mean(dim=(1, 2))
    assert white > 0.9, "its background is white"
    assert middle[0] > 0.3 and middle[0] - middle[1:].max() > 0.5, f"its middle is red, not {middle.tolist()}"
