"""The control of the spacing: what it offers is what the engine computes, on every page on which steps are chosen."""

from dataclasses import replace

import pytest
import torch
from conftest import address, finished
from explorer import spacings, stable
from explorer.names import YOURS
from test_pages import film

from diffusion_explained import load_pretrained
from diffusion_explained.schedules import RATIO_SPACINGS, SPACINGS, DDPMSchedule
from diffusion_explained.stable_diffusion import record, stand_in

OF_FLOW = (*RATIO_SPACINGS, "linspace", "trailing")
ALL = (*RATIO_SPACINGS, *SPACINGS)
PAGES = {  # page -> its key, and settings that make it quick
    "reverse": ("spacing", {"steps": "3"}),
    "guidance": ("spacing", {"per_class": "2", "sweep_steps": "4"}),
    "samplers": ("spacing", {"most": "4"}),
    "text_to_image": ("t2i_spacing", {"t2i_steps": "1", "t2i_count": "1"}),
    "compare": ("compare_spacing", {"compare_steps": "2"}),
}

TAKES_YOURS = ("reverse", "samplers")  # the visitor's own schedule


@pytest.fixture(autouse=True)
def shorter_work(monkeypatch):
    import explorer.runs

    monkeypatch.setitem(explorer.runs.REFERENCE_STEPS, "digits", 4)
    monkeypatch.setitem(explorer.runs.SCALES, "digits", (0.0, 2.0))


@pytest.mark.parametrize(
    "name, counts, allowed",
    [
        ("mnist_unet_flow", (10,), OF_FLOW),
        ("mnist_unet_flow", (1, 2), OF_FLOW),
        ("mnist_unet_eps", (10,), ALL),
        ("mnist_unet_eps", (1, 10), (*RATIO_SPACINGS, "trailing")),
    ],
)
def test_what_is_offered_is_what_the_schedule_has_levels_for(name, counts, allowed):
    assert spacings.of_network(name, *counts) == allowed
    for spacing in set(ALL) - set(allowed):
        with pytest.raises(ValueError):
            [load_pretrained(name).levels(count, spacing=spacing) for count in counts]


@pytest.mark.parametrize("name", [stable.MICRO, stable.STAND_IN])
@pytest.mark.parametrize("sampler", ["ddim", "dpm_solver_pp_2m"])
def test_what_is_offered_of_stable_diffusion_is_read_from_its_files(name, sampler):
    from diffusion_explained.stable_diffusion import load

    model = stand_in(device="cpu") if name == stable.STAND_IN else load(name)
    for count in (1, 5):
        allowed = spacings.of_stable_diffusion(name, count, sampler)
        for spacing in ALL:
            if spacing in allowed:
                assert stable.levels(name, count, sampler, spacing) == model.levels(count, sampler, spacing)
            else:
                with pytest.raises(ValueError):
                    model.levels(count, sampler, spacing)


def test_of_a_model_that_is_not_here_all_are_offered():
    assert spacings.of_stable_diffusion("somebody/elses", 5, "ddim") == ALL


@pytest.mark.parametrize("name", PAGES)
def test_a_spacing_that_the_model_has_not_falls_to_its_own_with_a_word(open_page, name):
    key, quick = PAGES[name]
    at = finished(open_page(name, **quick, **{key: "leading"}))
    control = at.selectbox(key=key)
    drawn = (YOURS,) if name in TAKES_YOURS else ()
    assert control.value == stable.OWN and tuple(control.options) == (stable.OWN, *OF_FLOW, *drawn)
    assert f"`{key}=leading`, which is not possible here" in " ".join(info.value for info in at.info)
    assert not at.error and control.help.count(". ") == 1 + len(drawn), "two sentences explain it, or three"


CURVE = (6.0, 2.0, 0.5, -1.0, -4.0)
WRITTEN = "_".join(f"{one:.2f}" for one in CURVE)


