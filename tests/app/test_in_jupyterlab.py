"""The scrubber in JupyterLab, in headless Chromium: its slider moves by the keyboard, and the picture changes."""

import re

import nbformat
import pytest
from servers import answer, started, unused_port

from diffusion_explained.cli import launch

pytestmark = pytest.mark.browser
CELL = """
import torch

from diffusion_explained import film, widgets

sheets = [film.mosaic(film.pixels(torch.full((1, 1, 8, 8), shade))) for shade in (-1.0, 0.0, 1.0)]
widgets.scrub(film.film([("a square", "brightness", sheets)], ["black", "grey", "white"]))
"""


def test_the_slider_moves_and_the_picture_changes(chromium, tmp_path, monkeypatch):
    course = tmp_path / "course"
    course.mkdir()
    kernel = {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}}
    nbformat.write(
        nbformat.v4.new_notebook(metadata=kernel, cells=[nbformat.v4.new_code_cell(CELL)]), course / "small.ipynb"
    )
    for kind in ("CONFIG", "DATA", "RUNTIME"):  # nothing of this machine's own JupyterLab
        monkeypatch.setenv(f"JUPYTER_{kind}_DIR", str(tmp_path / kind.lower()))
    port = unused_port()
    with started(launch.jupyterlab_command(course, port, browser=False), tmp_path) as process:
        answer(process, f"http://127.0.0.1:{port}/api")
        token = re.search(r"token=(\w+)", (tmp_path / "log").read_text())[1]
        page = chromium.new_page(reduced_motion="reduce")
        page.set_default_timeout(300_000)
        page.goto(f"http://127.0.0.1:{port}/lab/tree/small.ipynb?token={token}")
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(state="attached")
        page.keyboard.press("Control+Enter")

        scrubber = page.locator(".scrubber[data-ready=true]")
        scrubber.wait_for()
        canvas, slider = scrubber.locator("canvas.pixels").first, page.get_by_role("slider", name="frame")
        white = canvas.evaluate("canvas => canvas.toDataURL()")
        slider.focus()
        page.keyboard.press("ArrowLeft")
        assert scrubber.get_attribute("data-frame") == "1" and scrubber.locator("output").inner_text() == "grey"
        assert canvas.evaluate("canvas => canvas.toDataURL()") != white
        page.close()
