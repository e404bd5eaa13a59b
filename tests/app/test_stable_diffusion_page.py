"""Stable Diffusion and Compare: the stand-in at work, recorded runs, what is missing, and bad input."""

import dataclasses
import io
import json
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
import single_file_layouts as layouts
import torch
from conftest import APP, LARGER, address, finished, pictures_of
from explorer import compared, fitting, jobs, loading, on_disk, page, stable, stable_sections
from explorer.cache import quiet
from explorer.loading import Loading
from explorer.runs import Settings
from hub_cache import put_into_cache
from PIL import Image
from safetensors.torch import save_file
from safety_checkers import list_checker, pickled_checker, whole_checker
from test_pages import film, frames, png
from test_preview_decoders import of_author, tiny
from test_refining import pipe_of_refiner
from test_single_files import pipe_of
from test_single_files import tiny as tiny_facts

from diffusion_explained import load_pretrained, stable_diffusion
from diffusion_explained.data import hub
from diffusion_explained.film import pixels
from diffusion_explained.samplers import SAMPLERS
from diffusion_explained.stable_diffusion import (
    NotEnoughMemoryError,
    Trace,
    WeightsUnavailableError,
    downloads,
    recording,
    save_stand_in,
    single_files,
)
from diffusion_explained.stable_diffusion.defaults import Defaults
from diffusion_explained.stable_diffusion.families import MICRO_TITLE
from diffusion_explained.stable_diffusion.pace import Pace
from diffusion_explained.stable_diffusion.pipeline_films import pipeline_of_trace, to_message
from diffusion_explained.stable_diffusion.trace_films import film_of_trace, side_by_side

QUICK = {"t2i_steps": "2"}


@pytest.fixture(autouse=True)
def a_machine_without_it(tmp_path, monkeypatch):
    """No weights in any cache, no network, and small pictures for the tests' time."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for module in (hub, downloads):
        monkeypatch.setattr(module, "hub_is_reachable", lambda: False)
    monkeypatch.setattr(stable, "usual", lambda name, loading=None: Defaults((64, 64), 3, 7.5, "ddim"))
    monkeypatch.setattr(stable, "first_choice", lambda: stable.STAND_IN)
    monkeypatch.setattr(jobs, "POLL", 0.1)
    kept = (stable.missing, stable.to_download, stable.is_xl, stable.refused_refiner, on_disk.there, fitting.told)
    for one in kept:
        one.clear()
    yield
    for one in kept:
        one.clear()


@pytest.fixture(scope="module")
def model():
    return stable_diffusion.stand_in()


@pytest.fixture(scope="module")
def trace(model):
    return stable_diffusion.record(model, "a cat", num_inference_steps=3, height=64, width=64, seed=[4, 9])


@pytest.fixture
def live_file(trace, tmp_path):
    """What a machine with a GPU would hand out."""
    return dataclasses.replace(trace, label="live").save(tmp_path / "cat.safetensors").read_bytes()


def press(at, label):
    at.button[[button.label for button in at.button].index(label)].click().run()
    return finished(at)


def said(elements):
    return " ".join(element.value for element in elements)


def alive(at):
    """The page goes on: the next run of good settings is shown."""
    at.number_input(key="t2i_seed").set_value(at.number_input(key="t2i_seed").value + 1).run()
    press(at, "Run")
    assert not at.error and not at.exception
    assert len(film(at)["captions"]) >= 2


# -- the page, with the stand-in ----------------------------------------------------------------------------


def test_no_page_imports_diffusers_before_one_computes_with_it():
    code = f"""
