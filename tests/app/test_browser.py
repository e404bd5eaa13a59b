"""The explorer in headless Chromium: what only a browser can show. Skipped, with a word, where there is none."""

import io
import math
import re
from pathlib import Path
from urllib.parse import parse_qs, urlparse
from xml.etree import ElementTree

import pytest
from conftest import LARGER
from explorer.labels import PROMPT, STEPS, Control
from explorer.page_words import PAGES, PATH
from explorer.part_labels import LargerModels, StylePanel
from explorer.tour import STOPS
from in_browser import POLL, SECONDS, accessible, finished, ready
from PIL import Image
from screens import assert_as_kept

pytestmark = pytest.mark.browser
VISITED = {  # page -> its address
    "start": "",
    "forward": "forward",
    "schedules": "schedules",
    "reverse": "reverse?steps=2&data=cifar10",  # the longest names of classes below the pictures
    "training": "training",
    "beyond": "beyond?data_kind=text&text_steps=2",
    "guidance": "guidance?per_class=2&sweep_steps=4",
    "samplers": "samplers?most=4",
    "break_it": "break_it?break_steps=4",
    "text_to_image": "text_to_image?t2i_steps=2",
    "control": "control?control_steps=2",
    "latents": "latents",
    "stable_diffusion": f"{LARGER}&t2i_steps=2",
    "compare": "compare?compare_steps=2",
}
LARGE, TALL = 1920, 1800  # pixels: a projector's width; the height of a page whose lower parts are seen too
SCREENS = (
    (390, "dark", "rgb(16, 21, 28)"),
    (1440, "light", "rgb(255, 255, 255)"),
    (LARGE, "light", "rgb(255, 255, 255)"),
)


def go_to(page, name):
    """Open the group of the navigation that holds the page of this name, and choose the page."""
    group = next(group for group, names in PATH.items() if name in [PAGES[one].name for one in names])
    link = page.get_by_test_id("stTopNavDropdownLink").filter(has_text=name)
    for _ in range(10):  # a menu that opens while the page is still being put up may close again
        page.get_by_test_id("stTopNavSection").filter(has_text=group).click()
        page.wait_for_timeout(500)
        if link.is_visible():
            break
    link.click()


def pixels(page):
    """What the first canvas of the scrubber shows, or the picture of the whole run, as a PNG's bytes."""
    canvas = page.locator(".scrubber canvas.pixels, .pipeline .decoder canvas.picture").first
    return canvas.evaluate("canvas => canvas.toDataURL()")


def until_pixels(page, are_so):
    """Wait until the first canvas shows pixels that are so: a page may not have begun to draw when it is looked at."""
    for _ in range(1000):
        if are_so(pixels(page)):
            return
        page.wait_for_timeout(200)
    raise AssertionError("the picture did not become so")


def coloured(page):
    """Whether the first canvas of the scrubber shows anything but grey."""
    return page.locator(".scrubber canvas.pixels").first.evaluate(
        """canvas => {
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return data.some((value, k) => k % 4 === 0 && value !== data[k + 1]);
        }"""
    )


