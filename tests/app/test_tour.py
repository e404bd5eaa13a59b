"""The tour: each stop sets the state of a try, is an address, and can be left."""

import json

import pytest
from conftest import address
from explorer.page_words import PAGES
from explorer.tour import STOPS
from visits import cheap_pages  # noqa: F401

pytestmark = pytest.mark.usefixtures("cheap_pages")


def number_of(page, number):
    return str(1 + STOPS.index((page, number)))


def frame(at):
    (shown,) = [one for one in (json.loads(e.proto.json) for e in at.get("bidi_component")) if one.get("film")]
    return shown["frame"]


def bar(at):
    return [one.value for one in at.markdown if one.value.startswith("**Stop ")]


def test_the_stops_follow_the_path_and_are_tries():
    pages = list(dict.fromkeys(stop.page for stop in STOPS))
    assert pages == [name for name in pages if 0 < len(PAGES[name].tries)] and len(pages) >= 10
    assert 12 <= len(STOPS) <= 20 and len(set(STOPS)) == len(STOPS), "about a minute each"
    assert all(1 <= stop.number <= len(PAGES[stop.page].tries) for stop in STOPS)


def test_a_stop_sets_the_state_of_its_try_until_the_visitor_changes_it(open_page):
    number = number_of("reverse", 2)
    at = open_page("reverse", tour=number)
    assert at.select_slider(key="steps").value == 2 and frame(at) == 2
    assert address(at) == {"tour": [number], "steps": ["2"]}
    assert f"**Stop {number} of {len(STOPS)}**" in bar(at)[0] and "Two steps only" in bar(at)[0]
    at = at.select_slider(key="steps").set_value(4).run()
    assert address(at) == {"tour": [number], "steps": ["4"]} and bar(at)
    again = open_page("reverse", tour=number, steps="4")
    assert again.select_slider(key="steps").value == 4 and bar(again) == bar(at), "an address with more is obeyed"


def test_a_stop_s_scale_is_a_frame_of_the_sweep(open_page):
    assert frame(open_page("guidance", tour=number_of("guidance", 1))) == 0
    assert frame(open_page("guidance", tour=number_of("guidance", 2))) == 1, "of 0 and 2, that nearest to 3"


def test_a_tour_is_left_and_the_page_stays(open_page):
    at = open_page("reverse", tour=number_of("reverse", 2))
    at = at.button(key="tour_leave").click().run()
    assert not bar(at) and address(at) == {"steps": ["2"]}


@pytest.mark.parametrize("number", ["99", "-1", "x", "0x1", "", number_of("forward", 1)])
def test_a_stop_that_is_not_of_this_page_is_named(open_page, number):
    at = open_page("reverse", tour=number)
    assert not bar(at) and "`tour=" in at.info[0].value and "tour" not in address(at)
    assert not bar(open_page("start", tour="1"))