import sys
sys.path.insert(0, {str(APP)!r})
from streamlit.testing.v1 import AppTest
from explorer import compared, stable, stable_sections, start_pictures
at = AppTest.from_file({str(APP / "main.py")!r}, default_timeout=300).run()
assert not at.exception
at.switch_page("pages_/text_to_image.py")
at.session_state["sd_chosen"] = "recorded"
at.run()
assert not at.exception
print(sorted({{"diffusers", "transformers"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_it_answers_at_once_says_what_is_missing_and_shows_the_stand_in(open_page):
    at = finished(open_page(LARGER))
    assert not at.error and not at.warning and not at.exception
    assert "stand-in" in said(at.markdown) and "do not expect a picture" in said(at.markdown)
    assert "are not on this machine" in said(at.markdown) and "2.7 GB" in said(at.markdown)
    assert [heading.value for heading in at.header] == ["The first latent", "The picture", "Try", "Predict first"]
    assert "8 × 8 × 4 = 256 values for a picture of 64 × 64 × 3 = 12,288: 48 times fewer" in said(at.caption)
    assert "Takes about" in said(at.caption)
    message = film(at)
    (run,) = message["runs"]
    (tokens,) = run["tokens"]
    assert (tokens["length"], tokens["used"], run["text_shape"]) == (77, 11, [77, 32])
    assert message["titles"] == ["predicted x₀, decoded"] and len(message["captions"]) == 4
    assert run["panels"] == ["latent"] and len(run["sides"]) == len(run["weights"]) == 4 and run["count"] == 3
    assert [chart["x_label"] for chart in message["charts"]] == ["step", "step"]
    pictures = pictures_of(at)
    assert len(pictures) >= 2 and all(alt for alt, _ in pictures), "every picture has its words"


def test_it_shows_what_the_library_records(open_page, model):
    at = finished(open_page(LARGER, t2i_steps="3", t2i_seed="5", t2i_count="2", t2i_sampler="euler", t2i_w="4.0"))
    known = stable_diffusion.record(
        model, "a photo of an astronaut riding a horse", guidance_scale=4.0, num_inference_steps=3, seed=[5, 6],
        sampler="euler", height=64, width=64, thumbnail=stable.THUMBNAIL,
    )  # fmt: skip
    message, side = film(at), stable.THUMBNAIL
    for k, (shown, state) in enumerate(zip(frames(message), frames(message["runs"][0]["fields"]), strict=True)):
        np.testing.assert_allclose(state[0][:side, :side, :3].astype(int), known.latents[k, 0], atol=1)
        np.testing.assert_allclose(shown[0][:side, -side:, :3].astype(int), known.x_0[min(k, 2), 1], atol=1)
    norms, difference = message["charts"]
    for k, row in enumerate(known.rows):
        assert norms["curves"][0]["y"][k] == pytest.approx(np.mean(row["cond_norm"]), rel=1e-3)
        assert difference["curves"][0]["y"][k] == pytest.approx(np.mean(row["difference_norm"]), rel=1e-2)
    assert "seeds 5, 6" in said(at.caption)


@pytest.mark.parametrize(
    "change",
    [
        {"t2i_prompt": "a castle"},
        {"t2i_negative": "blurry"},
        {"t2i_w": "1.0"},
        {"t2i_seed": "7"},
        {"t2i_sampler": "heun"},
    ],
)
def test_every_setting_changes_the_outcome(open_page, change):
    before = film(finished(open_page(LARGER, **QUICK)))
    after = film(finished(open_page(LARGER, **QUICK, **change)))
    assert before["frames"] != after["frames"]
    assert len(after["charts"]) == (1 if change.get("t2i_w") == "1.0" else 2), "no difference without guidance"


def test_other_settings_are_run_when_the_visitor_asks(open_page):
    at = finished(open_page(LARGER, **QUICK))
    shown = film(at)["key"]
    at.slider(key="t2i_steps").set_value(3).run()
    assert film(at)["key"] == shown and "other settings" in said(at.caption)
    press(at, "Run")
    assert len(film(at)["captions"]) == 4 and "other settings" not in said(at.caption)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_runs(open_page, sampler):
    at = finished(open_page(LARGER, t2i_steps="2", t2i_sampler=sampler))
    assert not at.error and len(film(at)["captions"]) == 3


def test_the_same_in_python_is_the_same(open_page):
    at = finished(open_page(LARGER, t2i_steps="2", t2i_negative="blurry"))
    scope: dict = {}
    exec(at.code[0].value, scope)
    assert scope["pictures"].shape == (1, 3, 64, 64) and scope["steps"][-1].i == 1


def test_a_run_can_be_stopped_and_another_begun(open_page, monkeypatch):
    slow = threading.Event()
    record = recording.record

    def waiting(model, prompt, *, progress, **options):
        while not slow.wait(0.02):
            progress(type("Step", (), {"i": 0, "x_t": torch.zeros(1, 4, 8, 8)}))
        return record(model, prompt, progress=progress, **options)

    at = finished(open_page(LARGER, **QUICK))
    monkeypatch.setattr(recording, "record", waiting)
    at.number_input(key="t2i_seed").set_value(99).run()
    at.button[[button.label for button in at.button].index("Run")].click().run()
    assert at.get("progress"), "the page is usable while the run goes on"
    at.text_input(key="t2i_negative").set_value("blurry").run()
    assert at.get("progress") and len(film(at)["captions"]) == 3
    press(at, "Stop")
    assert "stopped" in said(at.info) and not at.error
    slow.set()
    alive(at)


def waiting_film(at):
    """The film's number of frames, the frame, and the name of the frame in the address."""
    messages = (json.loads(element.proto.json) for element in at.get("bidi_component"))
    (message,) = [one for one in messages if "film" in one]
    return len(message["film"]["captions"]), message["frame"], message["name"]


@pytest.mark.parametrize("name, key", [(LARGER, "t2i_steps"), ("compare", "compare_steps")])
def test_a_recorded_run_is_shown_at_once_and_leaves_the_frame_of_the_address_to_the_visitors(
    open_page, monkeypatch, name, key
):
    with monkeypatch.context() as before_it_ends:
        before_it_ends.setattr(stable_sections, "begin", lambda job: None)
        at = open_page(name, **{key: "2", "frame": "0"})
    assert waiting_film(at) == (13, 12, "") and "a trained model made this run earlier" in said(at.markdown)
    if name == "compare":
        assert film(at)["titles"][2].startswith("micro: ") and "when it was recorded" in said(at.markdown)
    at = press(at, "Run" if name == LARGER else "Run both")
    assert waiting_film(at) == (3, 0, "frame") and "made this run earlier" not in said(at.markdown)


# -- micro, the embedded default ----------------------------------------------------------------------------


def test_micro_is_offered_first_and_chosen_where_nothing_larger_can_run(open_page, monkeypatch):
    monkeypatch.undo()  # what a visitor's machine has, which has no GPU
    monkeypatch.setattr(stable, "on_cpu", lambda: True)
    assert [list(stable.MODELS)[k] for k in (0, -1)] == [stable.MICRO, stable.STAND_IN]
    assert stable.first_choice() == stable.MICRO
    at = open_page("text_to_image", **QUICK)
    assert not at.error and not at.warning and not at.exception, "it runs by itself, and no GPU is asked for"
    assert "trained on emoji" in said(at.markdown) and "live" in said(at.markdown)
    assert "Full Stable Diffusion: what is missing here, and what to do" in [one.label for one in at.expander]
    at = open_page("compare", compare_steps="2")
    assert at.selectbox(key="sd_model").value == stable.MICRO


def test_choosing_a_model_brings_its_usual_settings_but_keeps_the_visitors_words(open_page, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(stable, "on_cpu", lambda: True)
    monkeypatch.setattr(stable_sections, "begin", lambda job: None)
    at = open_page("text_to_image", **QUICK, t2i_seed="7")
    first = at.text_input(key="t2i_prompt").value
    of_micro = at.slider(key="t2i_w").value, at.number_input(key="t2i_count").value
    at.selectbox(key="sd_model").set_value(stable.STAND_IN).run()
    assert (at.number_input(key="width").value, at.slider(key="t2i_w").value) == (256, 7.5)
    assert (at.slider(key="t2i_steps").value, at.number_input(key="t2i_count").value) == (12, 1)
    assert at.text_input(key="t2i_prompt").value == stable.usual(stable.STAND_IN).prompt != first
    assert at.number_input(key="t2i_seed").value == 7, "the request stays the same"
    at.text_input(key="t2i_prompt").set_value("my own words").run()
    at.selectbox(key="sd_model").set_value(stable.MICRO).run()
    assert at.text_input(key="t2i_prompt").value == "my own words" and at.number_input(key="t2i_seed").value == 7
    assert (at.slider(key="t2i_w").value, at.number_input(key="t2i_count").value) == of_micro == (2.0, 4)


def test_a_distilled_model_is_asked_for_its_own_settings(open_page, monkeypatch, tmp_path):
    """A Turbo takes one step without guidance; a card's 0.0 is not what 0 is here, and a caption says so."""
    monkeypatch.undo()
    monkeypatch.setattr(stable, "on_cpu", lambda: False)
    folder = save_stand_in(tmp_path / "xl-turbo", "sdxl")
    at = open_page("text_to_image", sd_model=stable.OTHER, sd_name=str(folder))
    found = [at.slider(key=key).value for key in ("t2i_steps", "t2i_w")], at.selectbox(key="t2i_sampler").value
    assert found == ([1, 1.0], "euler_ancestral") and at.number_input(key="width").value == 1024
    assert "card says 0.0" not in said(at.caption)
    at.slider(key="t2i_w").set_value(0.0).run()
    assert "card says 0.0" in said(at.caption)


def test_without_its_weights_the_stand_in_is_embedded(monkeypatch):
    monkeypatch.undo()
    with monkeypatch.context() as patched:
        patched.setattr(stable, "missing", lambda name: "not here")
        assert stable.embedded() == stable.first_choice() == stable.STAND_IN


# -- words --------------------------------------------------------------------------------------------------


def test_500_words_are_cut_and_what_was_cut_is_shown(open_page):
    at = finished(open_page(LARGER, **QUICK))
    at.text_input(key="t2i_prompt").set_value("cat " * 499 + "castle").run()
    press(at, "Run")
    (tokens,) = film(at)["runs"][0]["tokens"]
    assert tokens["length"] == tokens["used"] == 77 and tokens["cut"].endswith("castle")
    assert at.warning[0].value.rstrip().endswith("cat castle") and "cut off" in at.warning[0].value


@pytest.mark.parametrize("prompt", ["", "   ", "Кот и 猫 🐱 <b>&amp;$x$"])
def test_empty_and_foreign_prompts_are_answered(open_page, prompt):
    at = finished(open_page(LARGER, **QUICK))
    at.text_input(key="t2i_prompt").set_value(prompt).run()
    press(at, "Run")
    assert not at.error and not at.exception
    assert ("The prompt is empty" in said(at.info)) == (not prompt.strip())
    shown = [chip["word"] for chip in film(at)["runs"][0]["tokens"][0]["chips"]]
    assert shown[-1].startswith("padding ×") and ("<" in "".join(shown)) == bool(prompt.strip())


# -- a picture to start from --------------------------------------------------------------------------------


def test_image_to_image_takes_the_share_of_the_steps_and_inpainting_keeps_the_rest(open_page):
    at = finished(open_page(LARGER, t2i_steps="4"))
    at.selectbox(key="start").set_value("a picture").run()
    at.slider(key="strength").set_value(0.5).run()
    press(at, "Run")
    assert not at.error and len(film(at)["captions"]) == 3
    assert "strength=0.5" in at.code[0].value and "image=image" in at.code[0].value
    shown = film(at)["key"]
    at.selectbox(key="start").set_value("a picture with a hole").run()
    at.selectbox(key="hole").set_value("a rectangle").run()
    at.slider(key="across").set_value((0, 50)).run()
    press(at, "Run")
    assert not at.error and len(film(at)["captions"]) == 5 and film(at)["key"] != shown
    assert "mask=mask" in at.code[0].value


def test_a_mask_is_shown_as_it_was_understood_and_an_ambiguous_one_is_refused(open_page):
    at = open_page(LARGER, **QUICK, start="a picture with a hole", source="a CIFAR-10 picture",
                   hole="from a file")  # fmt: skip
    ink = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    ink.paste((0, 0, 0, 255), (0, 0, 64, 16))
    out = io.BytesIO()
    ink.save(out, "PNG")
    at.file_uploader(key="mask_upload").upload("m.png", out.getvalue(), "image/png").run()
    words = at.error[0].value.replace("\\", "")
    assert "This mask cannot be used, so the run starts from pure noise: Nothing of the mask is white" in words
    at.toggle(key="mask_invert").set_value(True).run()
    assert not at.error and not at.exception
    assert "25% of the picture is painted anew, where the mask is black. Its transparent parts are kept." in said(
        at.caption
    )
    assert any("white is painted anew" in one.proto.body for one in at.get("html"))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"width": 250}, "multiples of 8"),
        ({"width": 1, "height": 1}, "multiples of 8"),
        ({"start": "a picture", "strength": 0.0}, "leaves none of 2 steps"),
    ],
    ids=["250 wide", "1 x 1", "strength 0"],
)
def test_bad_settings_get_the_engines_words_and_the_page_lives_on(open_page, changes, words):
    at = finished(open_page(LARGER, **QUICK))
    good = {key: at.number_input(key=key).value for key in ("width", "height")}
    if "start" in changes:
        at.selectbox(key="start").set_value(changes["start"]).run()
        at.slider(key="strength").set_value(changes["strength"])
    for key in good:
        at.number_input(key=key).set_value(changes.get(key, good[key]))
    at.run()
    press(at, "Run")
    assert words in at.error[0].value and not at.exception
    if "start" in changes:
        at.slider(key="strength").set_value(1.0)
    for key, value in good.items():
        at.number_input(key=key).set_value(value)
    alive(at)


def test_a_file_that_is_no_picture_and_a_mask_of_another_size(open_page):
    at = finished(open_page(LARGER, **QUICK))
    at.selectbox(key="start").set_value("a picture with a hole").run()
    at.selectbox(key="source").set_value("my own file").run()
    assert "until then the run starts from pure noise" in said(at.info)
    at.file_uploader(key="start_upload").upload("a.png", b"this is a text", "image/png").run()
    assert "not a picture" in at.error[0].value
    at.selectbox(key="source").set_value("a CIFAR-10 picture").run()
    at.selectbox(key="hole").set_value("from a file").run()
    at.file_uploader(key="mask_upload").upload("m.png", png((20, 30)), "image/png").run()
    press(at, "Run")
    assert "The mask must be as large as the picture" in at.error[0].value.replace("\\", "")
    at.file_uploader(key="mask_upload").set_value(None)
    alive(at)


def test_too_little_memory_is_said_and_the_page_lives_on(open_page, monkeypatch):
    at = finished(open_page(LARGER, **QUICK))
    record = recording.record

    def full(*args, **options):
        raise NotEnoughMemoryError("The memory did not suffice. Reduce the number of images or their size.")

    monkeypatch.setattr(recording, "record", full)
    press(at, "Run")
    assert "Reduce the number of images" in at.error[0].value and film(at)
    monkeypatch.setattr(recording, "record", record)
    alive(at)


# -- what is not here ---------------------------------------------------------------------------------------


def test_a_model_that_is_missing_is_said_with_what_to_do_and_nothing_is_fetched(open_page, monkeypatch):
    at = finished(open_page(LARGER, **QUICK))
    at.selectbox(key="sd_model").set_value(stable.DEFAULT_MODEL).run()
    assert "no network" in at.warning[0].value and "hf download" in at.warning[0].value
    assert not [button for button in at.button if "Download" in button.label or button.label == "Run"]
    assert len(film(at)["captions"]) == 3, "the stand-in's run stays to be seen"


def test_a_download_states_its_size_and_waits_for_its_button(open_page, monkeypatch):
    fetched: list[str] = []
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(stable, "download_size", lambda name, **of: 2.7)
    monkeypatch.setattr(downloads, "fetch", lambda name, **of: fetched.append(name))
    at = finished(open_page(LARGER, **QUICK))
    at.selectbox(key="sd_model").set_value(stable.DEFAULT_MODEL).run()
    assert fetched == []
    press(at, "Download 2.7 GB")
    assert fetched == [stable.DEFAULT_MODEL] and not at.error


def test_a_download_that_fails_says_why(open_page, monkeypatch):
    def fetch(name, **of):
        raise WeightsUnavailableError("Downloading it failed: accept its licence.")

    monkeypatch.setattr(hub, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(stable, "download_size", lambda name, **of: 2.7)
    monkeypatch.setattr(downloads, "fetch", fetch)
    at = finished(open_page(LARGER, **QUICK))
    at.selectbox(key="sd_model").set_value(stable.DEFAULT_MODEL).run()
    press(at, "Download 2.7 GB")
    assert "accept its licence" in at.error[0].value


def another(at, name):
    at.selectbox(key="sd_model").set_value(stable.OTHER).run()
    return at.text_input(key="sd_name").set_value(str(name)).run()


def test_a_folder_is_loaded_and_measured_before_it_runs_on_a_cpu(open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(stable, "on_cpu", lambda: True)
    save_stand_in(tmp_path / "pipeline")
    at = another(finished(open_page(LARGER, **QUICK)), tmp_path / "pipeline")
    assert "takes minutes" in at.warning[0].value and "Run" not in [button.label for button in at.button]
    assert re.search(
        r"0.0 GB of weights in float32, and about \S+ GB \(estimated\) .* are free on cpu", said(at.caption)
    )
    press(at, "Load it, and measure")
    assert not at.error and "Takes about" in said(at.caption)
    press(at, "Run")
    assert page.literal(str(tmp_path / "pipeline")) in said(at.caption) and "stand-in" in said(at.markdown)


def test_a_model_that_does_not_fit_is_said_and_one_with_offload_or_without_t5_is_loaded_so(tmp_path, monkeypatch):
    folder = str(save_stand_in(tmp_path / "sd3", "sd3", t5=True))
    found = stable_diffusion.forecast(folder)
    half = found.need("float16")
    monkeypatch.setattr(fitting, "choose_device", lambda: torch.device("cuda"))
    free = {"free": half.peak}
    monkeypatch.setattr(fitting, "room_on", lambda device: free["free"])

    def options(**chosen):
        return fitting.options(folder, Loading(**chosen))

    def words(**chosen):
        return fitting.words(folder, Loading(**chosen), 64, 64, 1, 5.0)

    assert options() == {} and options(dtype="bfloat16", fast=True) == {"dtype": "bfloat16", "fast": True}
    free["free"] = half.peak - 1
    assert options() == {"offload": True}
    assert options(offload=False) == {"t5": False}
    assert options(fast=True) == {"fast": True, "t5": False}
    assert options(float8=True, in_parts=True) == {"slicing": True, "tiling": True, "float8": True}
    assert "parts move to the GPU" in words()[0] and "layers in float8" in words(float8=True)[0]
    monkeypatch.setattr(stable, "choose_device", lambda: "cuda")
    assert stable.in_python(folder) == f"load({folder!r}, device='cuda', offload=True)"
    free["free"] = 10
    said, fits = words()
    assert not fits and "Nothing of it fits" in said and options() == {}
    assert fitting.words(str(tmp_path), Loading(), 64, 64, 1, 5.0) == ("", True)


def test_how_a_model_is_loaded_is_chosen_on_the_page_and_is_what_runs(open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(stable, "on_cpu", lambda: False)
    folder = save_stand_in(tmp_path / "model")
    at = another(finished(open_page(LARGER, **QUICK)), folder)
    assert not {"sd_offload", "sd_fast"} & {one.key for one in (*at.selectbox, *at.toggle)}, "there is no GPU here"
    assert "Offload is not available: it moves parts" in said(at.caption) and "Fast is not available" in said(
        at.caption
    )
    at.selectbox(key="sd_dtype").set_value("bfloat16").run()
    at.toggle(key="sd_float8").set_value(True)
    at.toggle(key="sd_in_parts").set_value(True).run()
    press(at, "Run")
    run = at.session_state.sd_drawn
    assert not at.error and run.trace.settings["dtype"] == "bfloat16, float8"
    called = f"load({str(folder)!r}, device='cpu', dtype='bfloat16', slicing=True, tiling=True, float8=True)"
    assert called in at.code[0].value
    scope: dict = {}
    exec(at.code[0].value, scope)
    assert np.abs(pixels(scope["pictures"])[..., :3].astype(int) - run.trace.pictures).max() <= 1
    again = open_page("compare", **address(at))
    assert called in again.code[0].value, "the address says how"
    at.query_params.clear()
    at.switch_page("pages_/compare.py").run()
    assert at.selectbox(key="sd_dtype").value == "bfloat16" and called in at.code[0].value, "and other pages keep it"


def test_fast_and_offload_are_refused_together_and_another_way_takes_the_place_of_the_first(
    open_page, tmp_path, monkeypatch
):
    gpu = type("Gpu", (), {"type": "cuda", "__str__": lambda self: "cpu"})()  # one that computes on the CPU
    monkeypatch.setattr(stable, "on_cpu", lambda: False)
    for module in (loading, fitting):
        monkeypatch.setattr(module, "choose_device", lambda: gpu)
    monkeypatch.setattr(fitting, "room_on", lambda device: 10**12)
    folder = save_stand_in(tmp_path / "model")
    at = another(finished(open_page(LARGER, **QUICK)), folder)
    press(at, "Run")
    assert stable.loaded(str(folder)) is not None
    at.selectbox(key="sd_dtype").set_value("float32").run()
    press(at, "Run")
    assert not at.error and stable.loaded(str(folder)) is None, "both would not fit at once"
    at.selectbox(key="sd_offload").set_value("on").run()
    at.toggle(key="sd_fast").set_value(True).run()
    assert "switch one of them off" in at.warning[0].value and "Run" not in [button.label for button in at.button]
    assert (address(at)["sd_offload"], address(at)["sd_fast"]) == (["on"], ["true"])


def test_a_preview_decoder_draws_the_steps_and_one_for_other_latents_is_refused(open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(stable, "on_cpu", lambda: False)
    folder, vae = save_stand_in(tmp_path / "model"), tiny()
    (tmp_path / "approx").mkdir()
    save_file(of_author(vae), tmp_path / "approx" / "taesd_decoder.safetensors")
    at = another(finished(open_page(LARGER, **QUICK)), folder)
    at.text_input(key="sd_preview").set_value(str(tmp_path / "approx")).run()
    press(at, "Run")
    trace = at.session_state.sd_drawn.trace
    assert not at.error and trace.settings["preview_decoder"] == "taesd_decoder"
    assert "steps drawn by taesd" in said(at.caption).replace("\\", "")
    assert "preview_decoder=" in at.code[0].value and stable.loaded(str(folder)).model.preview_decoder is None
    save_file(of_author(tiny(16)), tmp_path / "taesd3.safetensors")
    at.text_input(key="sd_preview").set_value(str(tmp_path / "taesd3.safetensors")).run()
    press(at, "Run")
    assert "is taesd3, and the latents of Stable Diffusion 1.x or 2.x need taesd" in at.error[0].value.replace("\\", "")


def test_a_folder_with_several_models_lets_the_visitor_choose_and_says_what_cannot_be_used(open_page, tmp_path):
    for name in ("b", "a"):
        save_stand_in(tmp_path / "models" / "checkpoints" / name)
    (tmp_path / "models" / "checkpoints" / "old.ckpt").write_bytes(b"pickle")
    at = another(finished(open_page(LARGER, **QUICK)), tmp_path)
    chosen = at.selectbox(key="sd_found")
    assert chosen.value == str(tmp_path / "models/checkpoints/a") and len(chosen.options) == 2
    assert re.match(r"b · Stable Diffusion 1.x or 2.x · \d+\.\d MB · fits", chosen.options[1])
    assert "**old.ckpt**: Pickled weights can run code" in said(at.markdown)
    chosen.set_value(str(tmp_path / "models/checkpoints/b")).run()
    assert f"load({str(tmp_path / 'models/checkpoints/b')!r}" in at.code[0].value


def test_without_a_name_the_hubs_cache_is_offered(open_page, tmp_path):
    put_into_cache(tmp_path / "hub", "owner/model", save_stand_in(tmp_path / "stand_in"))
    at = finished(open_page("text_to_image", sd_model=stable.OTHER, **QUICK))
    assert at.selectbox(key="sd_found").value == "owner/model" and "load('owner/model'" in at.code[0].value


def test_a_lora_is_added_for_a_run_and_taken_away_and_another_models_is_refused(open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(stable, "on_cpu", lambda: False)
    folder, rank = save_stand_in(tmp_path / "model"), 2
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
    network = stable_diffusion.load(folder, device="cpu").network
    out, into = network.get_submodule(layer.removeprefix("unet.")).weight.shape
    for name, width in (("own", into), ("foreign", into + 1)):
        a, b = torch.linspace(-9, 9, rank * width).view(rank, width), torch.linspace(-9, 9, out * rank).view(out, rank)
        pair = {f"{layer}.lora_A.weight": a, f"{layer}.lora_B.weight": b}
        save_file(pair, tmp_path / f"{name}.safetensors")
    at = another(finished(open_page(LARGER, **QUICK)), folder)
    press(at, "Run")
    without = at.session_state.sd_drawn.trace
    at.text_input(key="sd_lora").set_value(str(tmp_path / "own.safetensors")).run()
    at.slider(key="sd_lora_scale").set_value(0.5).run()
    press(at, "Run")
    worn = at.session_state.sd_drawn.trace
    assert worn.settings["model"].endswith("own (0.5)") and not np.array_equal(worn.pictures, without.pictures)
    assert "load_lora(" in at.code[0].value and "scale=0.5)" in at.code[0].value
    assert stable.loaded(str(folder)).model.loras == {}
    at.text_input(key="sd_lora").set_value(str(tmp_path / "foreign.safetensors")).run()
    press(at, "Run")
    assert "is a LoRA for" in at.error[0].value and stable.loaded(str(folder)).model.loras == {}
    press(at, "Remove the LoRA")
    press(at, "Run")
    assert not at.error and np.array_equal(at.session_state.sd_drawn.trace.pictures, without.pictures)


def test_new_words_are_read_for_a_run_and_taken_away_and_another_models_are_refused(open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(stable, "on_cpu", lambda: False)
    folder, words = save_stand_in(tmp_path / "model"), tmp_path / "embeddings"
    words.mkdir()
    save_file({"<furry>": torch.linspace(-1, 1, 64).view(2, 32)}, words / "a.safetensors")
    save_file({"emb_params": torch.ones(1, 768)}, words / "wide.safetensors")
    at = another(finished(open_page(LARGER, **QUICK)), folder)
    at.text_input(key="t2i_prompt").set_value("a <furry> cat")
    at.text_input(key="sd_embedding").set_value(str(words)).run()
    assert at.get("pills") and r"New word: **\<furry\>**" in said(at.caption)
    press(at, "Run")
    drawn = at.session_state.sd_drawn.trace
    assert "<furry>_1" in drawn.tokens[0][0]["pieces"] and "load_embedding(" in at.code[0].value
    model = stable.loaded(str(folder)).model
    assert "<furry>" not in model.pipe.tokenizer.get_vocab()
    scope: dict = {}
    exec(at.code[0].value, scope)
    assert np.abs(pixels(scope["pictures"])[..., :3].astype(int) - drawn.pictures).max() <= 1
    at.text_input(key="sd_embedding").set_value(str(words / "wide.safetensors")).run()
    assert "New word: **wide**" in said(at.caption)
    press(at, "Run")
    assert "has vectors of 768 numbers, as Stable Diffusion 1" in at.error[0].value
    at.text_input(key="sd_embedding").set_value(str(folder / "unet" / "diffusion_pytorch_model.safetensors")).run()
    assert "is no textual inversion" in at.warning[0].value


def test_a_single_file_takes_its_parts_its_prediction_and_its_autoencoder_on_the_page(open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(stable, "on_cpu", lambda: False)
    monkeypatch.setattr(single_files, "facts_of", tiny_facts)
    pipe, file = pipe_of("sd21_v"), tmp_path / "odd.safetensors"
    layouts.write(file, layouts.unet(pipe.unet))
    pipe.save_pretrained(tmp_path / "whole")
    layouts.write(tmp_path / "vae.safetensors", layouts.vae(pipe.vae))
    at = another(finished(open_page(LARGER, **QUICK)), file)
    assert "nothing in it says what its network predicts" in at.warning[0].value
    at.selectbox(key="sd_prediction").set_value("v").run()
    assert "but no vae, text\\_encoder" in at.warning[0].value
    at.text_input(key="sd_parts_from").set_value(str(tmp_path / "none")).run()
    assert "There is no folder" in at.warning[0].value
    at.text_input(key="sd_parts_from").set_value(str(tmp_path / "whole")).run()
    at.text_input(key="sd_vae").set_value(str(file)).run()
    assert "holds no autoencoder" in at.warning[0].value and "Run" not in [button.label for button in at.button]
    at.text_input(key="sd_vae").set_value(str(tmp_path / "vae.safetensors")).run()
    press(at, "Run")
    assert not at.error and at.session_state.sd_drawn.trace.settings["model"] == str(file)
    options = f"vae={str(tmp_path / 'vae.safetensors')!r}, parts_from={str(tmp_path / 'whole')!r}, prediction='v'"
    assert options in at.code[0].value
    again = open_page("compare", **address(at))
    assert options in again.code[0].value, "the address says it"


def test_a_refiner_takes_the_last_steps_and_what_is_none_is_refused(open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(stable, "on_cpu", lambda: False)
    base = save_stand_in(tmp_path / "xl", "sdxl")
    pipe_of_refiner().save_pretrained(tmp_path / "refiner")
    at = another(finished(open_page(LARGER, **QUICK)), base)
    at.text_input(key="sd_refiner").set_value(str(base)).run()
    assert "A refiner belongs to Stable Diffusion XL" in at.warning[0].value
    at.text_input(key="sd_refiner").set_value(str(tmp_path / "refiner")).run()
    at.slider(key="sd_refiner_start").set_value(0.5).run()
    press(at, "Run")
    drawn = at.session_state.sd_drawn.trace
    assert not at.error and drawn.settings["model"] == f"{base} + {tmp_path / 'refiner'}"
    scope: dict = {}
    exec(at.code[0].value, scope)
    assert np.abs(pixels(scope["pictures"])[..., :3].astype(int) - drawn.pictures).max() <= 1
    at.text_input(key="sd_vae").set_value("none.safetensors").run()
    assert "There is no file" in at.warning[0].value and at.text_input(key="sd_refiner").value, "the rest stays"
    another(at, save_stand_in(tmp_path / "sd"))
    assert "sd_refiner" not in {one.key for one in at.text_input}, "a refiner goes with Stable Diffusion XL only"


def test_a_model_that_is_named_brings_its_own_settings(open_page, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(stable, "on_cpu", lambda: False)
    folder = save_stand_in(tmp_path / "xl-turbo", "sdxl")
    at = another(open_page("text_to_image", sd_model=stable.OTHER, t2i_steps="7"), folder)
    found = at.slider(key="t2i_steps").value, at.slider(key="t2i_w").value, at.number_input(key="width").value
    assert found == (1, 1.0, 1024)
    at.slider(key="t2i_steps").set_value(3).run()
    assert at.slider(key="t2i_steps").value == 3


# -- the safety checker -------------------------------------------------------------------------------------


def checker_of(at):
    """The control, or None."""
    return next((one for one in at.toggle if one.key == "sd_checker"), None)


def test_a_download_has_the_safety_checker_or_not_as_the_visitor_chooses(open_page, monkeypatch):
    fetched: list[object] = []
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(downloads, "fetch", lambda name, *, safety_checker: fetched.append(safety_checker))
    at = open_page("text_to_image", sd_model=stable.DEFAULT_MODEL)
    assert checker_of(at).value is True
    press(at, "Download 2.7 GB")
    checker_of(at).set_value(False).run()
    press(at, "Download 2.1 GB")
    assert fetched == [None, False] and not at.error


@pytest.mark.parametrize("damage", [list_checker, pickled_checker])
def test_a_model_whose_safety_checker_is_missing_or_pickled_runs_without_it(open_page, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(stable, "on_cpu", lambda: False)
    damage(save_stand_in(tmp_path / "model"))
    at = another(finished(open_page(LARGER, **QUICK)), tmp_path / "model")
    assert "safety_checker" in at.warning[0].value.replace("\\", "")
    assert "Run" not in [button.label for button in at.button]
    checker_of(at).set_value(False).run()
    press(at, "Run")
    run = at.session_state.sd_drawn
    assert not at.error and run.trace.settings["model"] == str(tmp_path / "model")
    assert run.notices == (stable.UNCHECKED,) and stable.UNCHECKED in said(at.warning)
    assert ", safety_checker=False)" in at.code[0].value and address(at)["sd_checker"] == ["false"]
    for name in ("text_to_image", "compare"):
        again = open_page(name, **address(at))
        assert checker_of(again).value is False and "safety_checker=False)" in again.code[0].value
    at.query_params.clear()
    at.switch_page("pages_/compare.py").run()
    assert checker_of(at).value is False, "the choice goes with the model from page to page"


def test_a_run_with_the_other_choice_of_the_safety_checker_is_another_run(open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(stable, "on_cpu", lambda: False)
    whole_checker(save_stand_in(tmp_path / "model"))
    at = another(finished(open_page(LARGER, **QUICK)), tmp_path / "model")
    press(at, "Run")
    assert stable.UNCHECKED not in said(at.warning) and "safety_checker" not in at.code[0].value
    checker_of(at).set_value(False).run()
    assert "other settings" in said(at.caption)
    press(at, "Run")
    assert "other settings" not in said(at.caption) and stable.UNCHECKED in said(at.warning)
    name = str(tmp_path / "model")
    assert stable.loaded(name).model.pipe.safety_checker is not None
    assert stable.loaded(name, Loading(safety_checker=False)).model.pipe.safety_checker is None


def test_the_comparison_runs_without_a_safety_checker_too(open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(stable, "on_cpu", lambda: False)
    pickled_checker(save_stand_in(tmp_path / "model"))
    at = another(finished(open_page("compare", compare_steps="2")), tmp_path / "model")
    checker_of(at).set_value(False).run()
    press(at, "Run both")
    assert "no picture is checked" in said(at.caption)
    assert not at.error and at.session_state.sd_compared.trace.settings["model"] == str(tmp_path / "model")


def test_the_control_is_shown_only_for_models_that_may_ship_a_safety_checker(open_page, tmp_path):
    at = finished(open_page(LARGER, **QUICK))
    shown = {}
    for kind in [kind for kind in stable.MODELS if kind != stable.OTHER]:
        at.selectbox(key="sd_model").set_value(kind).run()
        shown[kind] = checker_of(at) is not None
    assert [kind for kind, is_shown in shown.items() if is_shown] == [stable.DEFAULT_MODEL]
    save_stand_in(tmp_path / "unchecked")
    list_checker(save_stand_in(tmp_path / "checked"))
    for name, may in [("", False), ("owner/model", True), (tmp_path / "unchecked", False), (tmp_path / "checked", True),
                      (tmp_path / "none", False), (tmp_path, False)]:  # fmt: skip
        assert (checker_of(another(at, name)) is not None) == may, name


# -- folders that cannot be used ----------------------------------------------------------------------------


@pytest.mark.parametrize("content, words", [({}, "not a pipeline"), (None, "There is no folder")])
def test_a_folder_that_is_no_pipeline_is_refused_in_words(open_page, tmp_path, content, words):
    if content is not None:
        (tmp_path / "other").mkdir()
    at = another(finished(open_page(LARGER, **QUICK)), tmp_path / "other")
    assert words in at.warning[0].value and not at.exception
    assert "Give the model's name" in said(another(at, "").info)


def test_the_estimate_grows_with_what_is_asked():
    pace = Pace(0.5)
    assert pace.estimate(10, 1, 256, 256, "ddim") == 5
    assert pace.estimate(10, 2, 512, 256, "heun") == 40


# -- recorded runs ------------------------------------------------------------------------------------------


def recorded_page(open_page, name="text_to_image"):
    at = open_page("start")
    at.session_state["sd_chosen"] = stable.RECORDED
    at.switch_page(f"pages_/{name}.py").run()
    return at


def upload(at, data):
    return at.file_uploader(key="sd_trace").upload("cat.safetensors", data, "application/octet-stream").run()


def test_a_recorded_run_is_shown_as_one(open_page, live_file, trace):
    at = recorded_page(open_page)
    assert "a blue cat" in pictures_of(at)[-1][0] and not at.error, "before there is a file, the run that ships"
    upload(at, live_file)
    assert "recorded" in said(at.markdown) and "do not expect a picture" not in said(at.markdown)
    assert film(at)["key"] == to_message([pipeline_of_trace(trace)])["key"]
    assert film(at)["runs"][0]["tokens"][0]["length"] == 77 and "seeds 4, 9" in said(at.caption)


def test_a_saved_stand_in_never_passes_for_a_recorded_picture(open_page, trace):
    at = upload(recorded_page(open_page), stable.saved(trace))
    assert "random weights: do not expect a picture" in said(at.markdown)


@pytest.mark.parametrize("kind", ["text", "another", "rows", "settings"])
def test_a_file_that_is_no_trace_gets_its_words(open_page, trace, tmp_path, kind):
    broken = {
        "rows": {"rows": [{"i": 0}] * 3},
        "settings": {"settings": {"model": "x"}},
    }
    if kind == "text":
        data = b"this is a text"
    elif kind == "another":
        data = next((APP.parent / "diffusion_explained/weights").glob("mnist_*.safetensors")).read_bytes()
    else:
        data = dataclasses.replace(trace, **broken[kind]).save(tmp_path / "t.safetensors").read_bytes()
    at = upload(recorded_page(open_page), data)
    assert "cannot be used: cat.safetensors" in at.error[0].value.replace("\\", "") and not at.exception


HOSTILE = "![x](https://evil.example/x.png) <img src=x> $\\frac$ :red[r] `c` | [l](https://evil.example) **b**"


@pytest.mark.parametrize("name", ["text_to_image", "compare"])
def test_what_a_file_says_is_shown_and_does_nothing(open_page, trace, tmp_path, name):
    """Every text of the file is hostile; on the page each is escaped Markdown, escaped HTML, or a plain alt text."""
    settings = {**trace.settings, "prompt": [HOSTILE], "negative": [HOSTILE]}
    settings |= {key: HOSTILE for key in ("model", "device", "dtype", "date")}
    settings["parameters"] = {HOSTILE[:100]: 7}
    one = {**trace.tokens[0][0], "encoder": HOSTILE[:100], "cut": HOSTILE, "words": [(HOSTILE, 1)]}
    hostile = dataclasses.replace(trace, settings=settings, tokens=[[one, one]])
    at = upload(recorded_page(open_page, name), stable.saved(hostile))
    assert not at.exception and not at.error
    markdown = [one.value for kind in (at.markdown, at.caption, at.warning, at.info, at.error) for one in kind]
    assert any("evil" in text for text in markdown)
    for text in markdown:
        assert "![x](" not in text and "<img" not in text.replace("\\<", "") and ":red[" not in text, text
        assert not re.search(r"(?<!\\)\$\\+frac", text) and "[l](" not in text and "**b**" not in text, text
    for html in at.get("html"):
        assert "<img src=x>" not in html.proto.body


def test_compare_does_not_run_as_many_steps_as_a_file_asks(open_page, trace, monkeypatch):
    monkeypatch.setattr("explorer.compared.steps_of", lambda *_: pytest.fail("ours ran"))
    count = 101
    rows = [{**trace.rows[0], "i": k, "t": count - k, "alpha": 1.0, "sigma": float(count - k)} for k in range(count)]
    long = dataclasses.replace(
        trace,
        rows=rows,
        settings={**trace.settings, "num_inference_steps": count},
        x_0=np.repeat(trace.x_0[:1], count, axis=0),
        latents=np.repeat(trace.latents[:1], count + 1, axis=0),
    )
    at = upload(recorded_page(open_page, "compare"), stable.saved(long))
    assert not at.exception and "101 steps" in said(at.info) and "at most 100" in said(at.info)


# -- compare ------------------------------------------------------------------------------------------------


def test_compare_shows_both_at_the_same_steps(open_page):
    at = finished(open_page("compare"))
    assert not at.error and not at.exception and "stand-in" in said(at.markdown)
    message = film(at)
    assert len(message["captions"]) == 13 and len(message["titles"]) == 4
    network = load_pretrained("mnist_unet_flow")
    denoise = network.denoiser([7], network.default_guidance_scale, clip=1.0)
    last = list(network.steps(denoise, 1, 12, sampler="ddim", seed=0))[-1].x_next
    expected = ((last[0, 0].clamp(-1, 1) + 1) * 127.5).round().numpy()
    shown = frames(message)[-1][0][..., 0]
    np.testing.assert_allclose(shown[1::3, 1::3][:28, :28].mean(), expected.mean(), atol=8)
    table = said(at.markdown)
    assert "28 × 28 × 1 = 784 values" in table and "8 × 8 × 4 = 256 values, 48 times fewer" in table
    assert "77 tokens" in table and re.search(r"\| \*\*one step\*\* \| [\d.]+ m?s on cpu", table)


def test_compare_follows_its_settings_when_asked(open_page):
    at = finished(open_page("compare", data="cifar10"))
    assert "32 × 32 × 3 = 3,072 values" in said(at.markdown)
    at.slider(key="compare_steps").set_value(2)
    at.selectbox(key="compare_sampler").set_value("euler").run()
    assert "other settings" in said(at.caption)
    press(at, "Run both")
    assert len(film(at)["captions"]) == 3 and "other settings" not in said(at.caption)


def test_compare_runs_ours_at_the_steps_of_a_recorded_run(open_page, live_file):
    at = recorded_page(open_page, "compare")
    assert len(film(at)["captions"]) == 13, "before there is a run, the one that ships is shown"
    upload(at, live_file)
    assert len(film(at)["captions"]) == 4 and "when it was recorded" in said(at.markdown)
    assert "As in the recorded run: ddim, 3 steps" in said(at.caption)


def test_only_runs_of_equal_length_are_compared(trace):
    network = load_pretrained("mnist_unet_flow")
    steps = list(network.steps(network.denoiser([1]), 1, 2))
    with pytest.raises(ValueError, match="took 2 steps and the trace 3"):
        side_by_side(steps, trace, "MNIST U-Net")


def test_the_model_beside_ours_is_called_by_its_name(trace):
    network = load_pretrained("mnist_unet_flow")
    steps = list(network.steps(network.denoiser([1]), 1, len(trace.rows)))
    micro = dataclasses.replace(trace, settings={**trace.settings, "model": MICRO_TITLE})
    for run, name in ((trace, "Stable Diffusion"), (micro, "micro")):
        film = side_by_side(steps, run, "MNIST U-Net")
        assert [title.split(": ")[0] for title in film.titles] == ["MNIST U-Net"] * 2 + [name] * 2
        settings = Settings("mnist_unet_flow", "euler", len(trace.rows), (1,), 1.0, seed=0)
        assert compared.compare(run, settings, (), quiet).head == ("compared", "ours", name)


def test_of_a_long_run_the_film_keeps_sixty_steps(trace):
    long = dataclasses.replace(
        trace,
        rows=trace.rows * 40,
        x_0=np.concatenate([trace.x_0] * 40),
        latents=np.concatenate([*[trace.latents[:3]] * 40, trace.latents[3:]]),
    )
    message = film_of_trace(long)
    assert len(message.captions) == 61 and message.captions[0].startswith("step 1 of 120")
    assert message.captions[59].startswith("step 120 of 120") and message.captions[60] == "after 120 steps"
    assert [len(chart.markers) for chart in message.charts] == [61, 61]
    assert message.charts[0].markers[59][0] == message.charts[0].markers[60][0] == 120


def test_a_trace_of_one_step_has_a_film(model):
    one = stable_diffusion.record(model, "a cat", num_inference_steps=1, spacing="trailing", height=64, width=64)
    assert isinstance(one, Trace) and len(film_of_trace(one).captions) == 2
