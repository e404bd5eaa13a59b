"""Image prompts (IP-Adapter): equal to diffusers' pipelines, off bit for bit, and bad input refused in words."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import (
    StableDiffusion,
    WeightsUnavailableError,
    load_control,
    load_image_prompt,
    stand_in,
)
from diffusion_explained.stable_diffusion.attention import record_attention
from diffusion_explained.stable_diffusion.backend import diffusers
from diffusion_explained.stable_diffusion.fast import accelerate
from diffusion_explained.stable_diffusion.image_attention import ImagePromptAdapter, ImageTokens, cross_attention_layers

SIDE, STEPS, EMBED = 64, 3, 24
SETTINGS = {"num_inference_steps": STEPS, "sampler": "ddim", "height": SIDE, "width": SIDE, "seed": 0}


def picture(seed: int = 0, side: int = 48) -> torch.Tensor:
    """A picture of whole bytes, [1, 3, side, side] in [-1, 1]."""
    pixels = torch.randint(0, 256, (1, 3, side, side), generator=torch.Generator().manual_seed(seed))
    return pixels.float() / 127.5 - 1


def as_pil(x: torch.Tensor) -> Image.Image:
    return Image.fromarray(((x[0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy())


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP image encoder of width EMBED, in a folder as h94/IP-Adapter has it."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=EMBED, intermediate_size=32, projection_dim=EMBED, num_hidden_layers=2, num_attention_heads=2,
        image_size=32, patch_size=8,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("adapters")
    CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")
    return folder


def adapter_file(model: StableDiffusion, folder: Path, kind: str, seed: int = 1) -> Path:
    """A random adapter for a model, in the published layout."""
    torch.manual_seed(seed)
    width = model.network.config.cross_attention_dim
    adapter = ImagePromptAdapter(model.network, ImageTokens(EMBED, width))
    for weight in adapter.ip_adapter.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    tensors = {k: x.detach().clone() for k, x in adapter.state_dict().items()}
    if kind != "full":
        tensors = {k: x for k, x in tensors.items() if k.startswith("ip_adapter.")}
    if kind == "four":
        own = {
            "proj.weight": (4 * width, EMBED),
            "proj.bias": (4 * width,),
            "norm.weight": (width,),
            "norm.bias": (width,),
        }
        tensors |= {f"image_proj.{name}": torch.randn(shape) for name, shape in own.items()}
    if kind == "plus":
        network = {"latents": (1, 3, 64), "proj_in.weight": (64, EMBED), "proj_in.bias": (64,),
                   "proj_out.weight": (width, 64), "proj_out.bias": (width,), "norm_out.weight": (width,),
                   "norm_out.bias": (width,)}  # fmt: skip
        for i in range(4):
            network |= {
                f"layers.{i}.0.{norm}.{part}": (64,) for norm in ("norm1", "norm2") for part in ("weight", "bias")
            }
            network |= {f"layers.{i}.0.to_q.weight": (64, 64), f"layers.{i}.0.to_kv.weight": (128, 64),
                        f"layers.{i}.0.to_out.weight": (64, 64), f"layers.{i}.1.0.weight": (64,),
                        f"layers.{i}.1.0.bias": (64,), f"layers.{i}.1.1.weight": (256, 64),
                        f"layers.{i}.1.3.weight": (64, 256)}  # fmt: skip
        tensors |= {f"image_proj.{name}": 0.2 * torch.randn(shape) for name, shape in network.items()}
    file = folder / f"{kind}_{model.family.name}_{seed}.safetensors"
    save_file(tensors, file)
    return file


@pytest.fixture(scope="module")
def sd() -> StableDiffusion:
    return stand_in(device="cpu")


def theirs(model: StableDiffusion, folder: Path, files: list[str], shown: list, scales: list[float], guidance: float):
    """The latents of diffusers' own pipeline with load_ip_adapter, from the same noise."""
    library = diffusers()
    name = {"sd": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}[model.family.name]
    more = {"requires_safety_checker": False} if model.family.name == "sd" else {}
    pipe = getattr(library, name)(**{**model.pipe.components, "image_encoder": None, "feature_extractor": None}, **more)
    pipe.scheduler = library.DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_ip_adapter(str(folder), subfolder="", weight_name=files)
    pipe.set_ip_adapter_scale(scales)
    noise = torch.randn(1, *model.latent_shape(SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    return pipe(
        "a cat", ip_adapter_image=shown, height=SIDE, width=SIDE, num_inference_steps=STEPS, latents=noise,
        output_type="latent", guidance_scale=guidance,
    ).images  # fmt: skip


@pytest.mark.parametrize(
    ("family", "kind", "guidance"),
    [("sd", "four", 1.0), ("sd", "four", 5.0), ("sd", "plus", 5.0), ("sd", "full", 5.0), ("sdxl", "four", 5.0)],
)
def test_a_published_file_equals_diffusers_pipeline(eyes: Path, family: str, kind: str, guidance: float):
    model = stand_in(family, device="cpu")  # of its own: diffusers changes the U-Net
    file, x = adapter_file(model, eyes, kind), picture()
    loaded = load_image_prompt(model, file)
    own = final(loaded.steps("a cat", image_prompt=x, image_prompt_scale=0.7, guidance_scale=guidance, **SETTINGS))
    plain = final(loaded.steps("a cat", guidance_scale=guidance, **SETTINGS))
    given = theirs(stand_in(family, device="cpu"), eyes, [file.name], [as_pil(x)], [0.7], guidance)
    assert (own - given).abs().max() < 1e-4
    assert (own - plain).abs().max() > 0.1  # the picture does something


def test_two_adapters_add_up_as_in_diffusers(eyes: Path, sd: StableDiffusion):
    files = [adapter_file(sd, eyes, "four", 2), adapter_file(sd, eyes, "plus", 3)]
    loaded, shown = load_image_prompt(sd, *files), [picture(1), picture(2)]
    own = final(
        loaded.steps("a cat", image_prompt=shown, image_prompt_scale=[0.6, 0.9], guidance_scale=4.0, **SETTINGS)
    )
    given = theirs(
        stand_in(device="cpu"), eyes, [file.name for file in files], list(map(as_pil, shown)), [0.6, 0.9], 4.0
    )
    assert (own - given).abs().max() < 1e-4


def test_without_a_picture_and_at_scale_0_the_model_is_that_of_before_to_the_bit(eyes: Path):
    model = stand_in(device="cpu")
    before = final(model.steps("a cat", **SETTINGS))
    loaded = load_image_prompt(model, adapter_file(model, eyes, "four"))
    shown = {"image_prompt": picture(), "image_prompt_scale": 0.0}
    assert torch.equal(final(loaded.steps("a cat", **SETTINGS)), before)
    assert torch.equal(final(loaded.steps("a cat", **shown, **SETTINGS)), before)
    assert torch.equal(final(model.steps("a cat", **SETTINGS)), before)  # the model that was given is as it was
    with pytest.raises(ValueError, match="no image prompt: load one first"):
        model.sample("a cat", image_prompt=picture(), **SETTINGS)


def test_a_seed_is_one_picture_in_any_batch(eyes: Path, sd: StableDiffusion):
    loaded = load_image_prompt(sd, adapter_file(sd, eyes, "four"))
    both = torch.cat([picture(3), picture(4)])
    settings = {**SETTINGS, "seed": [0, 1]}
    two = final(loaded.steps("a cat", image_prompt=both, **settings))
    one = final(loaded.steps("a cat", image_prompt=both[1:], **{**SETTINGS, "seed": 1}))
    torch.testing.assert_close(two[1:], one, atol=1e-4, rtol=0)
    assert (two[0] - two[1]).abs().max() > 0.1


def test_words_are_recorded_and_a_controlnet_acts_beside_a_picture(eyes: Path, sd: StableDiffusion):
    loaded, text = load_image_prompt(sd, adapter_file(sd, eyes, "four")), sd.encode_text("a red cat")
    with record_attention(loaded, text) as attention:
        for step in loaded.steps(text, image_prompt=picture(), **SETTINGS):
            attention.after(step)
    sums = attention.maps().sum(1)
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-4, rtol=0)
    torch.manual_seed(0)
    control = diffusers().ControlNetModel.from_unet(sd.network, conditioning_embedding_out_channels=(8, 8, 8, 8))
    torch.nn.init.normal_(control.controlnet_mid_block.weight, std=0.3)
    both = load_control(loaded, control.eval())
    lines = {"control": torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))}
    found = [
        final(both.steps("a cat", **given, **SETTINGS))
        for given in ({}, lines, {"image_prompt": picture()}, {**lines, "image_prompt": picture()})
    ]
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(found) for b in found[:i])


