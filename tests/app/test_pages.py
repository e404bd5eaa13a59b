"""Every page without a browser: it opens, its widgets change what it shows, and what it shows is the library's."""

import io
import json
import threading

import numpy as np
import pytest
import torch
from conftest import LARGER, address, finished, pictures_of
from explorer import branches, own_schedule, runs
from explorer.cache import quiet
from PIL import Image

from diffusion_explained import load_pretrained
from diffusion_explained.data import bundled_mnist
from diffusion_explained.palette import DARK, LIGHT
from diffusion_explained.samplers import SAMPLERS
from diffusion_explained.schedules import DDPMSchedule

PAGES = (
    "start",
    "forward",
    "schedules",
    "reverse",
    "training",
    "beyond",
    "guidance",
    "samplers",
    "break_it",
    "text_to_image",
    LARGER,
    "control",
    "latents",
    "compare",
)
QUICK = {  # smaller sweeps and races than a visitor's, for the tests' time
    "beyond": {"video_steps": "2"},
    "guidance": {"per_class": "2", "sweep_steps": "4"},
    "samplers": {"most": "4"},
    "break_it": {"break_steps": "2"},
    "text_to_image": {"t2i_steps": "2"},
    "control": {"control_steps": "1"},
    LARGER: {"t2i_steps": "2"},
}


@pytest.fixture(autouse=True)
def shorter_work(monkeypatch):
    import explorer.runs

    monkeypatch.setitem(explorer.runs.REFERENCE_STEPS, "digits", 12)
    monkeypatch.setitem(explorer.runs.SCALES, "digits", (0.0, 1.0, 2.0, 12.0))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_and_teaches(open_page, name):
    at = finished(open_page(name, **QUICK.get(name, {})))
    assert at.title[0].value
    assert not at.error
    assert len(at.latex) >= (0 if name == "start" else 2)
    assert not at.get("progress"), "finished work leaves no progress bar"
    assert not at.get("image"), "a picture at an address of the server may be gone when the browser asks for it"
    assert all(alt and source.startswith("data:image/png;base64,") for alt, source in pictures_of(at))


def films(at):
    """The films that the page's scrubbers were given, in the page's order."""
    messages = (json.loads(element.proto.json) for element in at.get("bidi_component"))
    return [message["film"] for message in messages if "film" in message]


def film(at):
    """The first of them."""
    return films(at)[0]


def frames(message):
    import base64

    pictures = []
    for frame in message["frames"]:
        sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(frame))))
        pictures.append(sheet.reshape(len(message["titles"]), message["height"], message["width"], 4))
    return pictures


def test_the_reverse_page_shows_what_the_library_samples(open_page):
    at = open_page("reverse", steps="4", w="3.0", seed="5", **{"class": "7"})
    message = film(at)
    model = load_pretrained("mnist_unet_flow")
    denoise = model.denoiser([7] * 8, 3.0, clip=1.0)
    steps = list(model.steps(denoise, 8, 4, sampler="euler", seed=5))
    assert len(message["captions"]) == 5 and message["captions"][-1] == "final image after 4 steps"
    shown = frames(message)
    for k, step in enumerate(steps):
        for panel, images in ((0, step.x_t), (1, step.pred.x_0)):
            first = ((images[0, 0].clamp(-1, 1) + 1) * 127.5).round()
            np.testing.assert_allclose(shown[k][panel][:28, :28, 0], first, atol=1)
    assert any("4 network evaluations" in caption.value for caption in at.caption)


@pytest.mark.parametrize(
    "change",
    [
        {"class": "3"},
        {"seed": "1"},
        {"w": "5.0"},
        {"sampler": "heun"},
        {"model": "mnist_unet_eps"},
        {"sampler": "ddim", "eta": "1.0"},
        {"negative": "4"},
        {"rescale": "0.7"},
        {"middle": "true"},
        {"clip": "false"},
    ],
)
def test_every_setting_of_the_reverse_page_changes_the_outcome(open_page, change):
    base = {"steps": "3"} | ({"sampler": "ddim"} if "eta" in change else {})
    before, after = film(open_page("reverse", **base)), film(open_page("reverse", **(base | change)))
    assert before["frames"] != after["frames"]


