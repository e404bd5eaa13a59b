"""Recorded runs: what is kept, that a file gives it back, and that a file which is none is refused."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from diffusion_explained.stable_diffusion import Trace, record, stand_in
from diffusion_explained.stable_diffusion.recording import small
from diffusion_explained.stable_diffusion.traces import FORMAT

OPTIONS = {"height": 64, "width": 128, "num_inference_steps": 3, "guidance_scale": 5.0, "seed": [4, 9]}


@pytest.fixture(scope="module")
def model():
    return stand_in("sd", device="cpu")


@pytest.fixture(scope="module")
def trace(model) -> Trace:
    return record(model, "a photo of a cat", negative="blurry", thumbnail=32, **OPTIONS)


@pytest.fixture
def saved(trace: Trace, tmp_path: Path) -> Path:
    return trace.save(tmp_path / "run.safetensors")


def test_what_is_kept_is_what_the_run_did(model, trace):
    steps = list(model.steps("a photo of a cat", negative="blurry", **OPTIONS))
    assert trace.label == "stand-in"
    assert trace.x_0.shape == (3, 2, 16, 32, 3) and trace.latents.shape == (4, 2, 16, 32, 3)
    assert trace.pictures.shape == (2, 64, 128, 3)
    for row, step in zip(trace.rows, steps, strict=True):
        assert (row["i"], row["t"], row["alpha"], row["sigma"]) == (step.i, *step.level)
        difference = step.pred.eps_cond - step.pred.eps_uncond
        assert row["difference_norm"] == pytest.approx([float(one.norm()) for one in difference], rel=1e-4)
        assert row["cond_norm"] == pytest.approx([float(one.norm()) for one in step.pred.eps_cond], rel=1e-4)
        assert row["x_t_norm"] == pytest.approx([float(one.norm()) for one in step.x_t], rel=1e-4)
    images = model.decode(steps[-1].x_next)
    assert np.abs(trace.pictures.astype(float) - small(images, 128)).max() <= 1
    assert np.abs(trace.x_0[1].astype(float) - small(model.decode(steps[1].pred.x_0), 32)).max() <= 1
    settings = trace.settings
    assert settings["prompt"] == ["a photo of a cat"] and settings["negative"] == ["blurry"]
    assert settings["seeds"] == [4, 9] and settings["sampler"] == "ddim" and settings["latent_shape"] == [4, 8, 16]
    assert set(settings["seconds"]) == {"text", "steps", "decode"} and min(settings["seconds"].values()) > 0
    assert trace.tokens[0][0]["words"][-1] == ("cat", 1) and len(trace.tokens[0][0]["ids"]) == 77


def test_a_file_gives_it_back(trace, saved):
    again = Trace.load(saved)
    for name in ("x_0", "latents", "pictures"):
        assert np.array_equal(getattr(again, name), getattr(trace, name))
    assert again.rows == trace.rows and again.settings == trace.settings
    assert again.tokens == json.loads(json.dumps(trace.tokens))


def test_the_label_is_honest(trace, saved, tmp_path):
    assert Trace.load(saved).label == "stand-in"
    live = replace(trace, label="live").save(tmp_path / "live.safetensors")
    assert Trace.load(live).label == "recorded"


def test_thirty_steps_of_four_large_images_are_a_few_megabytes(trace, tmp_path):
    def bytes_of(*shape):
        return np.zeros(shape, np.uint8)

    large = replace(
        trace,
        rows=trace.rows * 10,
        x_0=bytes_of(30, 4, 64, 64, 3),
        latents=bytes_of(31, 4, 64, 64, 3),
        pictures=bytes_of(4, 512, 512, 3),
    )
    assert large.save(tmp_path / "large.safetensors").stat().st_size < 6.3e6


def test_without_guidance_there_is_no_difference(model):
    trace = record(model, "a cat", **{**OPTIONS, "guidance_scale": 1.0, "num_inference_steps": 1})
    assert trace.rows[0]["difference_norm"] is None and trace.rows[0]["uncond_norm"] is None


def test_progress_sees_every_step(model):
    seen = []
    record(model, "a cat", progress=lambda step: seen.append(step.i), **OPTIONS)
    assert seen == [0, 1, 2]


def test_bad_input(model, tmp_path, trace):
    with pytest.raises(ValueError, match="at most 4 images"):
        record(model, "a cat", **{**OPTIONS, "seed": [1, 2, 3, 4, 5]})
    with pytest.raises(ValueError, match="thumbnail"):
        record(model, "a cat", thumbnail=0, **OPTIONS)
    with pytest.raises(ValueError, match="did you mean 'ddim'"):
        record(model, "a cat", sampler="dimm", **OPTIONS)
    with pytest.raises(ValueError, match=r"\.safetensors file"):
        trace.save(tmp_path / "trace.npz")


def test_files_that_are_no_traces(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match="no trace"):
        Trace.load(tmp_path / "nowhere.safetensors")
    arrays, other = load_file(saved), tmp_path / "other.safetensors"
    words = {"format": FORMAT, "label": '"live"', "settings": "{}", "tokens": "[]", "rows": "[{}, {}, {}]"}
    save_file(arrays, other, metadata=words)
    assert Trace.load(other).label == "recorded"
    for changes, message in [
        ({"format": "something else"}, "format"),
        ({"label": '"real"'}, "label"),
        ({"rows": "[{}]"}, "1 rows for 3 steps"),
        ({"rows": "3"}, "rows are none"),
        ({"settings": "{"}, "damaged"),
    ]:
        save_file(arrays, other, metadata={**words, **changes})
        with pytest.raises(OSError, match=message):
            Trace.load(other)
    save_file({**arrays, "x_0": arrays["x_0"].astype(np.float32)}, other, metadata=words)
    with pytest.raises(OSError, match="x_0 are no pictures"):
        Trace.load(other)
    save_file({**arrays, "pictures": arrays["pictures"][:1]}, other, metadata=words)
    with pytest.raises(OSError, match="1 pictures of 2"):
        Trace.load(other)
    other.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(OSError, match="damaged"):
        Trace.load(other)


def test_a_class_opens_it_without_diffusers(saved):
    code = f"""if True:
        import sys
        from diffusion_explained.stable_diffusion import Trace
        print(Trace.load({str(saved)!r}).label, {{"torch", "diffusers", "transformers"}} & set(sys.modules))
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "stand-in set()"


def test_small_pictures_keep_their_shape():
    image = torch.linspace(-1, 1, 64)[None, None, None].expand(1, 3, 32, 64)
    assert small(image, 16).shape == (1, 8, 16, 3) and small(image, 128).shape == (1, 64, 128, 3)
    assert small(image, 64).dtype == np.uint8 and small(image, 16)[0, 0, 0, 0] < small(image, 16)[0, 0, -1, 0]
