"""Recorded runs: what is kept, that a file gives it back, and that a file which is none is refused."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from diffusion_explained.samplers import SAMPLERS
from diffusion_explained.schedules import RATIO_SPACINGS, SPACINGS
from diffusion_explained.stable_diffusion import Trace, record, stand_in, trace_rules, traces
from diffusion_explained.stable_diffusion.recording import small
from diffusion_explained.stable_diffusion.trace_films import film_of_trace
from diffusion_explained.stable_diffusion.trace_rules import check_words
from diffusion_explained.stable_diffusion.traces import FORMAT, WORDS

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
    trace = record(model, "a cat", **{**OPTIONS, "guidance_scale": 1.0, "num_inference_steps": 2})
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


def written(path: Path, trace: Trace, **metadata: str) -> Path:
    """A trace's file with other metadata."""
    words = {name: json.dumps(getattr(trace, name)) for name in WORDS}
    arrays = {name: getattr(trace, name) for name in ("x_0", "latents", "pictures")}
    save_file(arrays, path, metadata={"format": FORMAT, **words, **metadata})
    return path


def test_files_that_are_no_traces(trace, saved, tmp_path):
    with pytest.raises(FileNotFoundError, match="no trace"):
        Trace.load(tmp_path / "nowhere.safetensors")
    other = tmp_path / "other.safetensors"
    assert Trace.load(written(other, trace)).label == "stand-in"
    assert Trace.load(written(other, trace, label='\ufeff"recorded"')).label == "recorded"  # a byte-order mark
    for changes, message in [
        ({"format": "diffusion_explained trace 2"}, "its format is 'diffusion_explained trace 2'"),
        ({"more": "1"}, "words that are not known: more"),
        ({"label": '"real"'}, "label of the trace must be one of live, recorded, stand-in, got 'real'"),
        ({"rows": "[{}]"}, "1 rows for 3 steps"),
        ({"rows": "3"}, "no rows for 3 steps"),
        ({"rows": "[" * 100_000}, "nested too deeply"),
        ({"settings": "{"}, "settings are not JSON"),
        ({"settings": json.dumps(trace.settings).replace("128", "NaN")}, "NaN, which is not a number"),
        ({"settings": json.dumps(trace.settings).replace("128", "1e999")}, "width of settings must be a whole number"),
        ({"settings": json.dumps({**trace.settings, "more": 1})}, "fields that are not known: ..more"),
    ]:
        with pytest.raises(OSError, match=message):
            Trace.load(written(other, trace, **changes))
    other.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(OSError, match="damaged"):
        Trace.load(other)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("x_0", np.zeros((3, 2, 16, 32, 3), np.float32), "not bytes"),
        ("x_0", np.zeros((3, 2, 16, 32, 4), np.uint8), "x_0 must be pictures"),
        ("x_0", np.zeros((3, 2, 16, 0, 3), np.uint8), "x_0 must be pictures"),
        ("x_0", np.zeros((0, 2, 16, 32, 3), np.uint8), "x_0 must be pictures"),
        ("x_0", np.zeros((3, 2, 16, 513, 3), np.uint8), "at most 512 pixels"),
        ("x_0", np.zeros((3, 2, 8, 32, 3), np.uint8), "its latents are"),
        ("x_0", np.zeros((3, 100_000, 1, 1, 3), np.uint8), "3 steps of 100,000 images; allowed are 1,000 of 4"),
        ("latents", np.zeros((3, 2, 16, 32, 3), np.uint8), "its latents are"),
        ("pictures", np.zeros((1, 64, 128, 3), np.uint8), "1 pictures for 2 images"),
        ("pictures", np.zeros((2, 64, 64, 3), np.uint8), "its settings say 64 x 128 pixels"),
        ("more", np.zeros(1, np.uint8), "its arrays are"),
    ],
)
def test_pictures_that_do_not_belong_together(trace, tmp_path, name, array, message):
    words = {"format": FORMAT, **{word: json.dumps(getattr(trace, word)) for word in WORDS}}
    arrays = {one: getattr(trace, one) for one in ("x_0", "latents", "pictures")} | {name: array}
    save_file(arrays, tmp_path / "t.safetensors", metadata=words)
    with pytest.raises(OSError, match=message):
        Trace.load(tmp_path / "t.safetensors")


def test_sizes_are_believed_only_as_far_as_the_file_goes(tmp_path, monkeypatch):
    """A header that declares more than there is costs nothing."""
    bomb, header = tmp_path / "bomb.safetensors", json.dumps({"x_0": {"dtype": "U8", "shape": [10**9, 2, 99, 99, 3]}})
    bomb.write_bytes((2**40).to_bytes(8, "little") + header.encode())
    with pytest.raises(OSError, match="declares a header of 1,099,511,627,776 bytes"):
        Trace.load(bomb)
    bomb.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(OSError, match="damaged"):
        Trace.load(bomb)
    bomb.write_bytes(b"")
    with pytest.raises(OSError, match="damaged"):
        Trace.load(bomb)
    monkeypatch.setattr(traces, "MOST_BYTES", 99)
    bomb.write_bytes(bytes(100))
    with pytest.raises(OSError, match="allowed are"):
        Trace.load(bomb)