# -- what is refused --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(eyes: Path, sd: StableDiffusion):
    return SimpleNamespace(model=load_image_prompt(sd, adapter_file(sd, eyes, "four")), eyes=eyes)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"image_prompt": torch.zeros(1, 1, 8, 8)}, r"must be a picture \[3, H, W\]"),
        ({"image_prompt": torch.zeros(8, 8)}, r"must be a picture \[3, H, W\]"),
        ({"image_prompt": torch.zeros(3, 3, 8, 8)}, "holds 3 pictures for 1 images"),
        ({"image_prompt": torch.full((1, 3, 8, 8), 255.0)}, r"must lie in \[-1, 1\]"),
        ({"image_prompt": torch.full((1, 3, 8, 8), float("nan"))}, "NaN"),
        ({"image_prompt": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, "image_prompt"),
        ({"image_prompt": picture(), "image_prompt_scale": float("nan")}, "image_prompt_scale"),
        ({"image_prompt": picture(), "image_prompt_scale": -0.1}, "from 0 to 10"),
        ({"image_prompt": picture(), "image_prompt_scale": [1.0, 1.0]}, "holds 2 and the model has 1"),
        ({"image_prompt": [picture(), picture()]}, "holds 2 and the model has 1"),
        ({"image_prompt_scale": 0.5}, "belongs to a picture"),
    ],
)
def test_a_picture_or_a_scale_that_does_not_fit_is_refused(loaded: SimpleNamespace, given: dict, words: str):
    with pytest.raises(ValueError, match=words):
        loaded.model.sample("a cat", **given, **SETTINGS)