def drag_to_the_first(page, slider):
    """Pull the scrubber's slider from its end to its beginning."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 6, box["y"] + box["height"] / 2)
    page.mouse.down()
    for k in range(20):
        page.mouse.move(box["x"] + box["width"] * (19 - k) / 20, box["y"] + box["height"] / 2)
    page.mouse.up()
    page.wait_for_timeout(500)


def one_slider_moves_both_models(page):
    """The slider of the page Compare draws another frame of each model."""
    _, slider = ready(page)
    canvases = page.locator(".scrubber canvas.pixels")
    assert canvases.count() == 4
    before = [canvas.evaluate("canvas => canvas.toDataURL()") for canvas in canvases.all()]
    drag_to_the_first(page, slider)
    after = [canvas.evaluate("canvas => canvas.toDataURL()") for canvas in canvases.all()]
    assert all(one != other for one, other in zip(before, after, strict=True))


def touched_on_its_cells(page):
    """The latent of the page Latents is touched by mouse and keyboard; the picture and the program follow."""
    latent = page.locator(".cells[data-ready=true]")
    canvas, other, gallery = (
        latent.locator("canvas").first,
        latent.locator("canvas").nth(1),
        page.locator(".gallery").first,
    )
    box, before, seen = canvas.bounding_box(), gallery.inner_html(), canvas.evaluate("canvas => canvas.toDataURL()")
    page.mouse.move(box["x"] + 2.5 * box["width"] / 16, box["y"] + 3.5 * box["height"] / 16)
    page.mouse.down()
    page.mouse.move(box["x"] + 4.5 * box["width"] / 16, box["y"] + 3.5 * box["height"] / 16, steps=3)
    assert canvas.evaluate("canvas => canvas.toDataURL()") != seen, "the cell follows at once"
    page.mouse.up()
    page.get_by_text("+4 in channel 1 at x = 4, y = 3").wait_for()
    page.wait_for_url(re.compile("poke_x=4.*poke_y=3|poke_y=3.*poke_x=4"))
    assert gallery.inner_html() != before
    page.get_by_test_id("stCode").filter(has_text="changed[0, 0, 3, 4] += 4.0").wait_for(state="attached")
    other.focus()
    page.keyboard.press("ArrowRight")  # the first key chooses the channel
    page.keyboard.press("ArrowRight")
    page.get_by_text("+4 in channel 2 at x = 5, y = 3").wait_for()
    assert "+4 at x = 5, y = 3" in other.get_attribute("aria-label")
    page.get_by_role("slider", name="Amount").focus()
    page.keyboard.press("Home")
    page.get_by_text("-6 in channel 2").wait_for()
    page.get_by_test_id("stCode").filter(has_text="changed[0, 1, 3, 5] += -6.0").wait_for(state="attached")
    assert "-6 at x = 5" in other.get_attribute("aria-label")


def result_first_on_a_phone(page, result, control):
    """On a desk a result stands beside its controls, and on a phone above them."""
    page.set_viewport_size({"width": 1440, "height": 900})
    finished(page)
    beside = [one.bounding_box() for one in (result, control)]
    assert beside[0]["x"] > beside[1]["x"]
    page.set_viewport_size({"width": 390, "height": 800})
    finished(page)
    result.scroll_into_view_if_needed()
    assert result.bounding_box()["y"] < control.bounding_box()["y"]


def stable_diffusion_on_a_phone(page):
    main = page.get_by_test_id("stMain")
    result_first_on_a_phone(
        page, main.get_by_role("heading", name=LargerModels.picture), main.get_by_role("slider", name=STEPS)
    )


def your_style_on_a_phone(page):
    main = page.get_by_test_id("stMain")
    main.get_by_role("radio", name=Control.kinds["style"]).click()
    page.wait_for_url(re.compile("control_kind=style"))
    finished(page)
    result_first_on_a_phone(
        page, main.get_by_role("textbox", name=PROMPT), main.get_by_role("combobox", name=StylePanel.origin)
    )


ALSO = {  # page -> what else is tried on it
    "compare": one_slider_moves_both_models,
    "latents": touched_on_its_cells,
    "stable_diffusion": stable_diffusion_on_a_phone,
    "control": your_style_on_a_phone,
}


@pytest.mark.parametrize("name", VISITED)
def test_a_page_fits_a_phone_and_a_desk_in_dark_and_light(tab, name, tmp_path):
    page = tab(VISITED[name], width=390, scheme="dark")
    main = page.get_by_test_id("stMain")
    for width, scheme, colour in SCREENS:
        page.set_viewport_size({"width": width, "height": 800})  # the same page follows the window and the system
        page.emulate_media(color_scheme=scheme)
        background = "getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
        page.wait_for_function(f"() => {background} === '{colour}'", polling=POLL)
        finished(page)
        assert main.evaluate("e => e.scrollWidth - e.clientWidth") <= 0, "nothing sticks out sideways"
        for captions in page.locator(".strip .captions").all():
            boxes = [caption.bounding_box() for caption in captions.locator("span").all()]
            ends = [box["x"] + box["width"] for box in boxes]
            assert all(end <= box["x"] for end, box in zip(ends, boxes[1:], strict=False)), "no caption over the next"
        if width != LARGE:  # axe-core has read the same page in the same colours
            accessible(page)
        page.set_viewport_size({"width": width, "height": TALL})
        assert_as_kept(page, f"{name}-{width}", tmp_path / f"{name}-{width}.png")
    for image in main.locator("img").all():
        assert image.get_attribute("alt"), "every picture has its words"
    if name in ALSO:  # on the page that is here: to open it takes longer than to use it
        ALSO[name](page)


def test_scrubbing_a_run_stays_in_the_browser(tab):
    page = tab("reverse?steps=10")
    scrubber, slider = ready(page)
    assert scrubber.get_attribute("data-frame") == "10"
    before, draws, sent = pixels(page), int(scrubber.get_attribute("data-draws")), len(page.sent)
    drag_to_the_first(page, slider)
    assert scrubber.get_attribute("data-frame") == "0"
    assert int(scrubber.get_attribute("data-draws")) - draws >= 8
    assert pixels(page) != before
    assert "step 1 of 10" in page.locator(".scrubber output").inner_text()
    assert len(page.sent) == sent, "not one message to the server"


def test_changing_the_data_set_gives_pictures_in_colour_to_scrub(tab):
    page = tab("reverse?steps=2")
    ready(page)
    assert not coloured(page)
    page.get_by_role("radio", name="CIFAR-10").click()
    page.wait_for_url(re.compile("model=cifar10_unet_flow"))
    page.wait_for_selector(".scrubber[data-ready=true][data-frame='8']")
    finished(page)
    _, slider = ready(page)
    assert page.locator(".scrubber output").inner_text() == "final image after 8 steps"
    assert coloured(page)
    before, sent = pixels(page), len(page.sent)
    drag_to_the_first(page, slider)
    assert "step 1 of 8" in page.locator(".scrubber output").inner_text()
    assert pixels(page) != before and coloured(page)
    assert len(page.sent) == sent, "not one message to the server"


def test_a_branch_begins_where_the_slider_is_and_both_ends_are_shown(tab):
    page = tab("reverse?steps=4")
    _, slider = ready(page)
    slider.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Branch here").click()
    tree = page.get_by_role("img", name="below them those of the branch: class 8 from step 2 on")
    tree.wait_for()
    page.wait_for_selector(".scrubber[data-ready=true][data-frame='4']")
    large = page.locator(".scrubber .lead.pair canvas.pixels")
    assert large.count() == 4
    at_the_end = [large.nth(k).evaluate("canvas => canvas.toDataURL()") for k in (0, 2)]
    assert at_the_end[0] != at_the_end[1]
    page.wait_for_url(re.compile("fork=true"))
    finished(page)
    sent, box = len(page.sent), tree.bounding_box()
    tree.click(position={"x": 60, "y": 20})  # the first step: both are still one
    page.wait_for_selector(".scrubber[data-frame='0']")
    assert len({large.nth(k).evaluate("canvas => canvas.toDataURL()") for k in (0, 2)}) == 1 and box["height"] > 100
    assert len(page.sent) == sent, "not one message to the server"


def test_a_schedule_is_dragged_the_pictures_follow_and_the_address_holds_it(tab):
    page = tab("schedules?schedules=cosine&schedules=yours")
    ready(page)
    page.wait_for_selector(".curve[data-ready=true]")
    handle = page.get_by_role("slider", name="log SNR at 50% of the way to noise")
    assert handle.get_attribute("aria-valuenow") == "-1"
    picture = page.locator(".curve .film canvas").nth(5)
    before, sent = picture.evaluate("canvas => canvas.toDataURL()"), len(page.sent)
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    page.mouse.move(box["x"] + 13, box["y"] + 13)
    page.mouse.down()
    page.mouse.move(box["x"] + 13, box["y"] - 400, steps=4)  # above its neighbour, which it cannot pass
    assert handle.get_attribute("aria-valuenow") == "0.5" and len(page.sent) == sent, "the browser draws it alone"
    assert picture.evaluate("canvas => canvas.toDataURL()") != before
    assert picture.get_attribute("aria-label") == "x_t at 50% of the way: 62% of its variance is image"
    page.mouse.up()
    page.wait_for_url(re.compile("curve=9.00_1.00_0.50_-3.00_-9.00"))
    handle.focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_url(re.compile("curve=9.00_1.00_0.25_-3.00_-9.00"))
    finished(page)
    page.locator(".scrubber output").filter(has_text="Yours 0.563").wait_for()
    page.get_by_role("button", name="Share").click()
    figure = page.locator(".panel").get_by_role("combobox", name="Figure")
    for name in ("log SNR: ", "α, the factor on the image"):  # a chart alone, and one of a film
        option = figure.locator("option").filter(has_text=re.compile(f"^{name}")).first
        figure.select_option(value=option.get_attribute("value"))
        with page.expect_download() as download:
            page.get_by_role("button", name="SVG", exact=True).click()
        drawing = ElementTree.fromstring(Path(download.value.path()).read_bytes())
        kinds = [one.tag.split("}")[1] for one in drawing.iter()]
        assert "image" not in kinds and kinds.count("path") > 10, "lines and words, no pixels"
        assert "Yours" in [one.text for one in drawing.iter()]


def test_keyboard_and_play(tab):
    page = tab("reverse?steps=5")
    scrubber, slider = ready(page)
    slider.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert scrubber.get_attribute("data-frame") == "2"
    assert slider.get_attribute("aria-valuetext") == page.locator(".scrubber output").inner_text()
    page.get_by_role("button", name="Play").click()
    page.wait_for_selector(".scrubber[data-frame='5']")
    page.get_by_role("button", name="Play").wait_for()  # it was "Pause" while playing
    for canvas in page.locator(".scrubber canvas").all():
        assert canvas.get_attribute("role") == "img" and canvas.get_attribute("aria-label")


def test_a_cloud_is_turned_and_a_sound_is_heard(tab):
    page = tab("beyond?data_kind=shapes&shapes_steps=2&turn=60")
    scrubber, slider = ready(page)
    cloud, sent = page.locator(".part.cloud canvas").first, len(page.sent)
    assert scrubber.get_attribute("data-turn") == "60 20"
    seen = cloud.evaluate("canvas => canvas.toDataURL()")
    box = cloud.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, box["y"] + 60, steps=4)
    page.mouse.up()
    assert scrubber.get_attribute("data-turn") == "100 0"
    assert cloud.evaluate("canvas => canvas.toDataURL()") != seen
    cloud.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(re.compile("turn=95.*tilt=0|tilt=0.*turn=95"))
    assert "Turned by 95°" in cloud.get_attribute("aria-label")
    words = cloud.get_attribute("aria-label")
    drag_to_the_first(page, slider)
    assert cloud.get_attribute("aria-label") != words, "the words follow the slider"
    assert len(page.sent) == sent, "not one message to the server"
    page.get_by_role("radio", name="Sound").click()
    page.wait_for_selector(".part.sound audio")
    lasts = "() => [...document.querySelectorAll('audio')].every(one => Math.abs(one.duration - 1.008) < 0.01)"
    page.wait_for_function(lasts, polling=POLL)
    assert all("a classifier hears" in one.get_attribute("aria-label") for one in page.locator("audio").all())
    page.get_by_role("radio", name="Molecules").click()
    molecule = page.locator(".part.molecule canvas").first
    molecule.wait_for()
    finished(page)
    _, slider = ready(page)
    seen, words = molecule.evaluate("canvas => canvas.toDataURL()"), molecule.get_attribute("aria-label")
    molecule.focus()
    page.keyboard.press("ArrowLeft")
    assert molecule.evaluate("canvas => canvas.toDataURL()") != seen
    drag_to_the_first(page, slider)
    assert molecule.get_attribute("aria-label") != words


def test_any_page_is_shared_and_shown_by_a_projector(tab):
    page = tab("reverse?steps=4&seed=3")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    scrubber, slider = ready(page)
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(re.compile("frame=3"))
    page.get_by_role("button", name="Share").click()
    panel = page.locator(".panel")
    panel.wait_for()
    accessible(page)

    def copied(button, said):
        panel.get_by_role("button", name=button).click()
        panel.get_by_text(said).wait_for()
        return page.evaluate("navigator.clipboard.readText()")

    def saved(button):
        with page.expect_download() as download:
            page.get_by_role("button", name=button, exact=True).click()
        return download.value.suggested_filename, Path(download.value.path()).read_bytes()

    assert copied("Copy the link", "The link is copied") == page.url
    cell = copied("Copy as a notebook cell", "The cell is copied")
    assert cell.endswith("Image.fromarray(mosaic(pixels(x_0), 5))")
    name, content = saved("Film (GIF)")
    with Image.open(io.BytesIO(content)) as film:
        assert (name, film.format, film.n_frames) == ("reverse.gif", "GIF", 5)
    name, content = saved("Film (WebM)")
    assert name == "reverse.webm" and content[:4] == b"\x1aE\xdf\xa3" and len(content) > 2_000
    assert scrubber.get_attribute("data-frame") == "3", "the slider has returned"
    name, content = saved("PNG")
    with Image.open(io.BytesIO(content)) as whole:
        assert name == "reverse.png" and whole.width == 2 * math.ceil(scrubber.bounding_box()["width"])
        assert len(whole.convert("L").getcolors(256)) > 50, "there is a picture"
    name, content = saved("SVG")
    drawing = ElementTree.fromstring(content)
    kinds = [one.tag.split("}")[1] for one in drawing.iter()]
    assert name == "reverse.svg" and kinds.count("image") >= 9 and kinds.count("path") == 4
    assert {"noisy", "predicted", "0.25"} <= {one.text for one in drawing.iter() if one.tag.endswith("text")}

    page.keyboard.press("Escape")
    panel.wait_for(state="hidden")
    projected = page.locator("html[data-projector]")
    seed, sent = page.get_by_role("spinbutton", name="Seed"), len(page.sent)
    seed.focus()
    page.keyboard.press("p")
    assert projected.count() == 0, "what is typed in a field is no command"
    seed.blur()
    page.keyboard.press("p")
    projected.wait_for(state="attached")
    seed.wait_for(state="hidden")
    page.get_by_text("← → step").wait_for()
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(re.compile("frame=2"))
    assert scrubber.get_attribute("data-frame") == "2"
    page.keyboard.press("Escape")
    seed.wait_for()
    assert projected.count() == 0 and len(page.sent) == sent, "nothing of the state was touched"


def test_the_tour_leads_from_try_to_try_and_back(tab):
    number = 1 + [stop.page for stop in STOPS].index("forward")
    page = tab(f"forward?tour={number}")
    scrubber, _ = ready(page)
    assert scrubber.get_attribute("data-frame") == "40"
    page.get_by_text(f"Stop {number} of {len(STOPS)}").wait_for()
    page.locator(".st-key-tour_next a").click()
    page.wait_for_selector(".scrubber[data-ready=true][data-frame='50']")
    assert parse_qs(urlparse(page.url).query)["tour"] == [str(number + 1)]
    page.keyboard.press("p")
    page.keyboard.press("n")
    page.get_by_role("heading", level=1, name=re.compile("Reverse")).wait_for()
    page.wait_for_selector(".scrubber[data-ready=true][data-frame='2']")
    assert page.locator("html[data-projector]").count() == 1, "the projector stays on"
    page.go_back()
    page.wait_for_selector(".scrubber[data-ready=true][data-frame='50']")


def test_a_blob_is_finished_on_the_start_page(tab):
    page = tab("")
    ready(page)
    board(page)
    stroke(page, (0.3, 0.2), (0.6, 0.5), (0.3, 0.8))
    page.locator(".scrubber").nth(1).wait_for()
    page.get_by_text("Our classifier reads them as").wait_for()


def test_settings_go_into_the_address_and_come_back(tab):
    page = tab("reverse?steps=4")
    ready(page)
    page.get_by_role("spinbutton", name="Seed").fill("17")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("seed=17"))
    finished(page)
    assert parse_qs(urlparse(page.url).query) == {"steps": ["4"], "seed": ["17"]}
    ready(page)
    shown = pixels(page)
    page.reload()
    finished(page)
    ready(page)
    assert pixels(page) == shown


def test_the_timestep_of_the_forward_page_is_in_the_address(tab):
    page = tab("forward?frame=10")
    scrubber, slider = ready(page)
    assert scrubber.get_attribute("data-frame") == "10"
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile("frame=11"))
    finished(page)
    assert scrubber.get_attribute("data-frame") == "11"
    charts = page.locator(".scrubber canvas.chart")
    assert charts.count() == 3
    before = charts.first.evaluate("canvas => canvas.toDataURL()")
    page.keyboard.press("End")
    assert charts.first.evaluate("canvas => canvas.toDataURL()") != before, "the histogram follows"


def test_back_leaves_the_page_whatever_was_set_on_it(tab):
    page = tab("reverse?steps=4&w=3")
    entries = page.evaluate("history.length")
    go_to(page, "Forward")
    page.wait_for_url(re.compile("/forward"))
    finished(page)
    _, slider = ready(page)
    assert page.evaluate("history.length") == entries + 1 and urlparse(page.url).query == ""
    slider.focus()
    for k in range(5):
        page.keyboard.press("ArrowRight")
        page.wait_for_url(re.compile(f"frame={26 + k}"))
    page.get_by_role("spinbutton", name="Seed of the noise").fill("7")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("seed=7"))
    finished(page)
    assert parse_qs(urlparse(page.url).query) == {"frame": ["30"], "seed": ["7"]}, "the slider stays where it is"
    assert page.evaluate("history.length") == entries + 1, "settings replace the entry"
    page.go_back()
    page.wait_for_url(re.compile("/reverse"))
    page.get_by_text("Reverse: from noise to image").wait_for()
    finished(page)
    assert parse_qs(urlparse(page.url).query) == {"steps": ["4"], "w": ["3"]}
    assert page.get_by_role("slider", name="frame").get_attribute("max") == "4"
    page.go_forward()
    page.wait_for_url(re.compile("/forward"))
    page.get_by_text("Forward: from image to noise").wait_for()
    finished(page)
    scrubber, _ = ready(page)
    assert scrubber.get_attribute("data-frame") == "30"
    assert parse_qs(urlparse(page.url).query) == {"frame": ["30"], "seed": ["7"]}


def test_the_frame_of_any_film_and_a_part_s_own_controls_are_in_the_address(tab):
    page = tab("reverse?steps=4")
    _, slider = ready(page)
    sent = len(page.sent)
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(re.compile("frame=3"))
    assert len(page.sent) == sent, "not one message to the server"
    page = tab(page.url.split("/")[-1])
    scrubber, slider = ready(page)
    assert scrubber.get_attribute("data-frame") == "3"
    slider.focus()
    page.keyboard.press("End")
    page.wait_for_function("() => !location.search.includes('frame')", polling=POLL)
    page = tab("latents")
    page.get_by_role("slider", name="Amount").focus()
    page.keyboard.press("Home")
    page.wait_for_url(re.compile("poke_amount=-6"))


def test_an_address_fetches_nothing_from_elsewhere(tab):
    page = tab("reverse?steps=2&seed=%60%21%5B%5D%28http%3A%2F%2Fexample.com%2Fx.png%29")
    page.get_by_text("which is not possible here").wait_for()
    page.wait_for_url(lambda url: urlparse(url).query == "steps=2")  # the address is written after the words


def test_stable_diffusion_runs_beside_the_page_and_is_stopped(tab):
    page = tab("text_to_image?sd_model=stand-in&t2i_steps=4&t2i_count=4")
    page.wait_for_selector(".pipeline[data-ready=true][data-frame='4']")  # not the recorded run, which has 12 steps
    whole = page.locator(".pipeline")
    before, sent = pixels(page), len(page.sent)
    drag_to_the_first(page, whole.get_by_role("slider"))
    assert "step 1 of 4" in whole.locator("output").inner_text() and pixels(page) != before
    assert len(page.sent) == sent, "not one message to the server"
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a castle")
    page.keyboard.press("Enter")
    page.get_by_text("made with other settings than these").wait_for()
    page.get_by_role("slider", name="Steps").focus()
    page.keyboard.press("End")
    page.wait_for_url(re.compile("t2i_steps=100"))
    page.get_by_role("button", name="Run", exact=True).click()
    stop = page.get_by_test_id("stMain").get_by_role("button", name="Stop")  # the page's own, not Streamlit's
    stopped = page.get_by_text("stopped. The result before it is still below")
    stop.wait_for()
    for _ in range(30):  # a page that is still being put up may take the place of what was clicked
        if stop.is_visible():
            stop.click()
        page.wait_for_timeout(2000)
        if stopped.is_visible():
            break
    stopped.wait_for()
    assert page.locator(".chips").get_by_text("castle").count() == 0, (
        "the words that are shown are those of the run before"
    )
    page.get_by_role("slider", name="Steps").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")  # of a single step with this spacing the model says that it is none
    page.wait_for_url(re.compile("t2i_steps=2&|t2i_steps=2$"))
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_selector(".pipeline[data-ready=true][data-frame='2']")
    page.locator(".chips").get_by_text("castle").wait_for()


def test_a_page_that_is_loaded_again_finds_its_job_and_a_closed_tab_ends_it(tab):
    page = tab("text_to_image?sd_model=stand-in&t2i_steps=100&t2i_count=4")
    page.get_by_text("nothing has begun").wait_for()
    page.get_by_role("button", name="Run", exact=True).click()
    bar = page.get_by_test_id("stProgress")
    bar.get_by_text("step ").wait_for()
    page.reload()
    bar.get_by_text(re.compile("step|before you")).wait_for()
    page.get_by_test_id("stMain").get_by_role("button", name="Stop").wait_for()
    assert page.get_by_text("nothing has begun").count() == 0
    page.close()
    page = tab("stable_diffusion?sd_model=stand-in&sd_steps=4")  # an address of an earlier release
    page.wait_for_url(re.compile(r"/text_to_image\?.*t2i_steps=4"))
    page.wait_for_selector(".pipeline[data-ready=true][data-frame='4']")  # the worker is free again


def test_two_visitors_at_once_see_their_own(tab):
    first, second = tab("reverse?steps=4&class=1"), tab("reverse?steps=4&class=8")
    ready(first), ready(second)
    ones, eights = pixels(first), pixels(second)
    assert ones != eights
    second.get_by_role("spinbutton", name="Seed").fill("5")
    second.keyboard.press("Enter")
    second.wait_for_url(re.compile("seed=5"))
    finished(second)
    ready(second)
    until_pixels(second, lambda shown: shown != eights)
    assert pixels(first) == ones


def test_moving_between_pages_by_the_navigation(tab):
    page = tab("")
    for name in ("Forward", "Schedules", "Reverse"):
        go_to(page, name)
        page.wait_for_url(re.compile(name.lower()))
        page.get_by_role("heading", level=1, name=re.compile(name)).wait_for()
        finished(page)
        assert page.get_by_test_id("stException").count() == 0


# -- the board ----------------------------------------------------------------------------------------------


def choose(page, label, option):
    page.get_by_test_id("stMain").evaluate("e => e.scrollTo(0, 0)")
    expected = page.get_by_role("option", name=option, exact=True)
    for _ in range(10):  # a list that opens while the page is still being put up may close again
        page.get_by_role("combobox", name=label).click()
        page.wait_for_timeout(1000)
        if expected.is_visible():
            break
    expected.click()
    page.wait_for_timeout(300)
    finished(page)


def board(page, kind=""):
    """The board once it can be painted on."""
    page.wait_for_selector(f".board{kind}[data-ready=true]")
    return page.locator(".board")


def stroke(page, *places):
    """Paint from place to place, in parts of the board's width and height; then wait for the run that follows."""
    canvas = page.locator(".board canvas")
    canvas.evaluate("canvas => canvas.scrollIntoView({ block: 'center' })")  # not under the navigation
    page.wait_for_timeout(200)
    box = canvas.bounding_box()
    spots = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
    page.mouse.move(*spots[0])
    page.mouse.down()
    for spot in spots[1:]:
        page.mouse.move(*spot, steps=8)
    page.mouse.up()
    page.wait_for_timeout(500)
    finished(page)