def places(value, path=()):
    """The way to everything in nested lists and fields; of a list, to its first and its last."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    if isinstance(value, list):
        for k in sorted({0, len(value) - 1} - {-1}):
            yield from places(value[k], (*path, k))


def changed(value, path, new):
    """A copy with another value at the end of a way, or without it where new is ..."""
    if not path:
        return new
    key, *rest = path
    copy = value.copy()
    if new is ... and not rest:
        del copy[key]
    else:
        copy[key] = changed(value[key], rest, new)
    return copy


ODD = (None, [], {}, -1, 10**400, 1.5e300, float("nan"), True, "", "long " * 10**5, [None], [[]], [0] * 10**5, "\ud800")


@pytest.mark.parametrize("word", WORDS)
def test_every_field_is_checked(trace, tmp_path, word):
    """Every field of every part: null, lists, huge and negative numbers, texts and nothing at all get their words."""
    original = json.loads(json.dumps(getattr(trace, word)))
    shapes = {name: getattr(trace, name).shape for name in ("x_0", "latents", "pictures")}
    words = {name: json.loads(json.dumps(getattr(trace, name))) for name in WORDS}
    check_words(words, shapes)
    accepted = []
    for path in places(original):
        for odd in (*ODD, ...):
            if odd is ... and not path:
                continue
            odd_words = {**words, word: changed(original, list(path), odd)}
            try:
                check_words(odd_words, shapes)
            except ValueError as error:
                assert type(error) is ValueError and len(str(error)) < 2000, path
            else:
                film_of_trace(replace(trace, **odd_words))
                accepted.append((path[-1] if path else "all", odd))
    may = {
        "label": set(),
        "settings": {
            "negative",
            "parameters",
            "guidance_scale",
            "frames",
            "from_image",
            "inpainting",
            "preview_decoder",
            "resamplings",
            "spacing",
            "safety_checker_left_out",
            0,
        },
        "tokens": {"all", "cut", "pieces", "words", 0, 76, 3},  # [[]]: a pipeline that shows no tokens
        "rows": {"uncond_norm", "difference_norm", 0, 1},
    }
    assert {key for key, odd in accepted if odd is not ...} <= may[word], accepted


def test_levels_fall(trace):
    shapes = {name: getattr(trace, name).shape for name in ("x_0", "latents", "pictures")}
    words = {name: json.loads(json.dumps(getattr(trace, name))) for name in WORDS}
    for change in ({"t": words["rows"][0]["t"] + 1}, {"sigma": 100.0}, {"sigma": 0.0, "alpha": 0.0}, {"i": 0}):
        rows = changed(words["rows"], [1], {**words["rows"][1], **change})
        with pytest.raises(ValueError, match=r"row [12]"):
            check_words({**words, "rows": rows}, shapes)


def test_the_rules_know_every_sampler_and_spacing():
    assert sorted(trace_rules.SAMPLERS) == sorted(SAMPLERS)
    assert trace_rules.SPACINGS == SPACINGS + RATIO_SPACINGS


@pytest.mark.parametrize("spacing", [None, "karras"])
def test_the_spacing_is_kept(model, tmp_path, spacing):
    trace = record(model, "a cat", spacing=spacing, sampler="euler", num_inference_steps=2, height=64, width=64)
    again = Trace.load(trace.save(tmp_path / "t.safetensors"))
    assert again.settings["spacing"] == spacing
    assert [row["t"] for row in again.rows] == [level.t for level in model.levels(2, "euler", spacing)[:2]]


def test_a_file_of_an_earlier_release_does_not_name_its_spacing_and_is_read(trace, tmp_path):
    settings = {key: value for key, value in trace.settings.items() if key != "spacing"}
    earlier = replace(trace, settings=settings).save(tmp_path / "t.safetensors")
    assert Trace.load(earlier).settings == settings


def test_a_trace_says_whether_its_safety_checker_was_left_out(model, trace, tmp_path):
    assert trace.settings["safety_checker_left_out"] is False
    unchecked = replace(model, unchecked=True)
    made = record(unchecked, "a cat", thumbnail=8, num_inference_steps=2, height=64, width=64)
    assert Trace.load(made.save(tmp_path / "t.safetensors")).settings["safety_checker_left_out"] is True
    earlier = {key: value for key, value in trace.settings.items() if key != "safety_checker_left_out"}
    assert Trace.load(replace(trace, settings=earlier).save(tmp_path / "e.safetensors")).settings == earlier


def test_a_damaged_trace_says_what_to_do(trace, tmp_path):
    path = trace.save(tmp_path / "t.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(OSError, match=r"is damaged.* Copy it again, or record the run anew"):
        Trace.load(path)


def test_a_run_that_tells_the_network_one_whole_timestep_twice_is_read(model, tmp_path):
    """DPM-Solver++ rounds the times of "exponential" as diffusers does, so that two of 30 steps have the same time."""
    options = {"sampler": "dpm_solver_pp_2m", "spacing": "exponential", "num_inference_steps": 30}
    trace = record(model, "a cat", thumbnail=8, height=64, width=64, **options)
    assert len({row["t"] for row in trace.rows}) < 30
    assert Trace.load(trace.save(tmp_path / "t.safetensors")).rows == trace.rows


@pytest.mark.parametrize("seed", [np.int64(3), [np.int64(3), 4]])
def test_numpy_seeds_and_the_familys_own_guidance_scale_are_kept(model, tmp_path, seed):
    """`diffusion-explained record` without --guidance-scale gives None: what was used is kept."""
    trace = record(model, "a cat", num_inference_steps=2, height=64, width=64, seed=seed, guidance_scale=None)
    again = Trace.load(trace.save(tmp_path / "t.safetensors"))
    assert again.settings["seeds"][0] == 3
    assert again.settings["guidance_scale"] == model.default_guidance_scale


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
