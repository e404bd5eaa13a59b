"""The picture of the whole: what it shows of a run is what the run computed."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_explained import stable_diffusion
from diffusion_explained.film import EPS_RANGE, one_value, pixels, script, style
from diffusion_explained.guidance import sides
from diffusion_explained.stable_diffusion.attention import record_attention
from diffusion_explained.stable_diffusion.image_films import decoded
from diffusion_explained.stable_diffusion.pipeline_films import (
    chips,
    clearest_word,
    distances,
    pipeline_of_trace,
    pipeline_run,
    to_message,
)

SIZE = {"num_inference_steps": 3, "height": 64, "width": 64}


@pytest.fixture(scope="module")
def model():
    return stable_diffusion.stand_in()


@pytest.fixture(scope="module")
def made(model):
    """A run of two images, and the second of them for the picture of the whole."""
    text = model.encode_text("a cat in a castle")
    with record_attention(model, text) as attention:
        steps = []
        for step in model.steps(text, seed=[3, 8], guidance_scale=4.0, **SIZE):
            attention.after(step)
            steps.append(step)
    x_0 = decoded(model, steps, 1)
    run = pipeline_run(
        model, text, steps, x_0, 1, attention.columns(), attention.maps(1), name="B", scale=4.0, nouns=["cat"]
    )
    return text, steps, attention, x_0, run


def sheet(film, frame):
    shown = np.asarray(Image.open(io.BytesIO(film.frames[frame])))
    return shown.reshape(len(film.titles), film.height, film.width, 4)


def test_each_box_shows_its_own_tensors(model, made):
    text, steps, attention, x_0, run = made
    at = dict(zip(run.panels, sheet(run.fields, 1), strict=True))
    step, one = steps[1], slice(1, 2)
    np.testing.assert_array_equal(at["latent"], pixels(model.preview(step.x_t[one]))[0])
    for name, field in (("with", step.pred.eps_cond), ("without", step.pred.eps_uncond), ("guided", step.pred.eps)):
        np.testing.assert_array_equal(at[name], pixels(one_value(field[one])[:, None], EPS_RANGE)[0])
    np.testing.assert_array_equal(at["channel 3"], pixels(step.x_t[one, 2:3], EPS_RANGE)[0])
    of_cat = attention.maps(1)[1, 2]
    place = of_cat.argmax()
    assert run.words[1] == "cat" and run.noun == 1
    assert at["word 1"][..., 0].flatten()[place] == 255 and at["word 1"][..., 0].min() == 0
    assert run.shares[1][1] == pytest.approx(float(of_cat.mean()), abs=1e-4)
    np.testing.assert_array_equal(sheet(run.pictures, 2)[0], pixels(x_0[2:])[0])
    np.testing.assert_allclose(sheet(run.pictures, 3)[0], pixels(model.decode(steps[-1].x_next)[1:])[0], atol=1)
    last = dict(zip(run.panels, sheet(run.fields, 3), strict=True))
    np.testing.assert_array_equal(last["latent"], pixels(model.preview(steps[-1].x_next[one]))[0])
    assert run.sides[1] == pytest.approx(sides(step.pred.eps_cond, step.pred.eps_uncond)[1].tolist(), abs=1e-4)
    assert run.weights[1] == pytest.approx((step.level.alpha, step.level.sigma), abs=1e-4) and len(run.weights) == 4
    assert Image.open(io.BytesIO(run.embeds)).size == (text.embeds.shape[2], text.embeds.shape[1])


def test_attention_is_clearest_where_it_lies_on_the_thing():
    picture = torch.ones(3, 32, 32)
    picture[:, 8:24, 8:24] = -1.0  # a black square on white
    maps = torch.full((2, 3, 4, 4), 0.1)
    maps[0, 0, 0, 0] = 9.0  # the first word is concentrated, but beside the thing
    maps[1, 2, 1:3, 1:3] = 0.3
    assert clearest_word(maps, [0, 2], picture) == (2, 1)
    assert clearest_word(maps, [1], picture)[0] == 1


def test_a_recorded_run_has_the_same_triangle_from_its_norms(model, made):
    trace = stable_diffusion.record(model, "a cat in a castle", seed=8, guidance_scale=4.0, **SIZE)
    run = pipeline_of_trace(trace)
    for shown, known in zip(run.sides, made[-1].sides, strict=True):
        assert shown == pytest.approx(known, abs=2e-3)
    assert run.panels == ("latent",) and len(run.fields.captions) == len(run.weights) == 4
    np.testing.assert_array_equal(sheet(run.pictures, 1)[0][..., :3], trace.x_0[1, 0])
    np.testing.assert_array_equal(sheet(run.fields, 3)[0][..., :3], trace.latents[3, 0])
    few = pipeline_of_trace(trace, most=2)
    assert few.steps == (1, 3) and few.count == 3 and len(few.pictures.captions) == 3
    off = stable_diffusion.record(model, "a cat", guidance_scale=1.0, **SIZE)
    assert pipeline_of_trace(off).sides == ()


def test_two_runs_are_as_far_apart_as_their_states(model, made):
    steps = made[1]
    apart = distances(steps, steps, 0, 1)
    a, b = steps[1].x_t
    assert apart[1] == pytest.approx(float((a - b).norm() / a.norm()), abs=1e-4) and len(apart) == 4
    assert distances(steps, steps) == (0.0,) * 4
    with pytest.raises(ValueError, match="3 and 2 steps"):
        distances(steps, steps[:2])


def test_the_message_holds_each_film_once(made):
    run = made[-1]
    message = to_message([run, run], [0.0] * 4)
    first, second = message["runs"]
    assert "pictures" not in first and message["frames"] == second["pictures"]["frames"]
    assert base64.b64decode(message["frames"][0]) == run.pictures.frames[0]
    assert message["key"] != to_message([run])["key"]
    with pytest.raises(ValueError, match="got 3"):
        to_message([run] * 3)
    assert 'className: "stage"' in script("pipeline") and ".pipeline" in style("pipeline")


def test_the_widget_begins_at_the_end_and_refuses_a_frame_that_is_none(made):
    from diffusion_explained.widgets import Pipeline

    shown = Pipeline([made[-1]])
    assert shown.frame == 3 and "Pipeline(B)" in repr(shown) and "pipelineInJupyter" in str(shown._esm)
    with pytest.raises(Exception, match="frame must be 0"):
        shown.frame = 4


def test_tokens_are_one_chip_per_word():
    one = {"ids": [1, 7, 8, 9, 2, 2, 2], "words": [("cat", 1), ("zyx", 2)], "used": 5, "cut": ""}
    found = [(chip["word"], chip["ids"]) for chip in chips(one)]
    assert found == [("start", [1]), ("cat", [7]), ("zyx", [8, 9]), ("end", [2]), ("padding × 2", [2])]
    assert [chip["special"] for chip in chips(one)] == [True, False, False, True, True]
    t5 = {"ids": [5, 6, 7, 1, 0, 0], "words": [("cat", 1), ("zebra", 2)], "used": 4, "cut": ""}
    assert [chip["word"] for chip in chips(t5)] == ["cat", "zebra", "end", "padding × 2"], "T5 has no start"
