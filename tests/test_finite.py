"""NaN is never drawn: on every way from a file or a number to a picture it ends in words, and no file is left."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from micro_folder import TRAINING
from safetensors import safe_open
from safetensors.torch import save_file
from test_cli import assert_refused, run

from diffusion_explained.micro.card import write_card
from diffusion_explained.micro.emoji import load_emoji_sample
from diffusion_explained.micro.encoded_scenes import encode_scenes
from diffusion_explained.micro.reconstruction import balance_latents
from diffusion_explained.micro.tokens import load_tokenizer
from diffusion_explained.micro.training_runs import load_autoencoder
from diffusion_explained.pretrained import WEIGHTS
from diffusion_explained.stable_diffusion import Trace, load, save_stand_in, stand_in
from diffusion_explained.stable_diffusion.recording import record

BROKEN = ["nan", "inf"]
PART_FILES = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}


def spoil(path: Path, number: str, only: str = "") -> Path:
    """Put one broken number in every tensor of a weight file (whose name holds `only`)."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and only in name:
            tensor.view(-1)[0] = float(number)
    save_file(tensors, path, metadata=metadata)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = save_stand_in(tmp_path_factory.mktemp("models") / "sd")
    (folder / "STAND_IN.txt").unlink()  # what is broken is labelled "live"
    return folder


@pytest.fixture(scope="module")
def broken_folders(folder, tmp_path_factory):
    def make(part: str, number: str) -> Path:
        copy = tmp_path_factory.mktemp("broken") / "sd"
        shutil.copytree(folder, copy)
        spoil(copy / PART_FILES[part], number)
        return copy

    return make


@pytest.mark.parametrize("number", BROKEN)
@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_a_weight_file_of_broken_numbers(command, number, tmp_path):
    weights = spoil(shutil.copy(WEIGHTS / "mnist_unet_flow.safetensors", tmp_path / "mine.safetensors"), number)
    out = tmp_path / "out.png"
    options = ("--out", out, "--labels", "3") if command == "sample" else ("-n", 10)
    assert_refused(
        run(command, weights, "--device", "cpu", *options), "mine.safetensors is damaged", "holds NaN, infinity or"
    )
    assert not out.exists()


@pytest.mark.parametrize("out", ["out.png", "out.gif"])
def test_weights_that_overflow_on_the_way(out, tmp_path):
    path = shutil.copy(WEIGHTS / "mnist_unet_flow.safetensors", tmp_path / "mine.safetensors")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: torch.full_like(file.get_tensor(name), 6e4) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata=metadata)  # every number is finite
    result = run("sample", path, "--labels", "3", "--device", "cpu", "--out", tmp_path / out)
    assert_refused(result, "became NaN or infinite in the step from t=1", "the network's output is broken there")
    assert not (tmp_path / out).exists()


@pytest.mark.parametrize("scale", ["1e30", "nan", "inf", "-1", "101"])
def test_a_guidance_scale_beyond_all_use(scale, tmp_path):
    for command in (
        ("sample", "mnist_unet_flow", "--labels", "3", "--out", tmp_path / "out.png"),
        ("sample", "mnist_unet_flow", "--labels", "3", "--out", tmp_path / "out.gif"),
        ("evaluate", "mnist_unet_flow", "-n", 100),
    ):
        result = run(*command, "--device", "cpu", f"--guidance-scale={scale}")
        assert_refused(result, "guidance_scale must be a finite number from 0 to 100 (1 is off)")
    for model in ("stand-in", "micro"):
        result = run("record", "a cat", "--model", model, "--device", "cpu", "--steps", 2, "--size", 64,
                     f"--guidance-scale={scale}", "--out", tmp_path / "out.safetensors")  # fmt: skip
        assert_refused(result, "guidance_scale must be a finite number from 0 to 100 (1 is off)")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", BROKEN)
@pytest.mark.parametrize("part", PART_FILES)
def test_a_broken_part_of_stable_diffusion_is_not_recorded(broken_folders, part, number, tmp_path):
    out = tmp_path / "out.safetensors"
    result = run("record", "a cat", "--model", broken_folders(part, number), "--device", "cpu", "--steps", 2,
                 "--size", 64, "--out", out)  # fmt: skip
    assert_refused(result, "NaN or infinit")
    assert not out.exists() and not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", PART_FILES)
def test_a_broken_part_draws_nothing_in_python(broken_folders, part):
    model = load(broken_folders(part, "nan"), "cpu")
    size = {"height": 64, "width": 64, "num_inference_steps": 2}
    with pytest.raises(ValueError, match="NaN or infinit"):
        model.sample("a cat", **size)
    with pytest.raises(ValueError, match="NaN or infinit"):
        record(model, "a cat", **size)
    with pytest.raises(ValueError, match="NaN or infinit"):
        image = torch.zeros(1, 3, 64, 64)
        model.sample("a cat", num_inference_steps=2, image=image, strength=0.5)


@pytest.mark.parametrize("place", ["rows", "settings"])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_recorded_run_of_broken_numbers(place, number, tmp_path):
    trace = record(stand_in(device="cpu"), "a cat", height=64, width=64, num_inference_steps=2)
    if place == "rows":
        trace.rows[0]["x_t_norm"] = [number]
    else:
        trace.settings["guidance_scale"] = number
    path = trace.save(tmp_path / "trace.safetensors")
    with pytest.raises(OSError, match=r"trace\.safetensors is damaged.*(NaN|Infinity), which is not a number"):
        Trace.load(path)
    assert trace.pictures.dtype == np.uint8  # its pictures are bytes, which hold no NaN


def test_micro_trains_on_no_broken_autoencoder(broken_folders, tmp_path):
    folder = broken_folders("vae", "nan")
    write_card(folder / "vae", {"autoencoder": {"parameters": 1, "psnr_training": 1.0, **TRAINING}})
    result = run("micro", "train", "--vae", folder / "vae", "--out", tmp_path / "micro", "--images", 8,
                 "--batch-size", 4, "--scenes", 8, "--sample", "--device", "cpu",
                 "--scenes-file", tmp_path / "scenes.safetensors")  # fmt: skip
    assert_refused(result, "latents hold NaN or infinity", "autoencoder's weights are broken")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_encoded_scenes_of_broken_numbers(folder, tmp_path):
    file, vae = tmp_path / "scenes.safetensors", load_autoencoder(folder / "vae")
    emoji, tokenizer = load_emoji_sample(), load_tokenizer()
    encode_scenes(vae, tokenizer, emoji, 4, batch_size=4, file=file)
    spoil(file, "nan", only="latents")
    with pytest.raises(OSError, match=r"scenes\.safetensors is damaged: its latents hold NaN"):
        encode_scenes(vae, tokenizer, emoji, 4, batch_size=4, file=file)


@pytest.mark.parametrize("rate", ["1e30", "nan", "inf", "-1"])
def test_micro_refuses_a_learning_rate_that_trains_nothing(rate, tmp_path):
    result = run("micro", "vae", "--out", tmp_path / "vae", "--images", 4, "--batch-size", 1, "--sample",
                 "--device", "cpu", f"--learning-rate={rate}")  # fmt: skip
    assert_refused(result, "learning_rate")
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("latents", [torch.zeros(8, 4, 2, 2), torch.full((8, 4, 2, 2), math.nan)])
def test_latents_without_a_spread_are_not_balanced(folder, latents):
    vae = load_autoencoder(folder / "vae")
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    with pytest.raises(ValueError, match="Every channel of the latents must vary"):
        balance_latents(vae, latents)
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())
