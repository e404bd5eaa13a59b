"""The page Control teaches a style: it trains, draws at every scale, is the library's LoRA, and refuses bad files."""

import base64
import io

import numpy as np
import pytest
import torch
from conftest import finished, pictures_of
from explorer import style_lessons, style_panel
from PIL import Image
from test_pages import films, frames, png
from test_programs import executed

from diffusion_explained.film import pixels
from diffusion_explained.micro.made_styles import lora_of


@pytest.fixture
def quick(monkeypatch):
    """Two training steps, and two scales."""
    monkeypatch.setattr(style_panel, "LESSON_STEPS", (2, 300))
    monkeypatch.setattr(style_lessons, "SCALES", (0.0, 1.0))
    return {"control_kind": "style", "style_steps": "2", "style_from": "mosaic", "styled_steps": "8"}


def test_a_style_is_taught_and_is_what_the_program_gives(open_page, quick, tmp_path, monkeypatch):
    at = open_page("control", **quick)
    assert "Nothing is taught yet" in at.info[-1].value and not films(at)
    at = finished(at.button(key="train").click().run())
    assert not at.exception and not at.error
    scales, lesson = (frames(film) for film in films(at))
    assert len(scales) == 2 and (scales[0][0] == scales[0][1]).all()  # at scale 0 the base, to the bit
    assert (scales[1][0] != scales[1][1]).any()
    assert len(lesson) == 3 and (lesson[0] != lesson[2]).any()  # before, after one step and after two
    bars = films(at)[1]["charts"][1]["bars"]
    assert not any(bars[0]) and all(size > 0 for size in bars[2])
    monkeypatch.chdir(tmp_path)  # where the program saves the LoRA
    variables = executed(at)
    torch.testing.assert_close(
        torch.from_numpy(scales[1][1].astype(float)),
        torch.from_numpy(pixels(variables["picture"])[0].astype(float)),
        rtol=0,
        atol=1,
    )
    assert variables["record"].step == 2
    two_at_once(at, scales)


def two_at_once(at, scales):
    """A second LoRA beside the one that was taught: four pictures, which are the library's; a bad file is refused."""

    def drawn():
        found = [source for alt, source in pictures_of(at) if "drawn from the same noise" in alt]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one.split(",")[1])))) for one in found]

    at = at.selectbox(key="style_second").set_value("mosaic").run()
    at.slider(key="own_scale").set_value(1.0).run()
    at = at.slider(key="second_scale").set_value(0.5).run()
    assert not at.exception and not at.error
    base, own, second, both = drawn()
    assert np.array_equal(base, scales[1][0]) and np.array_equal(own, scales[1][1])  # nothing of a LoRA is left
    assert not np.array_equal(second, base) and not np.array_equal(both, second)
    picture = pixels(executed(at)["picture"])[0]
    np.testing.assert_allclose(picture.astype(int), both.astype(int), atol=1)
    at = at.selectbox(key="style_second").set_value("file").run()
    assert not drawn() and not at.error
    at = at.file_uploader(key="second_file").upload("mine.safetensors", b"no weights", "application/octet-stream").run()
    assert "second.safetensors" in at.error[0].value and "/" not in at.error[0].value.split("second.safetensors")[0]
    content = lora_of("mosaic").read_bytes()
    at = at.file_uploader(key="second_file").upload("mine.safetensors", content, "application/octet-stream").run()
    assert not at.error
    np.testing.assert_allclose(drawn()[3].astype(int), both.astype(int), atol=1)
    assert "load_lora('second.safetensors', scale=0.5)  # your own file" in at.code[0].value
    assert "your LoRA file" in " ".join(caption.value for caption in at.caption)


def test_a_paused_training_goes_on(monkeypatch):
    pictures = torch.zeros(5, 3, 128, 128)
    lesson = style_lessons.StyleLesson("zeros", ("zorb style",) * 5, 3, 0, pictures)
    learning, told = style_lessons.StyleLearning(lesson), []

    def stop_after_two(part, doing=""):
        told.append(doing)
        if doing.startswith("step 2"):
            raise InterruptedError

    monkeypatch.setattr(style_lessons, "LOOKS", (0.0, 1.0))
    with pytest.raises(InterruptedError):
        learning.work(stop_after_two)
    assert learning.step == 2
    whole = learning.work(lambda *_: None)
    assert [step for step, _ in whole.losses] == [1, 2, 3] and [look.step for look in whole.looks] == [0, 3]
    again = style_lessons.StyleLearning(lesson).work(lambda *_: None)
    assert whole.file == again.file  # the pause changes nothing


def test_drawings_and_files_are_needed_and_read(open_page, quick, monkeypatch):
    at = open_page("control", **(quick | {"style_from": "drawn"}))
    assert "0 of 5" in " ".join(c.value for c in at.caption) and "at least 5 pictures" in at.info[-1].value
    painted = torch.zeros(4, 128, 128)
    painted[3, :8] = 1.0
    monkeypatch.setattr(style_panel, "kept", lambda *_: painted)
    at.run()
    assert at.button(key="train") and "what you drew" in " ".join(c.value for c in at.caption)
    at = open_page("control", **(quick | {"style_from": "files"}))
    good = png((20, 30), color=(9, 9, 200))
    names = ("cat.png", "dog.png", "fire_truck-2.png", "cup.png", "tree.png")
    for bad in (True, False):
        files = [(name, b"no picture" if bad and name == "tree.png" else good, "image/png") for name in names]
        at = at.file_uploader(key="style_files").set_value(files).run()
        if bad:
            assert "1 of the 5 pictures" in at.error[0].value and "tree.png" in at.error[0].value
    assert not at.error and at.button(key="train") and "subject_of" in at.code[0].value
    at = at.button(key="try_4").click().run()
    assert at.selectbox(key="style_second").value == "mosaic" and at.slider(key="second_scale").value == 0.5
    assert "scale=0.5)\nmodel.load_lora(lora_of('mosaic'), scale=0.5)" in at.code[0].value