@pytest.mark.parametrize("what, value", [("class", "fork_class=9"), ("w", "fork_w=0"), ("sampler", "fork_sampler=heun"),
                                         ("noise", "fork_seed=2")])  # fmt: skip
def test_a_branch_computes_only_the_steps_that_follow(open_page, network_calls, what, value):
    key, other = value.split("=")
    base = {"steps": "5", "seed": "41", "w": "1"}
    run = film(open_page("reverse", **base))
    network_calls.clear()
    at = open_page("reverse", **base, fork="true", fork_step="4", fork_what=what)
    assert len(network_calls) == 2, "steps 4 and 5; the run itself is kept"
    before, both = frames(run), frames(film(at))
    assert film(at)["lead"]["fork"] == 3 and any("The branch: 2 network evaluations" in one.value for one in at.caption)
    for k in range(6):
        np.testing.assert_array_equal(both[k][:2], before[k][:2])
        assert (both[k][0] == both[k][2]).all() == (k < (3 if what == "noise" else 4))
    again = open_page("reverse", **base, fork="true", fork_step="4", fork_what=what, **{key: other})
    assert film(again)["frames"][5] != film(at)["frames"][5]
    assert address(again)[key] == [other], "the address holds it"


def test_the_class_is_decided_as_early_as_the_page_says(open_page, monkeypatch):
    found, branched = [], branches.branched
    monkeypatch.setattr(branches, "branched", lambda *given: found.append(branched(*given)) or found[-1])
    for step in ("3", "4", "6"):
        open_page("reverse", fork="true", fork_step=step)
    eights = [int((runs.classifier_of("mnist")(one.x_0).argmax(1) == 8).sum()) for one in found]
    assert eights == [10, 7, 1]


@pytest.mark.parametrize("key, value", [("fork_step", "6"), ("fork_step", "0"), ("fork_what", "prompt"),
                                        ("fork_class", "horse"), ("fork", "yes")])  # fmt: skip
def test_what_a_branch_cannot_have_is_said(open_page, key, value):
    at = open_page("reverse", **({"steps": "5", "fork": "true"} | {key: value}))
    assert f"`{key}={value}`" in at.info[0].value and "not possible here" in at.info[0].value


def test_a_network_without_guidance_has_no_branch_of_the_scale(open_page, monkeypatch):
    at = open_page("reverse", model="cifar10_unet_reflow", steps="2", fork="true", fork_what="w")
    assert "`fork_what=w`" in at.info[0].value
    assert at.selectbox(key="fork_what").options == ["the class", "the sampler", "the noise"]


def test_guidance_in_the_middle_says_where_it_is_off(open_page):
    at = open_page("reverse", steps="3", middle="true")
    captions = " ".join(caption.value for caption in at.caption)
    assert "3 network evaluations of both sides, where guided" in captions and "two panels are blank" in captions
    assert "guidance_interval=(0.2, 3.0)" in at.code[0].value and len(film(at)["titles"]) == 6


def test_an_address_gives_what_the_widgets_give(open_page):
    # the way back, from widget to address, is the browser's part: test_browser
    at = open_page("reverse", steps="3")
    at.slider(key="w").set_value(4.5)
    at.selectbox(key="class").set_value("8")
    at.number_input(key="seed").set_value(12)
    at.run()
    again = open_page("reverse", steps="3", w="4.5", seed="12", **{"class": "8"})
    assert (again.slider(key="w").value, again.selectbox(key="class").value) == (4.5, "8")
    assert film(again)["key"] == film(at)["key"]


@pytest.mark.parametrize(
    "name, garbage",
    [
        ("reverse", {"sampler": "foo", "steps": "-5", "w": "nan", "class": "77", "seed": "1e99", "model": "../x"}),
        ("forward", {"digit": "12", "schedule": "x", "number": "-1", "seed": "a", "frame": "9999"}),
        ("schedules", {"T": "0", "shift": "-1", "schedules": "nothing", "beta_end": "inf"}),
        ("guidance", {"per_class": "3", "sweep_steps": "4", "seed": "-1", "model": ""}),
        ("samplers", {"samplers": "foo", "most": "4", "race_w": "inf"}),
        ("text_to_image", {"t2i_w": "nan", "t2i_steps": "3", "t2i_sampler": "foo", "t2i_seed": "-1", "t2i_count": "9"}),
        ("latents", {"emoji": "no such thing", "emoji_style": "x", "other": "", "other_style": "1"}),
        (LARGER, {"t2i_w": "nan", "t2i_steps": "0", "t2i_sampler": "foo", "t2i_seed": "-1", "t2i_count": "9"}),
    ],
)
def test_an_address_full_of_garbage_gives_the_default_and_says_so(open_page, name, garbage):
    at = open_page(name, **garbage)
    assert any("not possible here" in info.value for info in at.info)


