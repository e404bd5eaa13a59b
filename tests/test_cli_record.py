"""`diffusion-explained record`, and what `doctor` says of Stable Diffusion."""

import re
import shutil
import time
from pathlib import Path

import pytest
import torch
from hub_cache import put_into_cache
from PIL import Image
from test_cli import assert_refused, run

from diffusion_explained.cli.doctor import CHECKS
from diffusion_explained.stable_diffusion import Trace, downloads, save_stand_in
from diffusion_explained.stable_diffusion.families import DEFAULT_MODEL, MIRRORS

SHORT = ("--steps", 2, "--size", 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stand_in(tmp_path_factory.mktemp("models") / "sd")


def test_a_stand_in_is_recorded_as_one(tmp_path):
    out = tmp_path / "t.safetensors"
    result = run("record", "a photo of a cat", "--model", "stand-in", "--negative", "blurry", "-n", 2, *SHORT,
                 "--device", "cpu", "--out", out)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert re.search(r"t\.safetensors: \d\.\d MB, stand-in, 2 steps of 2 images", result.stdout)
    trace = Trace.load(out)
    assert trace.label == "stand-in" and trace.settings["negative"] == ["blurry"] and len(trace.pictures) == 2


def test_a_folder_on_the_cpu_says_how_long_it_takes_and_what_was_cut(folder, tmp_path):
    live = shutil.copytree(folder, tmp_path / "live")
    (live / "STAND_IN.txt").unlink()
    out = tmp_path / "t.safetensors"
    result = run("record", "castle " * 80, "--model", live, *SHORT, "--device", "cpu", "--out", out)
    assert result.exit_code == 0, result.output
    assert re.search(r"About \d+ minutes on this CPU", result.stdout)
    assert "this part was cut off: castle castle castle castle castle" in result.stderr
    assert "1 image\n" in result.stdout and Trace.load(out).label == "recorded"


def test_a_picture_is_refined_or_zoomed_out_of(tmp_path):
    """The middle of the zoomed-out canvas is the smaller picture, and the call is that of Python."""
    picture, out = tmp_path / "p.png", tmp_path / "t.safetensors"
    Image.new("RGB", (80, 64), "orange").save(picture)
    of = ["record", "a cat", "--model", "stand-in", *SHORT, "--device", "cpu", "--out", out, "--image", picture]
    result = run(*of, "--zoom", 2, "--resamplings", 2)
    assert result.exit_code == 0, result.output
    settings = Trace.load(out).settings
    assert settings["inpainting"] and settings["resamplings"] == 2 and settings["sampler"] == "ddpm"
    result = run(*of, "--strength", 0.7)
    assert result.exit_code == 0, result.output
    settings = Trace.load(out).settings
    assert settings["from_image"] and not settings["inpainting"] and settings["strength"] == 0.7
    for wrong, said in (
        (["--zoom", 2, "--strength", 0.5], "give one or the other"),
        (["--zoom", 1.01], "another zoom"),
    ):
        result = run(*of, *wrong)
        assert result.exit_code == 2 and said in " ".join(result.output.split()), result.output
    result = run(*of[:-2], "--zoom", 2)
    assert result.exit_code == 2 and "give --image too" in " ".join(result.output.split())


def test_without_settings_it_records_with_the_models_own(folder, tmp_path):
    turbo, out = shutil.copytree(folder, tmp_path / "my_turbo"), tmp_path / "t.safetensors"
    result = run("record", "a cat", "--model", turbo, "--size", 64, "--device", "cpu", "--out", out)
    assert result.exit_code == 0 and "1 step of 1 image\n" in result.stdout, result.output
    settings = Trace.load(out).settings
    assert (settings["num_inference_steps"], settings["guidance_scale"], settings["sampler"]) == (1, 1.0, "euler")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a cat", "--model", ""], ["an empty name"]),  # an unset variable of the shell
        (["a cat", "--model", "stand-in", "--device", ""], ["'' is not a device"]),
        (["a cat", "--model", "stand-in", "--device", "cpu", *SHORT, "--sampler", ""], ["unknown sampler ''"]),
        (["a cat \udce9", "--model", "stand-in", "--device", "cpu", *SHORT], ["prompt has", "not Unicode", "udce9"]),
    ],
)
def test_an_empty_option_and_bytes_that_are_no_text_are_refused(arguments, said, tmp_path):
    out = tmp_path / "t.safetensors"
    assert_refused(run("record", *arguments, "--out", out), *said)
    assert not out.exists()


def test_what_is_missing_is_said(bare_machine, tmp_path):
    assert_refused(run("record", "a cat", "--device", "cpu"), "2.7 GB", "no network", "hf download")
    assert_refused(run("record", "a cat", "--out", "cat.png"), ".safetensors")
    assert_refused(run("record", "a cat", "--model", "stand-in", "--size", 100), "multiples of 8")
    assert_refused(run("record", "a cat", "--model", tmp_path, "--device", "cpu"), "is not a pipeline")
    if not torch.cuda.is_available():
        assert_refused(run("record", "a cat"), "no GPU", "--device cpu")


def test_nothing_is_downloaded_without_a_yes(bare_machine, folder, tmp_path, monkeypatch):
    fetched = []

    def fetch(model, t5, safety_checker=None):
        fetched.append(model)
        put_into_cache(tmp_path / "hub", model, folder)

    monkeypatch.setattr("diffusion_explained.data.hub.hub_is_reachable", lambda: True)
    monkeypatch.setattr("diffusion_explained.stable_diffusion.loading.fetch", fetch)
    command = ("record", "a cat", *SHORT, "--device", "cpu", "--out", tmp_path / "t.safetensors")
    asked = run(*command)  # nothing is answered
    assert "2.7 GB to download" in asked.stdout and asked.exit_code != 0 and not fetched
    assert run(*command, "--yes").exit_code == 0
    assert fetched == [DEFAULT_MODEL]


def test_doctor_finds_stable_diffusion_and_is_quick(bare_machine, folder, tmp_path):
    started = time.perf_counter()
    finding = CHECKS["Stable Diffusion"]("Stable Diffusion")
    assert finding.status == "missing" and "2.7 GB" in finding.text and "stand-in" in finding.advice
    assert time.perf_counter() - started < 2
    snapshot = put_into_cache(tmp_path / "hub", MIRRORS[DEFAULT_MODEL][1], folder)
    finding = CHECKS["Stable Diffusion"]("Stable Diffusion")
    assert finding.status == "ok" and DEFAULT_MODEL in finding.text
    (snapshot / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    finding = CHECKS["Stable Diffusion"]("Stable Diffusion")
    assert finding.status == "missing" and "not all of it" in finding.advice and "vae" in finding.advice


def test_no_look_of_the_doctor_asks_the_network_for_what_is_not_there(bare_machine, monkeypatch):
    def never():
        raise AssertionError("a second and a half for each model that is not here")

    monkeypatch.setattr(downloads, "hub_is_reachable", never)
    assert CHECKS["Stable Diffusion"]("Stable Diffusion").status == "missing"
