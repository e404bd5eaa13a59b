"""The memory that a model takes, told before it is loaded: weights to the byte, activations as an estimate."""

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers.loaders.single_file_utils as theirs
import pytest
import tiny_pipelines
import torch
import transformers
from test_cli import assert_refused, run

from diffusion_explained.stable_diffusion import NotEnoughMemoryError, forecast, forecasts, load, loading, save_stand_in
from diffusion_explained.stable_diffusion.costs import count_peak, published_pipeline
from diffusion_explained.stable_diffusion.families import FAMILIES
from diffusion_explained.stable_diffusion.forecasts import (
    GB,
    decoder_values,
    forecast_of_parts,
    network_values,
    possible_on,
    shortage,
)
from diffusion_explained.stable_diffusion.latents import decode_in_tiles
from diffusion_explained.stable_diffusion.part_sizes import IN_FLOAT32, OF_SD2, Stored
from diffusion_explained.stable_diffusion.single_files import facts_of

GPU = torch.device("cuda")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stand_in(tmp_path_factory.mktemp("models") / "sd3", "sd3", t5=True)


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux_dev", "aura_flow", "z_image", "flux2_klein"])
def test_the_weights_are_those_that_are_loaded(family, tmp_path):
    """In float16 T5 keeps a part of its weights in float32, and Stable Diffusion XL its autoencoder."""
    if family in FAMILIES:
        save_stand_in(tmp_path, family, **({"t5": True} if family == "sd3" else {}))
    else:
        tiny_pipelines.build(family).save_pretrained(tmp_path)
    found = forecast(tmp_path)
    assert found.need("float16").weights == tiny_pipelines.loaded_bytes(
        load(tmp_path, device="cpu", dtype=torch.float16).pipe
    )
    assert sum(found.need("float16").weights.values()) < sum(found.need("float32").weights.values())
    if family == "sd3":
        alone = load(tmp_path, device="cpu", dtype=torch.bfloat16, t5=False).pipe
        assert found.need("bfloat16", t5=False).weights == tiny_pipelines.loaded_bytes(alone)


def test_what_stays_in_float32_or_is_left_out_is_what_the_libraries_say():
    for name, kept in IN_FLOAT32.items():
        assert getattr(transformers, name)._keep_in_fp32_modules == ["wo"] and kept.search("a.wo.weight")
    assert all(map(OF_SD2.search, theirs.SD_2_TEXT_ENCODER_KEYS_TO_IGNORE))


def test_activations_are_those_counted_in_the_published_network():
    pipe = published_pipeline()
    zeros = {"device": "meta", "dtype": torch.float32}
    x, time, text = torch.zeros(2, 4, 64, 48, **zeros), torch.zeros(2, **zeros), torch.zeros(2, 77, 768, **zeros)
    counted = count_peak(lambda: pipe.unet(x, time, text), pipe.unet)
    assert network_values(FAMILIES["sd"], pipe.unet.config, 512, 384, 1, guided=True) * 4 == pytest.approx(
        counted, rel=0.05
    )
    counted = count_peak(lambda: pipe.vae.decode(x), pipe.vae)
    assert decoder_values(pipe.vae.config, 512, 384, 2) * 4 == pytest.approx(counted, rel=0.05)


def test_a_picture_decoded_in_parts_takes_a_tile(tmp_path):
    """diffusers' own tiles would be as large as the training pictures, and save nothing."""
    vae, pixels = copy.deepcopy(published_pipeline().vae), 8
    decode_in_tiles(vae, pixels)
    vae.enable_slicing()
    z = torch.zeros(2, 4, 128, 96, device="meta", dtype=torch.float32)
    counted = count_peak(lambda: vae.decode(z), vae)
    estimated = decoder_values(vae.config, 1024, 768, 2, in_parts=True) * 4
    assert estimated == decoder_values(vae.config, 512, 512, 1) * 4
    assert counted - 2 * 3 * 1024 * 768 * 4 * 2 < estimated < counted, (
        "the picture itself, in tiles and whole, comes on top"
    )


@pytest.mark.parametrize(
    "way, measured",
    [({}, 11.56), ({"in_parts": True}, 8.54), ({"offload": True}, 5.62), ({"in_parts": True, "float8": True}, 5.96)],
)
def test_no_measured_peak_of_stable_diffusion_xl_is_above_its_forecast(way, measured):
    """The peaks in GB that one H200 measured (docs/benchmarks.md); a forecast is at most a fifteenth above."""
    stored = {
        "unet": Stored(2_567_463_684, in_layers=2_540_976_640),
        "vae": Stored(83_653_863, in_layers=83_587_920),
        "text_encoder": Stored(123_060_480, in_layers=84_934_656),
        "text_encoder_2": Stored(694_659_840, in_layers=630_784_000),
    }
    found = forecast_of_parts(
        "XL", FAMILIES["sdxl"], stored, facts_of("sdxl"), height=1024, width=1024, batch_size=1, guided=True
    )
    assert measured <= found.need("float16", **way).peak / GB <= measured * 16 / 15


def test_count_peak_counts_what_is_alive_at_once():
    layer = torch.nn.Linear(10, 10)
    x = torch.zeros(5, 10)
    assert count_peak(lambda: layer(layer(layer(x))), layer) == 2 * x.nbytes


def test_more_pixels_pictures_and_guidance_take_more_and_offload_less(folder):
    def peak(offload: bool = False, **options: Any) -> int:
        return forecast(folder, **{"height": 64, "width": 64, **options}).need(offload=offload).peak

    least = peak(guidance_scale=1.0)
    assert peak(guidance_scale=5.0, height=1024) > peak(guidance_scale=5.0) >= least
    assert peak(width=128) > least and peak(batch_size=3) > peak(batch_size=2) > least
    assert peak(offload=True) < peak()
    found = forecast(folder)
    assert found.need("float32").activations == 2 * found.need("float16").activations
    assert found.need(t5=False).peak < found.need(t5=True).peak == found.need().peak
    with pytest.raises(ValueError, match="'int8' with t5=None: float32, float16, bfloat16 are known"):
        found.need("int8")
    with pytest.raises(ValueError, match="multiples of 16"):
        forecast(folder, height=0)


