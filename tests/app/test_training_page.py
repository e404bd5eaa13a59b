"""The page Training: its network is that of its program, it can be paused, and the other pages sample from it."""

import json

import numpy as np
import pytest
import torch
from conftest import address, finished
from explorer import choices, digit_lessons, runs, taught
from test_pages import frames
from test_programs import executed, in_a_folder, keeping  # noqa: F401

from diffusion_explained import load_pretrained

pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.fixture
def short_lessons(monkeypatch):
    """Lessons of a few small steps."""
    monkeypatch.setattr(digit_lessons, "LESSON_STEPS", (4, 1000))
    for module in (digit_lessons, taught):
        monkeypatch.setattr(module, "BATCH", 8)
    monkeypatch.setattr(digit_lessons, "DRAWING_STEPS", 2)
    yield
    taught.finished_lessons().clear()


def film(at):
    """The film of the lesson."""
    messages = (json.loads(one.proto.json) for one in at.get("bidi_component"))
    return next(message["film"] for message in messages if message.get("film"))


def test_before_the_training_the_network_draws_noise(open_page, short_lessons):
    at = open_page("training", lesson="4")
    assert len(film(at)["captions"]) == 1 and "before the first step" in film(at)["captions"][0]
    assert any(button.key == "train" for button in at.button)
    lesson = taught.Lesson(steps=4)
    seen = digit_lessons.untrained(lesson, lambda *_: None).averaged[0]
    assert torch.equal(seen.drawn, digit_lessons.Learning(lesson)._as_model(digit_lessons.records(lesson)[0]).sample(
        range(10), num_inference_steps=2, guidance_scale=2.0, seed=0
    ))  # fmt: skip


@pytest.mark.parametrize(("kind", "path"), [("flow", "flow"), ("eps", "linear")])
def test_the_trained_network_is_that_of_the_program(open_page, short_lessons, kind, path):
    at = open_page("training", lesson="4", net_seed="3", kind=kind, **({} if kind == "flow" else {"path": path}))
    at = finished(at.button(key="train").click().run())
    learned = taught.finished(taught.Lesson(kind, path, 4, 3))
    assert [one.step for one in learned.averaged] == [0, 1, 2, 3, 4] and len(film(at)["captions"]) == 5
    variables = executed(at)
    for name, weight in variables["averaged"].state_dict().items():
        assert torch.equal(weight, learned.model.network.state_dict()[name]), name
    assert variables["losses"] == list(learned.losses)
    assert f"loss {learned.losses[-1][1]:.3f}" in film(at)["captions"][-1]
    assert not torch.equal(learned.averaged[-1].drawn, learned.last[-1].drawn), "the average lags behind"
    assert np.array_equal(variables["shown"], frames(film(at))[-1][0]), "the notebook shows what the network draws"
    averaged = film(at)["frames"]
    at = at.toggle(key="ema").set_value(False).run()
    assert film(at)["frames"][0] == averaged[0] and film(at)["frames"][-1] != averaged[-1]


def test_a_lesson_goes_on_after_a_pause_to_the_same_weights(short_lessons):
    lesson = taught.Lesson(steps=4)
    whole = digit_lessons.Learning(lesson).work(lambda *_: None)
    taught.finished_lessons().clear()
    learning = digit_lessons.Learning(lesson)

    def tell(part, doing=""):
        if learning.step == 2 and not paused:
            paused.append(doing)
            raise InterruptedError

    paused = []
    with pytest.raises(InterruptedError):
        learning.work(tell)
    assert learning.learned().model is None and [one.step for one in learning.learned().averaged] == [0, 1, 2]
    again = learning.work(tell)
    assert again.losses == whole.losses and torch.equal(again.averaged[-1].drawn, whole.averaged[-1].drawn)


def test_a_short_lesson_of_an_address_begins_by_itself_and_a_long_one_does_not(open_page, short_lessons, monkeypatch):
    at = finished(open_page("training", lesson="4", trained="true"))
    assert taught.finished(taught.Lesson(steps=4)) is not None and len(film(at)["captions"]) == 5
    monkeypatch.setattr(taught, "IMAGES_PER_SECOND", 1)
    at = open_page("training", lesson="1000", trained="true")
    assert not at.get("progress") and any(button.key == "train" for button in at.button)


def test_the_other_pages_sample_from_the_visitor_s_network(open_page, short_lessons, monkeypatch):
    lesson = taught.Lesson("v", "cosine", 4, 1)
    at = open_page("training", lesson="4", kind="v", net_seed="1")
    at = finished(at.button(key="train").click().run())
    at = at.button(key="use_it").click().run()
    assert at.session_state.chosen == lesson.name and at.session_state.taught == [lesson.name]
    made = keeping(monkeypatch, runs, "run")
    at = open_page("reverse", model=lesson.name, steps="2")
    assert not at.exception and lesson.words in at.selectbox(key="model").options
    assert address(at)["model"] == [lesson.name]
    assert torch.equal(executed(at)["x_0"], made[-1].x_0)


def test_a_network_that_is_not_kept_here_is_refused_in_words(open_page):
    for name in (
        "mnist_taught-flow-flow-1000-99998",
        "mnist_taught-../..-flow-1-1",
        "mnist_taught-flow-flow-1-" + 9 * "9",
    ):
        at = open_page("reverse", model=name, steps="1")
        assert not at.exception and at.session_state.chosen == choices.FIRST
        assert any("which is not possible here" in note.value for note in at.info)


def test_the_trained_network_can_be_saved(short_lessons, tmp_path):
    model = digit_lessons.Learning(taught.Lesson(steps=4)).work(lambda *_: None).model
    path = tmp_path / "mine.safetensors"
    path.write_bytes(digit_lessons.weight_file(model))
    again = load_pretrained(path)
    drawn = again.sample([3], num_inference_steps=2)
    torch.testing.assert_close(drawn, model.sample([3], num_inference_steps=2), atol=0.02, rtol=0)  # float16 weights
