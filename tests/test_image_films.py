"""One image of a run as films: its steps, and where its words land."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_explained import stable_diffusion
from diffusion_explained.palette import diverging
from diffusion_explained.stable_diffusion.attention import record_attention
from diffusion_explained.stable_diffusion.image_films import MOST_WORDS, WORD_SIDE, decoded, step_film, word_film


@pytest.fixture(scope="module")
def run():
    model = stable_diffusion.stand_in()
    text = model.encode_text("a cat in a castle")
    with record_attention(model, text) as attention:
        steps = []
        for step in model.steps(text, seed=[3, 8], num_inference_steps=3, height=64, width=64):
            attention.after(step)
            steps.append(step)
    return model, steps, attention


def panels(film, frame):
    sheet = np.asarray(Image.open(io.BytesIO(film.frames[frame])))
    return sheet.reshape(len(film.titles), film.height, film.width, 4)[..., :3].astype(int)


def as_bytes(images):
    return ((images.clamp(-1, 1) + 1) * 127.5).round().movedim(0, -1).numpy()


def test_the_steps_of_one_image_are_decoded_one_by_one(run):
    model, steps, _ = run
    progress = []
    x_0 = decoded(model, steps, 1, progress.append)
    assert x_0.shape == (3, 3, 64, 64) and progress[-1] >= 1
    torch.testing.assert_close(x_0[2:], model.decode(steps[2].pred.x_0[1:]), atol=1e-4, rtol=0)


def test_the_film_of_an_image_holds_its_own_latents_guesses_and_end(run):
    model, steps, _ = run
    x_0 = decoded(model, steps, 1)
    film = step_film(model, steps, x_0, 1)
    assert len(film.captions) == 4 and film.captions[-1] == "after 3 steps" and len(film.titles) == 3
    np.testing.assert_allclose(panels(film, 1)[1], as_bytes(x_0[1]), atol=1)
    np.testing.assert_allclose(panels(film, 3)[1], as_bytes(model.decode(steps[-1].x_next)[1]), atol=1)
    np.testing.assert_allclose(panels(film, 2)[0][::8, ::8], as_bytes(model.preview(steps[2].x_t)[1]), atol=1)
    assert film.key != step_film(model, steps, decoded(model, steps, 0), 0).key


def test_without_guidance_there_is_nothing_that_the_prompt_changes(run):
    model, _, _ = run
    steps = list(model.steps("a cat", guidance_scale=1.0, num_inference_steps=2, height=64, width=64))
    film = step_film(model, steps, decoded(model, steps, 0), 0)
    assert len(film.titles) == 2 and len(film.charts) == 1


def test_where_guidance_is_off_for_some_steps_the_prompt_changes_nothing_there(run):
    model, steps, _ = run
    off = replace(steps[0], pred=replace(steps[0].pred, eps_uncond=None))
    x_0 = decoded(model, steps, 1)
    film, guided = step_film(model, [off, *steps[1:]], x_0, 1), step_film(model, steps, x_0, 1)
    assert len(film.titles) == 3 and (panels(film, 0)[2] == diverging(np.zeros(1))[0]).all()
    assert not (panels(guided, 0)[2] == diverging(np.zeros(1))[0]).all()


def test_a_words_picture_is_coloured_where_its_attention_is(run):
    *_, attention = run
    maps = torch.zeros(3, len(attention.columns()), 8, 8)
    cat = attention.columns().index("cat")
    maps[:, cat, :, 4:] = 0.5  # the right half
    film = word_film(attention.columns(), maps, torch.zeros(3, 3, 64, 64))
    assert [title.split(" · ")[0] for title in film.titles] == ["a", "cat", "in", "a", "castle"]
    assert film.titles[1] == "cat · 25%" and film.height == WORD_SIDE and film.rows == (5,)
    picture = panels(film, 0)[1]
    assert np.ptp(picture[32, 4]) == 0, "grey where there is none"
    assert picture[32, 60, 0] - picture[32, 60, 2] > 100, "orange where there is"
    assert np.ptp(panels(film, 0)[0], axis=-1).max() == 0, "another word's attention is not here"


def test_recorded_maps_are_drawn_and_long_prompts_have_rows_of_equal_pictures(run):
    model, steps, attention = run
    film = word_film(attention.columns(1), attention.maps(1), decoded(model, steps, 1))
    assert len(film.frames) == 3 and len({bytes(frame) for frame in film.frames}) == 3
    columns = ("start", *["cat"] * 40, "end", "padding")
    film = word_film(columns, torch.rand(2, len(columns), 8, 8), torch.zeros(2, 3, 64, 64))
    assert len(film.titles) == MOST_WORDS
    columns = ("start", *["cat"] * 7, "end", "padding")
    film = word_film(columns, torch.rand(2, len(columns), 8, 8), torch.zeros(2, 3, 64, 64))
    assert film.rows == (5, 2) and film.columns == 5 and film.to_message()["columns"] == 5


def test_a_prompt_without_words_has_no_film():
    with pytest.raises(ValueError, match="no word"):
        word_film(("start", "end", "padding"), torch.ones(2, 3, 8, 8), torch.zeros(2, 3, 64, 64))