def changed(file: Path, out: Path, change) -> Path:
    tensors = load_file(file)
    found = change(tensors)
    save_file(found if isinstance(found, dict) else tensors, out)
    return out


def test_a_file_that_does_not_fit_is_refused_in_words(eyes: Path, sd: StableDiffusion, tmp_path: Path):
    good = adapter_file(sd, eyes, "four")
    shutil.copytree(eyes / "image_encoder", tmp_path / "image_encoder")
    key = next(name for name in load_file(good) if name.startswith("ip_adapter.3."))
    cases = {
        "lacking": (lambda t: t.pop(key), "made for another base: it has no 3"),
        "further": (lambda t: t.update({"ip_adapter.99.to_k_ip.weight": t[key].clone()}), "it has 99"),
        "shape": (lambda t: t.update({key: t[key][:, :5].clone()}), "made for another base: its 3"),
        "tokens": (lambda t: t.update({"image_proj.norm.weight": torch.ones(7)}), "another base"),
        "face": (lambda t: t.update({"image_proj.proj.0.weight": torch.ones(2, 2)}), "FaceID"),
        "lora": (lambda t: t.update({"ip_adapter.0.to_k_lora.down.weight": torch.ones(2, 2)}), "LoRA of its own"),
        "none": (lambda t: {"x": torch.ones(2)}, "is no IP-Adapter"),
        "kind": (lambda t: {"image_proj.other": torch.ones(2), key: t[key]}, "unknown kind"),
        "width": (lambda t: t.update({"image_proj.proj.weight": torch.ones(len(t["image_proj.proj.weight"]), 7)}),
                  "gives 24 numbers, and the adapter reads 7"),
    }  # fmt: skip
    for name, (change, words) in cases.items():
        file = changed(good, tmp_path / f"{name}.safetensors", change)
        with pytest.raises(ValueError, match=words):
            load_image_prompt(sd, file)


def test_places_and_models_that_do_not_fit_are_refused_in_words(eyes: Path, sd: StableDiffusion, tmp_path: Path):
    file = adapter_file(sd, eyes, "four")
    alone = shutil.copy(file, tmp_path)
    with pytest.raises(WeightsUnavailableError, match="no image encoder in"):
        load_image_prompt(sd, alone)
    (tmp_path / "encoder").mkdir()
    shutil.copy(eyes / "image_encoder" / "config.json", tmp_path / "encoder")
    with pytest.raises(WeightsUnavailableError, match=r"holds no \.safetensors weights"):
        load_image_prompt(sd, alone, encoder=tmp_path / "encoder")
    assert load_image_prompt(sd, alone, encoder=eyes / "image_encoder").image_prompts
    (tmp_path / "x.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match="pickle"):
        load_image_prompt(sd, tmp_path / "x.bin")
    with pytest.raises(WeightsUnavailableError, match="There is no file"):
        load_image_prompt(sd, tmp_path / "nothing.safetensors")
    with pytest.raises(ValueError, match=r"An image prompt is a \.safetensors file"):
        load_image_prompt(sd, 7)
    with pytest.raises(ValueError, match="are read for U-Nets"):
        load_image_prompt(stand_in("sd3", device="cpu"), file)
    with pytest.raises(ValueError, match="made for another base"):
        load_image_prompt(stand_in("sdxl", device="cpu"), file)


def test_a_compiled_model_takes_no_picture_and_says_so(eyes: Path):
    model = stand_in(device="cpu")
    loaded = load_image_prompt(model, adapter_file(model, eyes, "four"))
    with pytest.raises(ValueError, match="A compiled model takes no image prompt"):
        accelerate(loaded, backend="eager")
    with pytest.raises(ValueError, match="load it without fast=True"):
        load_image_prompt(accelerate(model, backend="eager"), adapter_file(model, eyes, "four"))


def test_what_is_no_network_is_refused_in_words():
    with pytest.raises(ValueError, match="unet must be a U-Net of diffusers"):
        cross_attention_layers(7)