def at_place(page, x, y):
    """The red, green, blue and alpha of what is painted at a place of the board."""
    return page.locator(".board canvas").evaluate(
        """(canvas, [x, y]) => Array.from(canvas.getContext("2d").getImageData(
            Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data)""",
        [x, y],
    )


def test_painting_on_the_board_changes_what_is_drawn(tab):
    page = tab("text_to_image?t2i_steps=4&t2i_count=1")
    choose(page, "Start from", "a picture")
    choose(page, "Which picture", "white paper")
    page.wait_for_url(re.compile("source=white"))
    painted = board(page)
    finished(page)
    ready(page)
    before = pixels(page)
    page.get_by_role("button", name="red", exact=True).click()
    stroke(page, (0.2, 0.3), (0.8, 0.3))
    assert at_place(page, 0.5, 0.3) == [221, 42, 47, 255] and at_place(page, 0.5, 0.7)[3] == 0
    assert "% of the picture is painted" in painted.locator("output").inner_text()
    ready(page)
    until_pixels(page, lambda shown: shown != before)
    page.get_by_role("button", name="eraser", exact=True).click()
    stroke(page, (0.5, 0.1), (0.5, 0.5))
    assert at_place(page, 0.5, 0.3)[3] == 0 and at_place(page, 0.25, 0.3)[3] == 255
    page.get_by_role("button", name="Undo").click()
    assert at_place(page, 0.5, 0.3)[3] == 255
    page.get_by_role("button", name="Clear").click()
    page.wait_for_timeout(500)
    finished(page)
    assert painted.get_attribute("data-covered") == "0.0"
    ready(page)
    until_pixels(page, lambda shown: shown == before)


