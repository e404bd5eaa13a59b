"""TAESD: both published layouts draw what diffusers' AutoencoderTiny draws, and one for other latents is refused."""

import json
import re
import shutil

import diffusers
import pytest
import torch
from safetensors.torch import save_file
from test_cli import assert_refused, run

from diffusion_explained.stable_diffusion import Trace, WeightsUnavailableError, load, record, save_stand_in
from diffusion_explained.stable_diffusion.families import DRIVEN, FAMILIES, MICRO_FAMILY
from diffusion_explained.stable_diffusion.on_disk import PREVIEW, models_on_disk
from diffusion_explained.stable_diffusion.preview_decoders import WEIGHTS, read_preview_decoder

CPU, SIZE = torch.device("cpu"), {"height": 64, "width": 64}


def tiny(channels=4):
    with torch.random.fork_rng():
        torch.manual_seed(channels)
        return diffusers.AutoencoderTiny(
            latent_channels=channels, encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4
        ).eval().requires_grad_(False)  # fmt: skip


def of_author(vae):
    """The decoder's tensors under the names of taesd_decoder.safetensors, whose first layer is the clamp."""
    named = {name: x for name, x in vae.state_dict().items() if name.startswith("decoder.layers.")}
    return {re.sub(r"^decoder\.layers\.(\d+)", lambda n: str(int(n[1]) + 1), name): x for name, x in named.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """layout -> a file or folder with the weights of `tiny`."""
    home = tmp_path_factory.mktemp("taesd")
    tensors = of_author(tiny())
    save_file(tensors, home / "taesd_decoder.safetensors")
    save_file({f"taesd_decoder.{name}": x for name, x in tensors.items()} | {"vae_scale": torch.ones(1)},
              home / "taesd.safetensors")  # fmt: skip
    tiny().save_pretrained(home / "taesd")
    return {"its author's": home / "taesd_decoder.safetensors", "both halves": home / "taesd.safetensors",
            "diffusers": home / "taesd", "diffusers' file": home / "taesd" / WEIGHTS}  # fmt: skip


def read(path, family=FAMILIES["sd"], **config):
    return read_preview_decoder(path, family, config, torch.float32, CPU)


def test_every_layout_draws_what_diffusers_draws(files):
    latents = 3 * torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(0))
    expected = tiny().decode(latents).sample.clamp(-1, 1)
    for path in files.values():
        torch.testing.assert_close(read(path)(latents), expected, rtol=1e-4, atol=1e-5)
    for name in ("sd3", "flux"):  # latents of 16 channels
        family, made = {**FAMILIES, **DRIVEN}[name], tiny(16)
        file = files["diffusers"].parent / f"{'taesd3' if name == 'sd3' else 'taef1'}.safetensors"
        save_file(of_author(made), file)
        x = torch.ones(1, 16, 4, 4)
        torch.testing.assert_close(read(file, family)(x), made.decode(x).sample.clamp(-1, 1), rtol=1e-4, atol=1e-5)
        with pytest.raises(ValueError, match="need taesd"):
            read(file)


def test_one_for_other_latents_or_something_else_is_refused(files, tmp_path):
    ours = shutil.copy(files["its author's"], tmp_path / "other.safetensors")
    assert read(ours).name == "other", "a name that says nothing is taken by its shapes"
    with pytest.raises(ValueError, match="reads latents of 4 channels, and those of Stable Diffusion 3 have 16"):
        read(ours, FAMILIES["sd3"])
    with pytest.raises(ValueError, match="is taesd, and the latents of Stable Diffusion XL need taesdxl"):
        read(files["its author's"], FAMILIES["sdxl"])
    for family in (DRIVEN["qwen_image"], MICRO_FAMILY):
        with pytest.raises(ValueError, match="There is no preview decoder for the latents of"):
            read(ours, family)
    with pytest.raises(ValueError, match="There is no preview decoder"):  # Playground v2.5
        read(ours, FAMILIES["sdxl"], latents_mean=[0.0] * 4)
    tensors = of_author(tiny())
    for changed, words in [
        ({"x.weight": torch.ones(2)}, "is no TAESD: it holds 'x.weight'"),
        ({**tensors, "40.weight": torch.ones(8, 8, 3, 3)}, "no place, or another shape|not 8 times as large"),
        ({**tensors, "3.conv.0.bias": torch.ones(9)}, r"another shape \('3.conv.0.bias'\)"),
        ({name: x for name, x in tensors.items() if not name.startswith("5.")}, "not 8 times as large"),
        ({}, "it holds no tensors"),
    ]:
        save_file(changed, tmp_path / "x.safetensors")
        with pytest.raises(ValueError, match=words):
            read(tmp_path / "x.safetensors")


def test_a_folder_that_is_another_autoencoder_and_a_missing_one_are_refused(files, tmp_path):
    folder = shutil.copytree(files["diffusers"], tmp_path / "taesd")
    config = json.loads((folder / "config.json").read_text())
    for change, words in [({"scaling_factor": 0.5}, "scaling_factor to 0.5"), ({"act_fn": "silu"}, "act_fn to 'silu'"),
                          ({"_class_name": "AutoencoderKL"}, "says 'AutoencoderKL'")]:  # fmt: skip
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=words):
            read(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(WeightsUnavailableError, match="holds no diffusion_pytorch_model"):
        read(folder)
    with pytest.raises(WeightsUnavailableError, match="There is no file"):
        read(tmp_path / "none.safetensors")
    with pytest.raises(WeightsUnavailableError, match="hf download madebyollin/taesd"):
        read("madebyollin/taesd")
    with pytest.raises(ValueError, match="pickled weights"):
        read(tmp_path / "taesd_decoder.pth")


def test_it_is_listed_by_what_it_holds(files):
    found = {one.name: (one.kind, one.title, one.why) for one in models_on_disk([files["diffusers"].parent])}
    for layout in ("its author's", "both halves", "diffusers' file"):
        assert found[str(files[layout])] == (PREVIEW, "taesd", "")


def test_it_draws_the_steps_and_the_models_own_decoder_the_result(files, tmp_path):
    folder = save_stand_in(tmp_path / "sd")
    model = load(folder, device="cpu", preview_decoder=files["its author's"])
    plain = load(folder, device="cpu")
    trace, before = (record(one, "a cat", num_inference_steps=2, **SIZE) for one in (model, plain))
    assert (trace.settings["preview_decoder"], before.settings["preview_decoder"]) == ("taesd_decoder", None)
    assert (trace.pictures == before.pictures).all() and (trace.x_0 != before.x_0).any()
    step = next(model.steps("a cat", num_inference_steps=2, **SIZE))
    drawn = tiny().decode(step.pred.x_0).sample.clamp(-1, 1)
    torch.testing.assert_close(model.decode_preview(step.pred.x_0), drawn, rtol=1e-4, atol=1e-5)
    assert torch.equal(plain.decode_preview(step.pred.x_0), plain.decode(step.pred.x_0))
    with pytest.raises(ValueError, match="Latents are"):
        model.decode_preview(torch.zeros(1, 16, 8, 8))
    out = tmp_path / "t.safetensors"
    command = ("record", "a cat", "--model", folder, "--device", "cpu", "--steps", 2, "--size", 64, "--out", out)
    assert run(*command, "--preview-decoder", files["diffusers"]).exit_code == 0
    assert Trace.load(out).settings["preview_decoder"] == "taesd"
    assert_refused(run(*command, "--preview-decoder", "none.safetensors"), "There is no file none.safetensors")
