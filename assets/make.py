"""Make the README's pictures again: `python assets/make.py` (needs Chromium and the test extra, for the last).

`python assets/make.py one_step micro` makes only these.
"""

import io
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from diffusion_explained import beyond, film, load_pretrained, stable_diffusion
from diffusion_explained.beyond.balls_and_sticks import balls_and_sticks
from diffusion_explained.data import made_by_model, to_float
from diffusion_explained.discrete import load_text
from diffusion_explained.palette import LIGHT
from diffusion_explained.plots import cloud_sheet

HERE = Path(__file__).parent
PLACES = 7  # from noise to data, of each kind of data
SEEN = ("red heart", "crying cat", "a rocket", "pizza", "a house\nwith garden", "a robot", "two lions",
        "a small rocket\nat the top")  # fmt: skip
NEW = ("a blue cat", "a purple apple", "a green dog", "cat, twemoji style", "a yellow car\non a blue background",
       "three strawberries", "a cat to the left\nof a dog", "angry pizza")  # fmt: skip


def mosaic(name: str, images: torch.Tensor, columns: int) -> None:
    """Write images [n, 3, 32, 32] at twice their size, row by row."""
    large = film.pixels(images).repeat(2, axis=1).repeat(2, axis=2)
    (HERE / name).write_bytes(film.png(film.mosaic(large, columns=columns, gap=2)))


def in_few_colours(name: str) -> None:
    """Write a picture again with 256 colours, a third of its size: the source distribution has a limit."""
    with Image.open(HERE / name) as picture:
        few = picture.convert("RGBA").quantize(256, method=Image.Quantize.FASTOCTREE)
    few.save(HERE / name, optimize=True)


def digits() -> None:
    """digits.gif: ten digits emerge from noise."""
    command = ["sample", "mnist_unet_flow", "--labels", "0,1,2,3,4,5,6,7,8,9", "--steps", "20", "--seed", "0"]
    program = Path(sys.executable).with_name("diffusion-explained")
    subprocess.run([program, *command, "--out", HERE / "digits.gif"], check=True)


def pictures() -> None:
    """cifar10.png: the first 20 pictures of each class that travel with the package, none picked."""
    made = made_by_model("cifar10")
    rows = torch.cat([made.of_class(label).images[:20] for label in range(made.num_classes)])
    mosaic("cifar10.png", to_float(rows), columns=20)
    in_few_colours("cifar10.png")


def one_step() -> None:
    """one_step.png: three pictures of each class, a column a class, each by one evaluation of the rectified network."""
    model = load_pretrained("cifar10_unet_reflow")
    labels = torch.arange(model.num_classes).repeat(3)
    mosaic("one_step.png", model.sample(labels, num_inference_steps=1, seed=0), columns=model.num_classes)


def micro() -> None:
    """micro.png: one picture a prompt, seed 0, none picked."""
    prompts = (*SEEN, *NEW)
    words = [prompt.replace("\n", " ") for prompt in prompts]
    images = stable_diffusion.load("micro").sample(words, seed=[0] * len(words), num_inference_steps=30)
    fig, axes = plt.subplots(2, len(SEEN), figsize=(14, 4.5))
    for ax, image, prompt in zip(axes.flat, film.pixels(images), prompts, strict=True):
        ax.imshow(image)
        ax.axis("off")
        ax.set_title(prompt, fontsize=11)
    fig.tight_layout()
    fig.savefig(HERE / "micro.png", dpi=80)


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


def recorded() -> None:
    """app/recorded.safetensors: the run of micro that the pages Stable Diffusion and Compare show first."""
    stable_diffusion.record(
        stable_diffusion.load("micro"), "a blue cat", sampler="ddim", num_inference_steps=12, guidance_scale=4.0, seed=0
    ).save(HERE.parent / "app" / "recorded.safetensors")


def sound() -> None:
    """sound.png: three spectrograms of each word, seeds 0 to 29."""
    drawn = beyond.load_beyond("sound").sample(list(range(10)) * 3, num_inference_steps=20, seed=0)
    picture = film.mosaic(film.pixels(drawn.flip(2)), columns=10, gap=2)
    Image.fromarray(picture).convert("L").save(HERE / "sound.png", optimize=True)


def video() -> None:
    """video.gif: four clips, seeds 0 to 3."""
    command = ["sample", "video", "--labels", "3-slow,8-fast,77-slow,11-fast", "--seed", "0", "--device", "cpu"]
    program = Path(sys.executable).with_name("diffusion-explained")
    subprocess.run([program, *command, "--out", HERE / "video.gif"], check=True)


