"""An explorer that is shared: each door to the machine's disk and the network is closed, and each run is bounded."""

import pytest
from conftest import LARGER, address
from explorer import fitting, jobs, page, pictures, runs, sharing, stable, visitors

from diffusion_explained.cli import launch
from diffusion_explained.data import hub
from diffusion_explained.serving import Serving

WHY, WHAT_TO_DO = (
    "This explorer is shared by several people, so ",
    "run `diffusion-explained app` on a machine of your own.",
)
BOUNDED = {  # what each page says of its bounds, beside where the bound is
    "start": ["no folder of its machine can be opened", "nothing is downloaded"],
    "forward": ["a file may have at most 10 MB"],
    "reverse": ["a run has at most 50 steps"],
    "guidance": ["at most 4 images per class and 50 steps"],
    "samplers": ["a sampler has at most 50 steps", "a race takes at most about 20 s"],
    "text_to_image": ["only the models that ship with it", "at most 50 steps and 4 pictures (seeds)"],
    "control": ["a run has at most 50 steps"],
    "latents": ["a file may have at most 10 MB"],
    LARGER: ["only the models that ship with it", "50 steps and 4 pictures (seeds) of 256 × 256 pixels"],
    "compare": ["only the models that ship with it", "at most 50 steps"],
}
QUICK = {
    "guidance": {"per_class": "2", "sweep_steps": "4"},
    "samplers": {"most": "4"},
    "text_to_image": {"t2i_steps": "1", "t2i_count": "1"},
    "control": {"control_steps": "1"},
    LARGER: {"t2i_steps": "2"},
    "compare": {"compare_steps": "2"},
}
FULL = "This explorer is full: 2 visitors use it"
DOORS = ("Its name, a folder or a file", "Download", "Load it", "Begin")


def no_door(*_, **__):
    raise AssertionError("a shared explorer looked at the disk or the network")


@pytest.fixture(autouse=True)
def shared(monkeypatch, tmp_path):
    """Shared, on a machine without CIFAR-10, with a network, and with shorter references for the tests' time."""
    for name, value in Serving(shared=True).environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DIFFUSION_EXPLAINED_CACHE", str(tmp_path / "decoded"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: True)
    find = stable.find_weights
    monkeypatch.setattr(stable, "find_weights", lambda name, **_: find(name) if name == stable.MICRO else no_door())
    monkeypatch.setattr(stable, "to_download", no_door)
    monkeypatch.setattr(fitting, "find_weights", no_door)
    for pace in ("digits", "pictures", "slow"):
        monkeypatch.setitem(runs.REFERENCE_STEPS, pace, 4)
        monkeypatch.setitem(runs.SCALES, pace, (1.0, 3.0))
    pictures.look_again()
    stable.missing.clear()
    yield
    pictures.look_again()
    stable.missing.clear()


def said(at):
    return " ".join(element.value for kind in (at.caption, at.info, at.warning, at.error) for element in kind)


def labels(at):
    return [one.label for kind in (at.text_input, at.button, at.selectbox, at.get("download_button")) for one in kind]


@pytest.mark.parametrize("name", BOUNDED)
def test_a_page_says_why_what_is_bounded_and_what_to_do(open_page, name):
    at = open_page(name, **QUICK.get(name, {}))
    words = said(at)
    for bound in BOUNDED[name]:
        assert bound in words
    assert words.count(WHY) == words.count(WHAT_TO_DO) > 0
    assert not at.error


@pytest.mark.parametrize("name", [*BOUNDED, "schedules"])
def test_no_page_has_a_door_to_the_disk_or_to_the_hub(open_page, name):
    at = open_page(name, **QUICK.get(name, {}), **({"data": "cifar10"} if name in ("forward", "schedules") else {}))
    assert not [label for label in labels(at) for door in DOORS if label.startswith(door)]
    if name in ("forward", "schedules"):
        assert "so nothing is downloaded" in said(at)
    for one in at.get("file_uploader"):
        assert one.proto.max_upload_size_mb == launch.UPLOAD_MB_SHARED < launch.UPLOAD_MB


@pytest.mark.parametrize("name", ["text_to_image", "compare"])
def test_only_what_ships_is_offered(open_page, name):
    at = open_page(name, **QUICK[name])
    offered = at.selectbox(key="sd_model").options
    assert offered == [stable.MODELS[one] for one in (stable.MICRO, stable.RECORDED, stable.STAND_IN)]
    assert at.selectbox(key="sd_model").value == stable.MICRO


@pytest.mark.parametrize("model", [stable.OTHER, stable.DEFAULT_MODEL, "/etc", "../..", "~"])
def test_an_address_opens_no_model(open_page, model):
    at = open_page("text_to_image", sd_model=model, sd_name="/etc", t2i_steps="1")
    assert at.selectbox(key="sd_model").value == stable.MICRO and "sd_name" not in address(at)
    assert "The address asks for `sd_model=" in said(at) and "which is not possible here" in said(at)
    assert "Its name, a folder or a file" not in labels(at)


@pytest.mark.parametrize("value", [stable.OTHER, "another one", stable.DEFAULT_MODEL, "/etc/passwd"])
def test_a_list_that_sends_back_something_else_opens_nothing(open_page, value):
    """Streamlit takes any word for a list's choice, and a program may send any."""
    at = open_page("text_to_image", t2i_steps="1")
    at.session_state["sd_chosen"] = value
    at.run()
    assert not at.exception and at.selectbox(key="sd_model").value == stable.MICRO


