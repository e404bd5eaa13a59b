"""The pages of our own networks: an address opens to the same pixels, with any of its controls off the default."""

import pytest
from same_pixels import check_all_at_once, check_alone
from visits import QUICK, cheap_pages  # noqa: F401

pytestmark = pytest.mark.usefixtures("cheap_pages")
VARIANTS = (  # page and address: together they show every control
    ("forward", {}),
    ("forward", {"model": "cifar10_unet_flow"}),
    ("schedules", {"own": "true"}),
    ("reverse", {"steps": "2"}),
    ("reverse", {"steps": "2", "sampler": "ddim", "fork": "true"}),
    ("beyond", QUICK["beyond"]),
    ("beyond", {"video_task": "continue", "video_steps": "2"}),
    ("beyond", {"data_kind": "sound", "sound_task": "noise"}),
    ("beyond", {"data_kind": "shapes", "shapes_steps": "2"}),
    ("beyond", {"data_kind": "molecules", "molecules_steps": "2"}),
    ("beyond", {"data_kind": "text", "text_steps": "2"}),
    ("beyond", {"data_kind": "text", "text_task": "fill", "text_steps": "2"}),
    ("beyond", {"data_kind": "text", "text_task": "noise"}),
    ("guidance", QUICK["guidance"]),
    ("samplers", QUICK["samplers"]),
    ("training", {}),
    ("break_it", QUICK["break_it"]),
    ("break_it", {"where": "training"}),
)


def ids(one):
    return one if isinstance(one, str) else "&".join(one.values())


@pytest.mark.parametrize("name, base", VARIANTS, ids=ids)
def test_with_every_control_set(open_page, name, base):
    check_all_at_once(open_page, name, base)


@pytest.mark.parametrize("name, base", [("start", {}), *VARIANTS], ids=ids)
def test_with_each_control_set_that_brings_others(open_page, name, base):
    check_alone(open_page, name, base)