@pytest.mark.parametrize("name, quick", [("reverse", {"steps": "3"}), ("samplers", {"most": "4", "samplers": "euler"})])
def test_the_visitors_own_schedule_is_a_spacing(open_page, monkeypatch, tmp_path, name, quick):
    """It is in the address and in the program, which computes what the page shows."""
    at = open_page(name, **quick, spacing="yours", curve=WRITTEN)
    assert (
        not at.error
        and not at.info
        and address(at) == {key: [value] for key, value in {**quick, "spacing": "yours", "curve": WRITTEN}.items()}
    )
    assert "The first level of **yours** holds 11.9% of the image" in " ".join(one.value for one in at.caption)
    monkeypatch.chdir(tmp_path)  # the program of Reverse writes a file
    scope: dict = {}
    exec(at.code[0].value, scope)
    numbers = at.session_state.offers.numbers()
    if name == "reverse":
        torch.testing.assert_close(scope["x_0"], numbers["x_t"][-1])
        levels = [step.level for step in scope["steps"]]
    else:
        assert [one.num_inference_steps for one in scope["finishes"]] == [1, 2, 3, 4]
        for one in scope["finishes"]:
            torch.testing.assert_close(one.x_0, numbers[f"euler, {one.num_inference_steps} steps"])
        levels = scope["model"].levels(3, spacing=DDPMSchedule.of_log_snr(CURVE))[:-1]
    yours = DDPMSchedule.of_log_snr(CURVE).levels(3)[:-1]
    assert [one.log_snr for one in levels] == pytest.approx([one.log_snr for one in yours], abs=1e-6)


def test_a_schedule_that_a_network_cannot_follow_is_said_and_its_own_is_used(open_page):
    curve = "12.00_11.50_11.00_10.50_10.00"
    at = open_page("reverse", model="mnist_unet_eps", steps="3", spacing="yours", curve=curve)
    assert "goes from a log SNR of" in at.info[0].value and "own spacing is used" in at.info[0].value and film(at)


def test_fewer_steps_may_end_a_spacing(open_page):
    at = open_page("reverse", model="mnist_unet_eps", steps="2", spacing="leading")
    assert at.selectbox(key="spacing").value == "leading" and not at.info
    at.select_slider(key="steps").set_value(1).run()
    assert at.selectbox(key="spacing").value == stable.OWN and not at.error and film(at)


@pytest.fixture(scope="module")
def trace():
    options = {"num_inference_steps": 2, "height": 64, "width": 64, "spacing": "leading"}
    return replace(record(stand_in(device="cpu"), "a cat", **options), label="live")


def test_a_recorded_run_says_its_spacing_and_an_earlier_file_none(open_page, trace):
    assert "2 steps by leading spacing, w" in stable.facts(trace)
    own = replace(trace, settings=trace.settings | {"spacing": None})
    assert "2 steps by the model's own spacing, w" in stable.facts(own)
    earlier = replace(trace, settings={key: value for key, value in own.settings.items() if key != "spacing"})
    assert "2 steps, w" in stable.facts(earlier)
    assert "safety checker" not in stable.facts(own)
    unchecked = replace(trace, settings=trace.settings | {"safety_checker_left_out": True})
    assert f"{trace.settings['model']}, without its safety checker · " in stable.facts(unchecked)
    at = open_page("text_to_image", sd_model="recorded")
    at.file_uploader(key="sd_trace").upload("run.safetensors", stable.saved(trace)).run()
    assert any("2 steps by leading spacing" in caption.value for caption in at.caption)


@pytest.mark.parametrize("model, word", [("mnist_unet_flow", "has no leading spacing"), ("mnist_unet_eps", "")])
def test_beside_a_recorded_run_ours_takes_its_spacing_where_it_can(open_page, trace, model, word):
    at = open_page("compare", sd_model="recorded", model=model)
    at.file_uploader(key="sd_trace").upload("run.safetensors", stable.saved(trace)).run()
    said = " ".join(caption.value for caption in at.caption)
    assert "As in the recorded run: ddim, 2 steps by leading spacing." in said
    assert not at.error and not at.exception and film(at)
    assert ("Our network" in said) == bool(word) and word in said