def test_a_setting_that_is_on_its_default_is_no_garbage(open_page):
    assert not open_page("reverse", w="2.0", seed="0", steps="10").info


def test_looking_at_kept_steps_asks_no_network(open_page, network_calls):
    at = open_page("forward", seed="77")
    asked = len(network_calls)
    assert sum(network_calls) == 50, "one evaluation per level"
    assert asked <= 10, "many levels at once: each call waits for the other visitors' Python"
    for frame in ("3", "49"):
        open_page("forward", seed="77", frame=frame)
    assert len(network_calls) == asked
    at.number_input(key="seed").set_value(78).run()
    assert len(network_calls) > asked


def test_two_sessions_with_the_same_settings_share_one_run(network_calls):
    settings = runs.Settings("mnist_unet_flow", "euler", 6, tuple(range(10)), 2.0, seed=4321)
    runs.model(settings.model)
    network_calls.clear()
    shown: list = []
    sessions = [threading.Thread(target=lambda: shown.append(runs.run(settings, quiet))) for _ in range(2)]
    for session in sessions:
        session.start()
    for session in sessions:
        session.join()
    assert len(shown) == 2 and shown[0] is shown[1]
    assert len(network_calls) == 6


def png(size=(40, 30), mode="RGB", **options):
    buffer = io.BytesIO()
    Image.new(mode, size, **options).save(buffer, "PNG")
    return buffer.getvalue()