def test_a_network_that_is_none_of_ours_is_not_looked_for(open_page, monkeypatch):
    at = open_page("reverse", steps="2")
    monkeypatch.setattr(runs, "load_pretrained", no_door)
    at.session_state["chosen"] = "/etc/secret.safetensors"
    at.run()
    assert not at.exception and at.selectbox(key="model").value == "mnist_unet_flow"


@pytest.mark.parametrize("name", [stable.DEFAULT_MODEL, "/tmp", "~", "owner/model", stable.OTHER])
def test_the_work_itself_is_refused(name):
    """Whatever the pages show."""
    with pytest.raises(ValueError, match="shared by several people, so only the models that ship with it run"):
        stable.load(stable.models(), name, no_door)
    with pytest.raises(ValueError, match="shared by several people, so nothing is downloaded"):
        stable.download(name, 1.0, no_door)
    with pytest.raises(ValueError, match="shared by several people, so nothing is downloaded"):
        pictures.download()


@pytest.mark.parametrize(
    ("name", "key", "beyond", "most"),
    [
        ("reverse", "steps", "1000", 50),
        ("reverse", "steps", "75", 50),
        ("guidance", "per_class", "16", 4),
        ("text_to_image", "t2i_count", "5", 4),
        (LARGER, "t2i_steps", "100", 50),
        (LARGER, "t2i_count", "5", 4),
        (LARGER, "width", "1024", 256),
        (LARGER, "height", "512", 256),
        ("compare", "compare_steps", "51", 50),
    ],
)
def test_steps_pictures_and_sizes_end_at_their_bound(open_page, name, key, beyond, most):
    at = open_page(name, **{**QUICK.get(name, {}), key: beyond})
    assert f"The address asks for `{key}={beyond}`, which is not possible here" in said(at)
    for kind in (at.slider, at.number_input):
        for one in kind:
            assert one.key != key or one.max == most
    for one in at.select_slider:
        assert one.key != key or int(one.options[-1]) == most


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("reverse", {"model": "cifar10_dit_flow", "steps": "50", "sampler": "heun"}),
        ("guidance", {"model": "cifar10_dit_flow", "per_class": "4", "sweep_steps": "50"}),
        ("samplers", {"model": "cifar10_dit_flow", "most": "48"}),
        ("text_to_image", {"t2i_steps": "50", "t2i_count": "4", "t2i_sampler": "heun"}),
    ],
)
def test_a_long_run_does_not_begin_and_the_page_says_so(open_page, network_calls, name, asked):
    at = open_page(name, **asked)
    assert "so this computation, which takes " in said(at) and "does not begin: choose fewer" in said(at)
    assert "Begin" not in labels(at) and not network_calls
    at.session_state["long_begun"] = next(iter(asked))  # no button was pressed, nor can one be
    at.run()
    assert not network_calls


@pytest.mark.parametrize("name", [LARGER, "compare"])
def test_a_job_of_much_work_does_not_begin(open_page, name):
    of_page = {LARGER: {"t2i_steps": "50", "t2i_count": "4", "t2i_sampler": "heun"},
               "compare": {"compare_steps": "50", "compare_sampler": "heun"}}  # fmt: skip
    at = open_page(name, **of_page[name])
    button = next(one for one in at.button if one.label.startswith("Run"))
    assert button.disabled and "so a run of this much work does not begin: choose fewer steps" in said(at)
    at.run()
    assert "job" not in at.session_state


def test_a_recorded_run_that_is_brought_is_still_shown(open_page):
    at = open_page("text_to_image", sd_model=stable.RECORDED)
    assert at.get("file_uploader") and "then open it here" in said(at)


def test_alone_nothing_is_said_and_nothing_is_closed(open_page, monkeypatch):
    monkeypatch.setenv("DIFFUSION_EXPLAINED_SHARED", "0")
    at = open_page("reverse", steps="2")
    assert WHY not in said(at) and int(at.select_slider(key="steps").options[-1]) == 1000
    assert sharing.most(3, 2) == 3 and sharing.up_to((1, 99), 50) == (1, 99) and page.LONG < 60
    assert stable.offered() == tuple(stable.MODELS)


def test_a_full_explorer_tells_who_comes_later_and_disturbs_nobody(open_page, monkeypatch):
    sessions, left = iter(f"session {i}" for i in range(100)), set()
    here = {"session": next(sessions)}
    monkeypatch.setenv("DIFFUSION_EXPLAINED_VISITORS", "2")
    monkeypatch.setattr(jobs, "session", lambda: here["session"])
    monkeypatch.setattr(jobs, "connected", lambda session: session not in left)
    visitors._rooms.clear()

    def visit():
        here["session"] = next(sessions)
        return open_page("start")

    first, second = visit(), visit()
    assert FULL not in said(first) and FULL not in said(second)
    third = visit()
    assert FULL in said(third) and "Reload this page" in said(third) and not third.title
    first.run()
    assert FULL not in said(first) and first.title
    left.add("session 1")
    assert FULL not in said(visit()) and FULL in said(visit())
    first.run()  # its connection was lost, and is there again
    assert FULL not in said(first) and first.title
    monkeypatch.setenv("DIFFUSION_EXPLAINED_SHARED", "0")
    assert FULL not in said(visit())
    visitors._rooms.clear()
