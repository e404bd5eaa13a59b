"""Walks between prompts and noises: both ends are the pictures of their own prompt and seed."""

import pytest
import torch

from diffusion_explained import stable_diffusion
from diffusion_explained.stable_diffusion.walks import walk

OPTIONS = {"num_inference_steps": 2, "height": 64, "width": 64, "guidance_scale": 3.0}


@pytest.fixture(scope="module")
def model():
    return stable_diffusion.stand_in()


def test_a_walk_begins_and_ends_at_its_own_prompts_and_seeds(model):
    found = walk(model, "a cat", to_prompt="a red dog", seed=3, to_seed=5, count=3, negative="blue", **OPTIONS)
    first = model.sample("a cat", seed=3, negative="blue", **OPTIONS)
    last = model.sample("a red dog", seed=5, negative="blue", **OPTIONS)
    torch.testing.assert_close(found[:1], first, atol=1e-4, rtol=0)
    torch.testing.assert_close(found[2:], last, atol=1e-4, rtol=0)
    assert (found[1] - found[0]).abs().max() > 1e-3 and (found[1] - found[2]).abs().max() > 1e-3


def test_a_circle_passes_both_noises_a_quarter_apart(model):
    found = walk(model, "a cat", seed=3, to_seed=5, around=True, count=4, **OPTIONS)
    for k, seed in ((0, 3), (1, 5)):
        torch.testing.assert_close(found[k : k + 1], model.sample("a cat", seed=seed, **OPTIONS), atol=1e-4, rtol=0)


def test_a_walk_that_goes_nowhere_is_refused(model):
    with pytest.raises(ValueError, match="second end"):
        walk(model, "a cat", **OPTIONS)
    with pytest.raises(ValueError, match="give to_seed"):
        walk(model, "a cat", to_prompt="a dog", around=True, **OPTIONS)
    with pytest.raises(ValueError, match="count"):
        walk(model, "a cat", to_seed=1, count=1, **OPTIONS)