def test_a_video_and_an_unknown_autoencoder_have_no_estimate(tmp_path):
    tiny_pipelines.build("ltx").save_pretrained(tmp_path)
    found = forecast(tmp_path)
    assert found.need().activations is None and found.need().peak == sum(found.need().weights.values())
    assert "are not known" in str(found) and "estimated" not in str(found)


def test_what_fits_is_offered_with_the_least_change(folder):
    found = forecast(folder, height=64, width=64)
    whole, half = found.need("float32"), found.need()
    assert found.fitting(whole.peak, whole) == (whole,)
    one_change = found.fitting(whole.peak - 1, whole)
    assert [str(way) for way in one_change] == [
        "float32, offload, with T5", "float16, with T5", "float32, weights in float8, with T5", "float32, without T5"
    ]  # fmt: skip
    assert not any(way.offload for way in found.fitting(whole.peak - 1, whole, possible_on(torch.device("cpu"))))
    assert "float8" not in possible_on(torch.device("mps")) and found.fitting(0, half) == ()
    many = forecast(folder, height=1024, width=1024, batch_size=4)
    in_parts = many.fitting(many.need().peak - 1, many.need(), {"in_parts"})
    assert [str(way) for way in in_parts] == ["float16, decoded in parts, with T5"]
    assert shortage(found, half, half.peak, GPU) == "" == shortage(found, half, None, GPU)
    said = shortage(found, half, half.peak - 1, GPU)
    assert re.search(
        r"in float16, with T5 takes .* GB of weights and about .* GB, estimated, for a run of 64 x 64", said
    )
    assert "the device cuda has" in said and "What fits: float16, " in said and "without T5 (" in said
    assert "Choose a smaller model" in shortage(found, half, 1, GPU)
    large = forecast(folder, height=4096, width=4096)
    assert "Smaller pictures may fit" in shortage(large, large.need(), half.peak, GPU)


def test_weights_that_do_not_fit_on_a_gpu_are_not_loaded(folder, monkeypatch):
    monkeypatch.setattr(loading, "choose_device", lambda name: GPU)
    monkeypatch.setattr(loading, "load_pipeline", lambda *_: pytest.fail("it was loaded"))
    monkeypatch.setattr(forecasts, "room_on", lambda device: 1000)
    with pytest.raises(NotEnoughMemoryError, match=r"has 0\.0 GB free\. Nothing of it fits.*Nothing was loaded"):
        load(folder)


def test_the_table_of_the_doctor(folder, monkeypatch):
    monkeypatch.setattr(forecasts, "room_on", lambda device: 10**10)
    result = run("doctor", folder)
    assert result.exit_code == 0, result.output
    rows = dict(re.findall(r"^  (\S.*?)\s{2,}(.*)$", result.stdout, re.M))
    assert {"transformer", "text_encoder_3", "all weights", "activations, estimated", "peak, without T5"} <= set(rows)
    shown = [float(value) for value in rows["peak, offload"].split()]
    found = forecast(folder)
    assert shown == [round(found.need(t, offload=True).peak / GB, 2) for t in ("float32", "float16", "bfloat16")]
    assert "peak, weights in float8" in rows and "peak, decoded in parts, weights in float8" in rows
    assert "The device cpu has 10.0 GB free. What fits: float32" in result.stdout
    assert_refused(run("doctor", folder, "--json"), "--json")


def test_record_says_what_does_not_fit_before_it_loads(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(forecasts, "room_on", lambda device: 1000)
    out = tmp_path / "t.safetensors"
    command = ("record", "a cat", "--model", folder, "--device", "cpu")
    result = run(*command, "--no-t5", "--dtype", "bfloat16", "--steps", 1, "--size", 64, "--out", out)
    assert result.exit_code == 0, result.output  # a CPU's memory may be lent: it says so, and goes on
    assert "in bfloat16 takes" in result.stderr and "64 x 64 pixels" in result.stderr
    assert_refused(run(*command, "--dtype", "int8"), "unknown dtype 'int8'")


def test_running_out_says_what_a_run_takes_and_what_is_free(folder, monkeypatch):
    def too_large(latents):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(forecasts, "room_on", lambda device: 3 * 10**9)
    small = replace(load(folder, device="cpu", t5=False), decode_call=too_large)
    with pytest.raises(NotEnoughMemoryError, match=r"1 picture of 2048 x 64 pixels take .*\(estimated\); 3\.0 GB are"):
        small.decode(torch.zeros(1, 16, 8, 256))


def test_running_out_offers_what_would_fit_in_its_place(folder, monkeypatch):
    """What is free, and what the model itself holds, is the room that another way to load it would have."""
    model = load(folder, device="cpu", dtype="float32")
    found = forecast(folder, height=512, width=512)
    held = sum(tiny_pipelines.loaded_bytes(model.pipe).values())
    assert held == sum(found.need("float32").weights.values())
    monkeypatch.setattr(forecasts, "room_on", lambda device: found.need("float16").peak - held)
    said = forecasts.run_in_words(model, 512, 512, 1)
    assert f"What fits: float16, with T5 ({found.need().peak / GB:.1f} GB)" in said
    monkeypatch.setattr(forecasts, "room_on", lambda device: 1 - held)
    assert "Nothing of it fits" in forecasts.run_in_words(model, 512, 512, 1)
