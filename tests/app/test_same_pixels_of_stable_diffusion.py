"""The pages of Stable Diffusion: an address opens to the same pixels, with any of its controls off the default."""

import pytest
from conftest import LARGER
from same_pixels import check_all_at_once, check_alone
from test_same_pixels import ids
from visits import cheap_pages  # noqa: F401

from diffusion_explained.stable_diffusion.families import DEFAULT_MODEL

pytestmark = pytest.mark.usefixtures("cheap_pages")
VARIANTS = (  # page and address: together they show every control
    ("text_to_image", {"t2i_steps": "2", "t2i_count": "1"}),
    ("text_to_image", {"t2i_steps": "2", "t2i_count": "1", "start": "a picture"}),
    ("text_to_image", {"t2i_steps": "2", "t2i_count": "1", "t2i_beside": "prompt", "t2i_view": "walk"}),
    (
        "text_to_image",
        {"t2i_steps": "2", "t2i_count": "1", "t2i_beside": "seed", "t2i_view": "walk", "t2i_walk": "prompts"},
    ),
    ("control", {"control_steps": "1"}),
    ("control", {"control_steps": "1", "control_kind": "layout"}),
    ("control", {"regions_steps": "1", "control_kind": "regions"}),
    ("control", {"picture_steps": "1", "control_kind": "picture"}),
    ("latents", {}),
    (LARGER, {"t2i_steps": "2"}),
    (LARGER, {"t2i_steps": "2", "start": "a picture", "source": "a CIFAR-10 picture"}),
    (
        LARGER,
        {"t2i_steps": "2", "start": "a picture with a hole", "hole": "a rectangle"},
    ),
    ("compare", {"compare_steps": "2"}),
    # these two ship a safety checker, and need not be on this machine: the page says so, with all of its controls
    (LARGER, {"t2i_steps": "2", "sd_model": DEFAULT_MODEL}),
    ("compare", {"compare_steps": "2", "sd_model": DEFAULT_MODEL}),
)


@pytest.mark.parametrize("name, base", VARIANTS, ids=ids)
def test_with_every_control_set(open_page, name, base):
    check_all_at_once(open_page, name, base)


@pytest.mark.parametrize("name, base", VARIANTS, ids=ids)
def test_with_each_control_set_that_brings_others(open_page, name, base):
    check_alone(open_page, name, base)
