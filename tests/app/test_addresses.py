"""The address of every page: nothing that is put into it breaks the page, and what a page writes opens to the same."""

import re

import pytest
from conftest import LARGER, address
from explorer import address as address_of_page
from explorer import control_runs, drawings, own_schedule, setting_types, stable_sections, words
from visits import PAGES, QUICK, cheap_pages, drawn, keys, shown, words_of  # noqa: F401

pytestmark = pytest.mark.usefixtures("cheap_pages")

NASTY = (
    "1e999",
    "nan",
    "-inf",
    "-1",
    "9" * 5000,
    "1" * 25,
    "`![](http://example.com/x.png)`",
    "![](http://example.com/x.png)",
    "<img src=http://example.com/x.png>",
    "$x$ :smile: :red[x] **x**",
    "\u202egnp.exe\u2066",
    "\x00\x1b[31m\r\n\t",
    "\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
    "../../etc/passwd",
    "",
)
# -- nothing that is put into an address breaks the page ----------------------------------------------------


@pytest.fixture
def few_pictures(monkeypatch):
    """What the page draws is not looked at; a film still asks the address for its frame."""

    def scrubber(film, *, key, name="frame", frame=None, **_):
        last = len(film.captions) - 1
        address_of_page.frame(name, key, last, last if frame is None else frame)

    monkeypatch.setattr("explorer.scrubber.scrubber", scrubber)
    for name in ("strip", "gallery"):
        monkeypatch.setattr(f"explorer.page.{name}", lambda *args, **options: None)


@pytest.mark.usefixtures("few_pictures")
@pytest.mark.parametrize("name", PAGES)
def test_nasty_values_of_every_key_leave_the_page_whole(open_page, name):
    quick = QUICK.get(name, {})
    of_page = [key for key in keys(open_page(name, **quick)) if key not in quick]
    # every third: each key meets numbers, Markdown and control letters (its kind met all of them, below)
    for turn in range(0, len(NASTY), 3):
        asked = {key: NASTY[(turn + k) % len(NASTY)] for k, key in enumerate(of_page)}
        at = open_page(name, **quick, **asked)
        assert at.title[0].value
        assert set(address(at)) <= set(of_page) | set(quick)
        for text in words_of(at):
            outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)  # without code spans
            assert not re.search(r"(?<!\\)!\[|(?<!\\)<img|\x00|\u202e", outside), text
        notes = [info.value for info in at.info if "The address" in info.value]
        assert len(notes) == 1 or not of_page, notes


@pytest.fixture
def no_runs(monkeypatch):
    """Stable Diffusion draws nothing: a page without a picture has the same note of its address."""

    def refused(*_):
        raise ValueError("Nothing is drawn.")

    monkeypatch.setattr(drawings, "draw", refused)
    monkeypatch.setattr(control_runs, "draw", refused)
    monkeypatch.setattr(stable_sections, "run", lambda *args, **options: None)


@pytest.mark.usefixtures("no_runs")
@pytest.mark.parametrize("name", QUICK)
def test_keys_that_would_take_long_are_held_to_the_same(open_page, name):
    for key in QUICK[name]:
        at = open_page(name, **(QUICK[name] | {key: "9" * 5000}))
        assert "is not possible here" in " ".join(info.value for info in at.info)


def test_unknown_repeated_and_long_lists_of_keys_are_said_in_one_note(open_page):
    many = {f"key{k}": "x" for k in range(300)}
    at = open_page("reverse", steps="2", seed=["1", "2"], **many)
    assert at.number_input(key="seed").value == 0
    assert len(at.info) == 1 and "`seed=1`, `seed=2`" in at.info[0].value and "295 more" in at.info[0].value
    assert address(at) == {"steps": ["2"]}
    assert not open_page("reverse", steps="2", seed=["1", "1"]).info


def test_a_note_names_key_and_value_and_goes_when_the_visitor_chooses(open_page):
    at = open_page("reverse", steps="2", seed="1e999", eta="0.5")
    assert "`seed=1e999`" in at.info[0].value and "`eta=0.5`" in at.info[0].value
    at.number_input(key="seed").set_value(3).run()
    assert "seed" not in at.info[0].value and address(at) == {"steps": ["2"], "seed": ["3"]}


KINDS = (
    setting_types.Whole(0, 9),
    setting_types.Number(0.0, 9.0),
    setting_types.Range(0, 100),
    setting_types.OneOf((1, 2, "x")),
    setting_types.ManyOf(("x", "y")),
    setting_types.Switch(),
    setting_types.Text(),
    own_schedule.Falling(),
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize("text", [*NASTY, "1_0", "٣", "0x1", " 1", "TRUE", "1e-400", "9.00_1.00_-1.00_-3.00_-9.00"])
def test_a_kind_reads_what_it_has_and_writes_it_back_or_refuses(kind, text):
    try:
        value = kind.read([text])
    except ValueError:
        return
    assert kind.has(value) and kind.read(kind.write(value)) == value


@pytest.mark.parametrize("text", [*NASTY, "``", "a`b``c", " ", "a\u2028b"])
def test_outside_words_are_shown_and_do_nothing(text):
    shown = words.quoted(text)
    assert len(shown) < 400 and shown.isprintable()
    fence = re.match("`+", shown)[0]
    assert shown.endswith(fence) and fence not in shown[len(fence) : -len(fence)]
    plain = words.literal(text)
    assert not re.search(r"(?<!\\)[`!\[\]<>*_$:]", plain.replace("\\\\", ""))


# -- what is no control, and in the address all the same ---------------------------------------------------


@pytest.mark.parametrize("name, button", [("start", "From other noise"), ("text_to_image", "Other seeds"),
                                          ("text_to_image", "pick1")])  # fmt: skip
def test_what_a_button_changes_is_in_the_address_too(open_page, name, button):
    at = open_page(name, **({"t2i_steps": "1", "t2i_count": "2"} if name == "text_to_image" else {}))
    before = shown(at)
    next(one for one in at.button if button in (one.label, one.key)).click().run()
    assert shown(open_page(name, **address(at))) == shown(at) != before


@pytest.mark.parametrize("name, key, frame", [("start", "frame", 3), ("forward", "frame", 7), ("reverse", "frame", 1),
                                              ("schedules", "frame", 7),
                                              ("beyond", "frame", 1),
                                              ("text_to_image", "frame", 0),
                                              ("latents", "frame", 2), (LARGER, "frame", 0),
                                              ("compare", "frame", 1)])  # fmt: skip
def test_every_film_begins_at_the_frame_of_the_address(open_page, name, key, frame):
    at = drawn(open_page(name, **QUICK.get(name, {}), **{key: str(frame)}))
    assert shown(at)["films"][0][1] == frame
    assert key not in address(at), "the browser writes it"
    late = drawn(open_page(name, **QUICK.get(name, {}), **{key: "999"}))
    assert f"`{key}=999`" in " ".join(info.value for info in late.info)


def test_what_no_address_can_hold_is_said(open_page):
    from test_pages import png

    at = open_page("forward")
    assert any("opens the same page in another browser." in caption.value for caption in at.caption)
    at.file_uploader(key="upload").upload("a.png", png(), "image/png").run()
    assert any("leaves out your own image" in caption.value for caption in at.caption)


def test_nothing_brushed_is_said_by_the_board_alone(open_page):
    at = open_page(LARGER, t2i_steps="2", start="a picture with a hole", source="an emoji")
    said = " ".join(caption.value for caption in at.caption)
    assert "Nothing is brushed" not in said and "all of it is" not in said