def shapes() -> None:
    """shapes.png: a cloud of each class, seeds 0 to 7, and real ones of the split "test" below them."""
    kind = beyond.KINDS["shapes"]
    drawn = beyond.load_beyond("shapes").sample(list(range(8)), seed=0, **kind.sampling)
    figure = plt.figure(figsize=(12, 3.6))
    for i, cloud in enumerate((*drawn, *kind.data(8, 0, "test").x_0)):
        axes = figure.add_axes((i % 8 / 8, 0.48 - 0.5 * (i // 8), 1 / 8, 0.5), projection="3d")
        axes.scatter(*cloud.T, s=0.6, c=cloud[:, 2], cmap="viridis", vmin=-1, vmax=1)
        axes.set(xlim=(-0.7, 0.7), ylim=(-0.7, 0.7), zlim=(-0.7, 0.7))
        axes.set_axis_off()
        figure.text((i % 8 + 0.5) / 8, 0.96, kind.class_names[i % 8], ha="center") if i < 8 else None
    figure.savefig(HERE / "shapes.png", dpi=100)
    in_few_colours("shapes.png")


def molecules() -> None:
    """molecules.png: three chains, rings and aromatic rings, seeds 0 to 8, with the bonds that their distances say."""
    kind, labels = beyond.KINDS["molecules"], [0, 1, 2] * 3
    drawn = beyond.load_beyond("molecules").sample(labels, seed=0, **kind.sampling)
    balls_and_sticks(drawn, [kind.class_names[label] for label in labels]).savefig(HERE / "molecules.png", dpi=100)


def kinds() -> None:
    """beyond.png: a clip's middle frame, a spoken word, a chair, a molecule and a text, at seven places each.

    From noise to data.
    """
    figure, axes = plt.subplots(5, PLACES, figsize=(10.5, 7.6), constrained_layout=True)
    drawn = {"video": 3, "sound": 7, "shapes": 5, "molecules": 2}  # a slow three, "seven", a chair, an aromatic ring
    for row, (name, label) in zip(axes, drawn.items(), strict=False):
        steps = list(beyond.load_beyond(name).steps([label], seed=0, **beyond.KINDS[name].sampling))
        states = [*(step.x_t for step in steps), steps[-1].x_next]
        for axis, k in zip(row, film.evenly_spaced(len(states), PLACES), strict=True):
            if name == "shapes":
                axis.imshow(cloud_sheet(states[k]))
            elif name == "molecules":
                axis.imshow(molecule_picture(states[k]))
            else:
                picture = states[k][0, 0, 8] if name == "video" else states[k][0, 0].flip(0)
                axis.imshow(picture, cmap="gray" if name == "video" else "Blues", vmin=-1, vmax=1, aspect="equal")
    model = load_text("text_masked")
    written = list(model.steps("", 64, sampler="most_certain_first", seed=0))
    texts = [*(step.x_t for step in written), written[-1].x_next]
    for axis, k in zip(axes[4], film.evenly_spaced(len(texts), PLACES), strict=True):
        text = model.alphabet.decode(texts[k])[0].replace("_", "░")
        lines = "\n".join(text[start : start + 16] for start in range(0, len(text), 16))
        style = {"ha": "center", "va": "center", "ma": "left", "family": "monospace", "fontsize": 8}
        axis.text(0.5, 0.5, lines, transform=axis.transAxes, **style)
    for row, name in zip(axes, (*drawn, "text"), strict=True):
        row[0].set_ylabel(name, fontsize=12)
        for axis in row:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_color(LIGHT.grid)
    figure.savefig(HERE / "beyond.png", dpi=100)
    Image.open(HERE / "beyond.png").convert("RGB").quantize(128).save(HERE / "beyond.png", optimize=True)


def molecule_picture(item: torch.Tensor) -> np.ndarray:
    """A molecule [1, 9, 8] as balls and sticks: a picture [H, W, 4]."""
    drawn = balls_and_sticks(item)
    canvas = FigureCanvasAgg(drawn)
    drawn.set_layout_engine("none")
    drawn.dpi = 200
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


if __name__ == "__main__":
    for make in (digits, pictures, one_step, micro, explorer, recorded, sound, video, shapes, molecules, kinds):
        if make.__name__ in sys.argv[1:] or len(sys.argv) == 1:
            make()