def bomb():
    """A PNG that declares 50,000 x 50,000 pixels in a few bytes."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data, words",
    [
        (b"this is a text", "not a picture"),
        (b"", "empty"),
        (png((20_000, 10)), "20,000"),
        (bomb(), "pixels"),
        (png()[:60], "cut short|damaged|not a picture"),
    ],
    ids=["text", "empty", "20,000 wide", "bomb", "cut short"],
)
def test_a_bad_upload_gets_its_words_and_the_page_lives_on(open_page, data, words):
    at = open_page("forward")
    at.file_uploader(key="upload").upload("picture.png", data, "image/png").run()
    assert not at.exception
    import re

    assert re.search(words, at.error[0].value), at.error[0].value
    assert len(film(at)["captions"]) == 51


def test_an_upload_with_alpha_is_shown_and_explained(open_page):
    at = open_page("forward")
    digit = film(at)["key"]
    at.file_uploader(key="upload").upload("a.png", png(mode="RGBA", color=(255, 255, 255, 90)), "image/png").run()
    assert not at.error and film(at)["key"] != digit
    assert any("ransparent" in caption.value for caption in at.caption)


@pytest.fixture
def decoded(monkeypatch) -> list:
    """Grows with each file that is decoded."""
    from explorer.cache import named_cache

    from diffusion_explained.data import pictures

    named_cache("uploads", 64).clear()
    files, converted = [], pictures._converted
    monkeypatch.setattr(pictures, "_converted", lambda image, by: files.append(image.size) or converted(image, by))
    return files


def test_an_upload_is_decoded_once_for_all_reruns_and_visitors(open_page, decoded):
    data = png((300, 300), color=(9, 200, 90))
    for name, key, seed in (("forward", "upload", "seed"), ("latents", "latents_upload", "poke_amount")):
        decoded.clear()
        for _ in range(2):
            at = open_page(name)
            at.file_uploader(key=key).upload("a.png", data, "image/png").run()
            for value in (3, 2):
                widget = at.number_input(key=seed) if name == "forward" else at.slider(key=seed)
                widget.set_value(value).run()
            assert not at.error and not at.exception
        assert decoded == [(300, 300)], name


def test_a_refused_upload_is_read_once_too(open_page, decoded, monkeypatch):
    from explorer import uploads

    asked, load = [], uploads.load_image
    monkeypatch.setattr(uploads, "load_image", lambda *args, **options: asked.append(1) or load(*args, **options))
    at = open_page("forward")
    at.file_uploader(key="upload").upload("a.png", png((300, 300))[:90], "image/png").run()
    before = at.error[0].value
    at.number_input(key="seed").set_value(3).run()
    assert at.error[0].value == before and len(asked) == 1


def test_a_start_picture_and_its_mask_are_decoded_once(open_page, decoded):
    at = open_page(LARGER, t2i_steps="2", start="a picture with a hole", source="my own file")
    at.file_uploader(key="start_upload").upload("a.png", png((300, 200), color=(9, 200, 90)), "image/png").run()
    at.selectbox(key="hole").set_value("from a file").run()
    at.file_uploader(key="mask_upload").upload("m.png", png((150, 100), color=(255,) * 3), "image/png").run()
    for strength in (0.5, 0.7):
        at.slider(key="hole_strength").set_value(strength).run()
    assert not at.error and not at.exception
    assert sorted(decoded) == [(150, 100), (300, 200)]


def test_the_forward_page_shows_the_digit_and_its_noising(open_page):
    message = film(open_page("forward", digit="5", number="3", schedule="linear"))
    data = bundled_mnist()
    x_0 = data.images[(data.labels == 5).nonzero().flatten()[3], 0].numpy()
    shown = frames(message)
    np.testing.assert_array_equal(shown[0][0][..., 0], x_0)  # clean
    np.testing.assert_array_equal(shown[30][1][..., 0], x_0)  # the truth, beside every prediction
    alphas_cumprod = DDPMSchedule.linear().alphas_cumprod
    snr_chart, power_chart = message["charts"][1:]
    assert power_chart["markers"][25][1] == pytest.approx(float(alphas_cumprod[499]), abs=1e-4)
    assert snr_chart["markers"][50][1] == pytest.approx(
        float((alphas_cumprod / (1 - alphas_cumprod)).log()[-1]), abs=1e-3
    )
    histogram = message["charts"][0]
    assert sum(histogram["bars"][50]) * 6 / 48 == pytest.approx(1, abs=0.01)
    assert "SNR" in message["captions"][25]


def test_the_prediction_is_good_in_little_noise_and_a_blur_in_much(open_page):
    shown = frames(film(open_page("forward", digit="5", number="3", schedule="linear")))

    def error(frame):
        return np.abs(shown[frame][1].astype(float) - shown[frame][2]).mean()

    assert error(2) < 10 < error(49)


def test_the_large_image_is_the_weighted_sum_and_what_a_sampler_adds_is_named(open_page):
    lead = film(open_page("reverse", steps="4"))["lead"]
    model = load_pretrained("mnist_unet_flow")
    steps = list(model.steps(model.denoiser(list(range(10)), 2.0, clip=1.0), 10, 4, sampler="euler", seed=0))
    assert lead["names"][lead["pick"]] == "3" and lead["weights"] == [[1 - t, t] for t in (1, 0.75, 0.5, 0.25, 0)]
    assert max(lead["rests"]) < 1e-3 and len(steps) == len(lead["rests"])
    for sampler in ("ddpm", "heun"):
        assert max(film(open_page("reverse", steps="4", sampler=sampler))["lead"]["rests"]) > 0.02


def test_the_visitor_s_guess_stands_beside_the_classifier_s_curve(open_page):
    at = open_page("forward")
    assert len(film(at)["charts"]) == 3 and "Here I lose it" in at.markdown[1].value + at.markdown[2].value
    at = open_page("forward", lost="40")
    chart, *others = film(at)["charts"]
    assert len(others) == 3 and chart["curves"][2]["x"] == [0.8, 0.8]
    in_x_0, in_x_t, _ = (curve["y"] for curve in chart["curves"])
    assert in_x_0[0] == 1 and in_x_t[25] < 0.3 < 0.9 < in_x_0[25] and in_x_0[-1] < 0.2
    assert any("at **80%** of the way" in one.value for one in at.markdown)
    assert address(open_page("forward", lost="51")).get("lost") is None


def test_schedules_note_a_visible_terminal_snr_and_rescaling_cures_it(open_page):
    def noted(at):
        return [one.value.split("**")[1] for one in at.caption if "terminal SNR of" in one.value]

    at = open_page("schedules", schedules=["linear", "scaled_linear", "cosine"])
    assert noted(at) == ["Scaled linear"] and not at.warning
    assert any(f"{DDPMSchedule.scaled_linear().terminal_snr:.2g}" in one.value for one in at.caption)
    at.toggle(key="zero").set_value(True).run()
    assert not noted(at) and not at.exception
    at.number_input(key="T").set_value(50).run()
    at.toggle(key="zero").set_value(False).run()
    assert {"Linear", "Scaled linear"} <= set(noted(at))


def test_schedules_can_be_any_set_even_none(open_page):
    at = open_page("schedules")
    at.pills(key="schedules").set_value(["edm", "sigmoid"]).run()
    shown = film(at)
    assert shown["titles"] == ["Sigmoid", "EDM"]
    assert [chart["log"] for chart in shown["charts"]] == ["", "", "", "y"], "EDM's sigma reaches 80"
    at.pills(key="schedules").set_value([]).run()
    assert not at.exception and "at least one" in at.info[0].value


def test_one_cursor_goes_through_all_charts_of_the_schedules(open_page):
    shown = film(open_page("schedules", schedules=["linear", "cosine"]))
    assert [chart["title"][:7] for chart in shown["charts"]] == ["log SNR", "ᾱ = α²", "α, the ", "σ, the "]
    levels = [DDPMSchedule.cosine().clean, *reversed(DDPMSchedule.cosine().levels(50)[:-1])]
    for chart, value in zip(shown["charts"], ("log_snr", None, "alpha", "sigma"), strict=True):
        assert chart["cursor"] == pytest.approx([k / 50 for k in range(51)])
        cosine = chart["curves"][1]
        assert cosine["name"] == "Cosine" and cosine["role"] == "series-2"
        at_half = levels[25].alpha ** 2 if value is None else getattr(levels[25], value)
        assert dict(zip(cosine["x"], cosine["y"], strict=True))[0.5] == pytest.approx(at_half, abs=1e-4)
        assert "Cosine from " in chart["alt"] and "Linear from " in chart["alt"]
    assert "50% of the way" in shown["captions"][25] and f"Cosine {levels[25].alpha ** 2:.3f}" in shown["captions"][25]
    assert len(film(open_page("schedules", schedules="linear", T="10"))["captions"]) == 11


def boards(at):
    """What the page gives to the curve that is dragged."""
    messages = (json.loads(element.proto.json) for element in at.get("bidi_component"))
    return [message for message in messages if "picture" in message and "values" in message]


def test_the_visitor_s_own_schedule_is_one_of_the_page(open_page):
    values = (12.0, 5.25, -1.0, -3.0, -9.0)
    at = open_page("schedules", curve="_".join(f"{one:.2f}" for one in values))
    (board,) = boards(at)
    yours = DDPMSchedule.of_log_snr(values)
    assert tuple(board["values"]) == values and len(board["picture"]["eps"]) == 28 * 28
    assert "yours" not in {curve["name"].lower() for curve in board["chart"]["curves"]}, "the browser draws it"
    at_half = yours.levels(50)[25].alpha ** 2  # 25 of 50 steps are left to the image
    assert f"Yours {at_half:.3f}" in film(at)["captions"][25]
    assert address(at)["curve"] == ["12.00_5.25_-1.00_-3.00_-9.00"]
    alone = open_page("schedules", schedules="yours")
    assert boards(alone)[0]["chart"]["curves"] == [] and not boards(open_page("schedules", schedules="linear"))


def test_forward_takes_the_visitor_s_own_schedule_from_the_address_and_from_schedules(open_page):
    values = (12.0, 5.25, -1.0, -3.0, -9.0)
    curve = "_".join(f"{one:.2f}" for one in values)
    at = open_page("forward", schedule="yours", curve=curve)
    yours = DDPMSchedule.of_log_snr(values).alphas_cumprod
    assert film(at)["charts"][2]["markers"][25][1] == pytest.approx(float(yours[499]), abs=1e-4)
    assert address(at) == {"schedule": ["yours"], "curve": [curve]}
    assert f"DDPMSchedule.of_log_snr({list(values)})" in at.code[0].value
    at = open_page("schedules", curve=curve)
    at.switch_page("pages_/forward.py").run()
    at = at.selectbox(key="schedule").set_value("yours").run()
    assert address(at)["curve"] == [curve], "it was dragged on the page Schedules"


@pytest.mark.parametrize(
    "curve",
    [
        "1.00_1.00_0.00_-1.00_-2.00",
        "13.00_1.00_-1.00_-3.00_-9.00",
        "9.00_1.00_-1.00",
        "9_1_0_-1_-9",
        "nan_1.00_0.00_-1.00_-2.00",
    ],
)
def test_a_curve_that_does_not_fall_is_refused(open_page, curve):
    at = open_page("schedules", curve=curve)
    assert "not possible here" in at.info[0].value and boards(at)[0]["values"] == list(own_schedule.USUAL)


def test_the_guidance_page_measures_what_the_library_measures(open_page):
    message = film(open_page("guidance", **QUICK["guidance"]))
    triangle, curve = message["charts"]
    scales, measured = triangle["scales"], curve["markers"]
    assert scales == [0.0, 1.0, 2.0, 12.0] and len(message["captions"]) == 4
    from diffusion_explained.metrics import class_accuracy
    from diffusion_explained.metrics import diversity as diversity_of

    labels = torch.arange(10).repeat(2)
    k = scales.index(2.0)
    x_0 = load_pretrained("mnist_unet_flow").sample(labels, num_inference_steps=4, guidance_scale=2.0)
    assert measured[k] == pytest.approx([diversity_of(x_0, labels), class_accuracy(x_0, labels)], rel=1e-5)
    assert measured[0][1] < measured[k][1]
    length, along, across = triangle["sides"][k][3]
    assert 0.5 < length < 2 and 0 < (along**2 + across**2) ** 0.5 < length


def test_the_race_counts_evaluations_and_comes_closer(open_page, monkeypatch):
    monkeypatch.setattr("explorer.page.REDRAW", 0.0)  # as on a slow machine: the charts grow
    at = open_page("samplers", most="4", seed="6")
    messages = (json.loads(element.proto.json) for element in at.get("bidi_component"))
    distance, clock = [message["charts"] for message in messages if "charts" in message][-1]
    curves = {curve["name"]: curve for curve in distance["curves"]}
    assert curves["Euler"]["x"] == [1, 2, 3, 4] and distance["log"] == clock["log"] == "xy"
    assert curves["Heun"]["x"] == [1, 3, 5, 7]  # the last step needs one evaluation
    assert curves["Euler"]["y"][-1] < curves["Euler"]["y"][0]
    np.testing.assert_allclose(curves["DDIM"]["y"], curves["Euler"]["y"], rtol=1e-3)
    assert len({curve["role"] for curve in curves.values()}) == len(curves) == 5
    assert f"Euler {curves['Euler']['y'][0]:.3g} at 1" in distance["alt"]
    per = [x / n for x, n in zip(clock["curves"][0]["x"], distance["curves"][0]["x"], strict=True)]
    assert max(per) == pytest.approx(min(per), rel=1e-3), "time is evaluations times one evaluation's"


def test_every_sampler_runs_on_every_model(open_page):
    for model in ("mnist_unet_flow", "mnist_unet_eps"):
        for sampler in SAMPLERS:
            at = open_page("reverse", model=model, sampler=sampler, steps="2")
            assert len(film(at)["captions"]) == 3 and not at.error


def test_the_theme_is_the_palette():
    import tomllib
    from pathlib import Path

    config = tomllib.loads((Path(__file__).parents[2] / "app/.streamlit/config.toml").read_text())
    for name, theme in (("light", LIGHT), ("dark", DARK)):
        assert config["theme"][name]["primaryColor"] == theme.data
        assert config["theme"][name]["backgroundColor"] == theme.background
        assert config["theme"][name]["textColor"] == theme.text
        assert config["theme"][name]["borderColor"] == theme.grid
    assert config["browser"]["gatherUsageStats"] is False
    assert config["server"]["fileWatcherType"] == "none"
