"""Make the README's pictures again: `python assets/make.py` (needs Chromium and the test extra, for the last)."""

import io
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import torch
from PIL import Image

from diffusion_explained import film
from diffusion_explained.data import made_by_model, to_float

HERE = Path(__file__).parent


def digits() -> None:
    """digits.gif: ten digits emerge from noise."""
    command = ["sample", "mnist_unet_flow", "--labels", "0,1,2,3,4,5,6,7,8,9", "--steps", "20", "--seed", "0"]
    program = Path(sys.executable).with_name("diffusion-explained")
    subprocess.run([program, *command, "--out", HERE / "digits.gif"], check=True)


def pictures() -> None:
    """cifar10.png: the first 20 pictures of each class that travel with the package, none picked."""
    made = made_by_model("cifar10")
    rows = torch.cat([made.of_class(label).images[:20] for label in range(made.num_classes)])
    mosaic = film.mosaic(film.pixels(to_float(rows)).repeat(2, axis=1).repeat(2, axis=2), columns=20, gap=2)
    (HERE / "cifar10.png").write_bytes(film.png(mosaic))


def explorer() -> None:
    """explorer.png: the Reverse page, half way through a run."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    main, address = HERE.parent / "app/main.py", f"http://127.0.0.1:{port}"
    options = ("--server.headless=true", f"--server.port={port}", "--server.address=127.0.0.1")
    server = subprocess.Popen([sys.executable, "-m", "streamlit", "run", main, *options])
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = chromium.new_page(viewport={"width": 1280, "height": 772}, device_scale_factor=1.5)
            page.goto(f"{address}/reverse?model=cifar10_unet_flow&steps=12")
            page.wait_for_selector(".scrubber[data-ready=true]")
            slider = page.get_by_role("slider", name="frame")
            for key in ("Home", *["ArrowRight"] * 5):
                slider.press(key)
            slider.blur()
            page.wait_for_timeout(500)
            shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            chromium.close()
    finally:
        server.terminate()
        server.wait()
    shot.quantize(200, dither=Image.Dither.NONE).save(HERE / "explorer.png", optimize=True)


if __name__ == "__main__":
    digits()
    pictures()
    explorer()
