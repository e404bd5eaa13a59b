"""The explorer's pages, in this process for AppTest, and as a server of its own for browsers."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl

import in_browser
import pytest
import streamlit
from servers import unused_port
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from diffusion_explained.cli import launch

APP = Path(__file__).parents[2] / "app"
LARGER = "text_to_image?sd_model=stand-in"  # the page with a model that draws when it is asked
# The headless shell is Chromium without the window around the page, which costs a quarter of a test's time.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
sys.path.insert(0, str(APP))  # as `streamlit run` does
# Each AppTest searches all installed packages for Streamlit components, which takes longer than many of our pages.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)


@pytest.fixture
def open_page():
    """open_page("reverse?w=3.5", steps="2") -> the page after its first run, with these settings in its address."""

    def opened(name: str, **address: str) -> AppTest:
        at = AppTest.from_file(APP / "main.py", default_timeout=300)
        name, _, settings = name.partition("?")
        if name != "start":  # at once, for a page's address is its file's name
            at.switch_page(f"pages_/{name}.py")
        at.query_params.update(dict(parse_qsl(settings)) | address)
        at.run()
        assert not at.exception, at.exception[0].message
        return at

    return opened


def eventually(what: Callable[[], object]) -> None:
    """Wait until it is true: half a minute at most, on a machine that is busy."""
    for _ in range(3000):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def finished(at: AppTest) -> AppTest:
    """Run the page until its job has ended; not meanwhile, for each run of the page costs as much as the job."""
    for _ in range(60):
        if not at.get("progress"):
            return at
        wait([at.session_state.job._future], timeout=5)
        at.run()
    raise AssertionError("the job did not end")


def pictures_of(at: AppTest) -> list[tuple[str, str]]:
    """(alternative text, source) of the page's pictures."""
    found = (re.findall(r'<img src="([^"]*)" alt="([^"]*)">', one.proto.body) for one in at.get("html"))
    return [(html.unescape(alt), source) for some in found for source, alt in some]


def address(at: AppTest) -> dict[str, list[str]]:
    """What the page writes into the browser's address, but for the frames of its films, which the browser writes."""
    messages = (json.loads(element.proto.json) for element in at.get("bidi_component"))
    return parse_qs([message["query"] for message in messages if "query" in message][-1], keep_blank_values=True)


@pytest.fixture
def network_calls(monkeypatch) -> list[int]:
    """Grows by the batch's size whenever a network runs, in whatever thread."""
    from diffusion_explained.models.unet import UNet

    calls: list[int] = []
    forward = UNet.forward

    def counted(self, x_t, *rest):
        calls.append(len(x_t))
        return forward(self, x_t, *rest)

    monkeypatch.setattr(UNet, "forward", counted)
    return calls


@pytest.fixture(autouse=True, scope="module")
def nothing_is_kept_of_other_files():
    """A file's tests start with empty caches: those of another file may hold what its small networks drew."""
    streamlit.cache_resource.clear()
    streamlit.cache_data.clear()


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[str]:
    """The explorer on a free port of this machine, as `diffusion-explained app` starts it; its address."""
    port, log = unused_port(), tmp_path_factory.mktemp("server") / "log"
    command = launch.streamlit_command(port, browser=False)
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5) as answer:
                    if answer.read() == b"ok":
                        break
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError(f"The server did not start:\n{log.read_text()}") from None
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        launch.stop(process)


@pytest.fixture(scope="session")
def chromium():
    """A headless browser; skipped, with a word, where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium): the browser tests did not run")
    from playwright.sync_api import sync_playwright

    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", *quiet]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browsing(chromium):
    """What the visitors share: the browser's cache, so that Streamlit's scripts are fetched and read once."""
    context = chromium.new_context()
    yield context
    context.close()


@pytest.fixture
def tab(browsing, server):
    """tab("reverse?steps=4", width=390) -> a page of a fresh visitor, finished; errors and foreign requests fail it."""
    visits = []

    def opened(path: str, *, width: int = 1280, height: int = 800, scheme: str = "light"):
        page, errors, foreign, sent = browsing.new_page(), [], [], []
        visits.append((page, errors, foreign))
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_default_timeout(400 * in_browser.SECONDS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "request", lambda r: foreign.append(r.url) if not r.url.startswith((server, "data:", "blob:")) else None
        )
        page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
        page.sent = sent
        page.goto(f"{server}/{path}")
        in_browser.finished(page)
        assert page.get_by_test_id("stException").count() == 0
        return page

    yield opened
    for page, errors, foreign in visits:
        if not page.is_closed():
            page.evaluate("localStorage.clear()")  # the next visitor is a new one
            page.close()
        assert errors == []
        assert foreign == []
    browsing.clear_permissions()
