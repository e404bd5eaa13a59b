"""What leads through the pages: each try sets the state that its words speak of, each question has its answer."""

import json

import pytest
from conftest import APP, address
from explorer import page, page_words
from explorer.page_words import PAGES, PATH
from test_share import offered
from visits import QUICK, cheap_pages  # noqa: F401

from diffusion_explained.data.toys import TOYS

LED = [name for name, words in PAGES.items() if words.tries and name != "plane"]  # its own file opens the plane


def films(at):
    messages = (json.loads(element.proto.json) for element in at.get("bidi_component"))
    return [message for message in messages if message.get("film")]


@pytest.mark.parametrize("name", LED)
def test_each_try_sets_the_state_of_its_page(open_page, cheap_pages, monkeypatch, name):  # noqa: F811
    if name == "training":
        monkeypatch.setattr(page, "LONG", 0.0)  # no lesson begins by itself here: its own file trains
    at = open_page(name, **QUICK.get(name, {}))
    for number, one in enumerate(PAGES[name].tries, 1):
        at = at.button(key=f"try_{number}").click().run()
        assert not at.exception and not at.error, (number, at.exception)
        for key, value in one.sets.items():
            assert at.session_state[key] == value, (number, key)
        if one.moves:
            (shown,) = films(at)
            frame = one.moves.get("frame", {0.0: 0}.get(one.moves.get("scale"), len(shown["film"]["captions"]) - 1))
            assert shown["frame"] == frame and shown["token"] == str(number)
    offered(at, name)
    if PAGES[name].question is not None:
        answers = PAGES[name].question.answers
        for k in range(len(answers)):
            at = at.button(key=f"answer_{k}").click().run()
            right = k == PAGES[name].question.right
            assert PAGES[name].question.explanation in (at.success[0] if right else at.info[0]).value


def test_a_page_leads_to_the_next_and_all_are_on_the_path():
    order = [name for names in PATH.values() for name in names]
    assert sorted(order) == sorted(PAGES) and len(set(order)) == len(order)
    for name, words in PAGES.items():
        assert 0 < (APP / "thumbnails" / f"{name}.png").stat().st_size < 20_000, "the start page shows it"
        assert words.name and words.short and words.icon.startswith(":material/")
        assert len(words.tries) == 3 and all(one.title and one.words for one in words.tries)
        assert not any("**" in one.title + one.words for one in words.tries), "a button lays its bold parts out"
        if words.question is not None:
            assert 0 <= words.question.right < len(words.question.answers)
    assert all(one.sets.get("toy", "moons") in TOYS for one in page_words.PLANE.tries)


def test_a_reader_chooses_words_formulas_or_code_for_every_page(open_page, cheap_pages):  # noqa: F811
    formula, note = page_words.REVERSE.formulas[0], page_words.REVERSE.notes[0]
    at, shown = open_page("reverse", steps="2"), {}
    for name in ("formulas", "words", "code"):
        at = at.segmented_control(key="reader").set_value(name).run()
        assert address(at) == {"steps": ["2"], **({"reader": [name]} if name != page_words.USUAL_READER else {})}
        programs = [one for one in at.expander if one.label == "The same in Python"]
        shown[name] = (
            any(formula in one.value for one in at.latex),
            any(note in one.value for one in at.markdown),
            [one.proto.expanded for one in programs],
        )
    assert shown == {"formulas": (True, True, [False]), "words": (False, True, []), "code": (True, False, [True])}
    at.switch_page("pages_/samplers.py").run()
    assert at.segmented_control(key="reader").value == "code" and address(at)["reader"] == ["code"], "pages keep it"
    assert "`reader=poems`" in open_page("start", reader="poems").info[0].value