def test_a_hole_is_brushed_by_keyboard_too(tab):
    page = tab("text_to_image?t2i_steps=4&t2i_count=1")
    choose(page, "Start from", "a picture with a hole")
    hole = board(page, ".hole")
    page.get_by_text("Nothing is brushed yet").wait_for()
    page.locator(".board canvas").focus()
    for key in ("Space", "ArrowRight", "ArrowRight", "ArrowDown", "Space"):
        page.keyboard.press(key)
    page.wait_for_timeout(500)
    finished(page)
    share = float(hole.get_attribute("data-covered"))
    assert 3 < share < 30 and at_place(page, 0.5, 0.5)[3] == 255
    assert page.get_by_text("Nothing is brushed yet").count() == 0
    page.keyboard.press("ArrowDown")
    assert float(hole.get_attribute("data-covered")) == share, "a brush that is lifted paints nothing"
    page.keyboard.press("Control+z")
    assert float(hole.get_attribute("data-covered")) == 0


def test_a_finger_paints_and_does_not_scroll(chromium, server):
    context = chromium.new_context(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.set_default_timeout(400 * SECONDS)
    page.goto(f"{server}/text_to_image?t2i_steps=4&t2i_count=1")
    finished(page)
    choose(page, "Start from", "a picture")
    board(page)
    canvas = page.locator(".board canvas")
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    assert canvas.evaluate("e => getComputedStyle(e).touchAction") == "none"
    box = canvas.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(300)
    assert at_place(page, 0.5, 0.5)[3] == 255
    context.close()


def test_the_picture_of_the_whole_opens_and_moves_in_the_browser(tab):
    page = tab("text_to_image?t2i_steps=4&t2i_count=1&t2i_beside=prompt")
    whole = page.locator(".pipeline[data-ready=true]")
    whole.wait_for()
    slider, sent = whole.get_by_role("slider"), len(page.sent)
    picture, attention = whole.locator(".decoder canvas.picture").first, whole.locator(".unet canvas.attention").first
    finished, said = picture.evaluate("canvas => canvas.toDataURL()"), picture.get_attribute("aria-label")
    slider.focus()
    page.keyboard.press("Home")
    assert (
        "step 1 of 4" in whole.locator("output").inner_text() and "Step 1 of 4" in whole.locator(".says").inner_text()
    )
    assert picture.evaluate("canvas => canvas.toDataURL()") != finished and picture.get_attribute("aria-label") != said
    assert "0.00" in whole.locator("canvas.river").get_attribute("aria-label")
    whole.get_by_role("button", name="U-Net").click()
    assert whole.get_by_role("button", name="U-Net").get_attribute("aria-expanded") == "true"
    before = attention.evaluate("canvas => canvas.toDataURL()")
    whole.locator(".unet .word").first.click()
    assert attention.evaluate("canvas => canvas.toDataURL()") != before
    page.wait_for_url(re.compile("open=unet.*word=0|word=0.*open=unet"))
    page.keyboard.press("Escape")
    assert whole.locator(".unet canvas.attention").count() == 0
    assert whole.get_by_role("button", name="U-Net").evaluate("e => e === e.getRootNode().activeElement"), (
        "focus returns"
    )
    assert len(page.sent) == sent, "not one message to the server"
