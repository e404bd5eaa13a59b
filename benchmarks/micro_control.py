"""How well micro's ControlNet follows its control pictures: all measurements of measured/micro_control.json.

    python benchmarks/micro_control.py --device cuda                       # all but speed, half a minute on one GPU
    python benchmarks/micro_control.py edges --pictures 32 --sample        # one part, small, on a CPU
    python benchmarks/micro_control.py speed --threads 2                   # on a CPU
    python benchmarks/micro_control.py --control runs/micro_control --out runs --device cuda      # a candidate

Scenes are new ones: "moved" are single things where, how large and how tilted their captions do not say; "train" are
of the training's kinds with another seed; "held_out" are of colours and pictures that no training saw. Picture i starts
from the noise of seed i, with and without control.

    edges      F1 of the edges that were drawn and asked for, within one pixel; beside it the same pictures against
               another prompt's edges (chance), the model without control, and the autoencoder alone (the ceiling)
    scribble   how far the drawn thing covers the shape whose rough outline was given: intersection over union
    layout     which of two things is on the left, where the caption ("a cat and a dog") does not say it: "right_sides"
               if each half is named right, "order" if the two halves together fit better so than the other way round
    speed      seconds on a CPU for one picture, with and without control
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from micro import SCALE, STEPS, brief, mean
from micro_captions import pairs_of_things, plain_names
from places import tried
from side_by_side import machine, side_by_side
from torch import Tensor

from diffusion_explained.files import check_folder
from diffusion_explained.measured import MEASURED, write_measured
from diffusion_explained.micro.control_card import weights_checksum
from diffusion_explained.micro.control_pictures import (
    CONTROLS,
    control_picture,
    draw_marks,
    edge_f1,
    edges,
    round_areas,
    silhouettes,
    wandered,
)
from diffusion_explained.micro.emoji import EmojiSet, load_emoji, load_emoji_sample
from diffusion_explained.micro.fidelity import foreground, halves, share
from diffusion_explained.micro.retrieval import embed_captions, embed_pictures, load_retrieval
from diffusion_explained.micro.scenes import HALF, Scene, Scenes, SceneSampler, Sprite, batch_scenes, draw_scenes
from diffusion_explained.micro.words import with_article
from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import StableDiffusion, load, load_control
from diffusion_explained.stable_diffusion.control_loading import CONTROL_FOLDER

STUDY = "micro_control"
NEW_SCENES = 1_000  # the seed of scenes that training did not contain
SCALES = (0.25, 0.5, 0.75, 1.5)  # beside 1
TOLERANCE = 1  # pixel
AREA = 0.24  # the radius of a thing's circle in a layout, as a share of the picture's side


class Study:
    """The model with its ControlNet, the emoji, and what has been measured."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.device = given, torch.device(given.device)
        self.folder = CONTROL_FOLDER if given.control == "micro" else Path(given.control)
        self.model: StableDiffusion = load_control(load("micro", device=given.device), self.folder)
        self.emoji: EmojiSet = load_emoji_sample() if given.sample else load_emoji()
        self.images = self.emoji.images.to(self.device)
        self.path = given.out / f"{STUDY}.json"
        self.rows = json.loads(self.path.read_text(encoding="utf-8"))["rows"] if self.path.is_file() else []

    def scenes(self, which: str) -> tuple[Scenes, Tensor, Tensor]:
        """New scenes, their pictures [B, 3, 128, 128] and their control pictures' marks uint8 [B, 128, 128]."""
        if which == "moved":
            scenes = moved(self.emoji, self.given.pictures)
        else:
            sampler = SceneSampler(self.emoji, which, NEW_SCENES, mix="relations")
            scenes = sampler.batch(range(self.given.pictures))
        x = draw_scenes(scenes, self.images)
        return scenes, x, draw_marks(scenes, self.images, x, NEW_SCENES)

    def draw(self, captions: list[str], control: Tensor | None = None, scale: float = 1.0) -> Tensor:
        """One picture per caption, picture i from seed i, with the control pictures [B, 3, 128, 128] if any."""
        drawn, size = [], self.given.batch
        for start in range(0, len(captions), size):
            part = slice(start, start + size)
            options = {} if control is None else {"control": control[part], "control_scale": scale}
            seeds = list(range(start, start + len(captions[part])))
            run = self.model.steps(
                captions[part], num_inference_steps=STEPS, guidance_scale=SCALE, seed=seeds, **options
            )
            drawn.append(self.model.decode(final(run)))
        return torch.cat(drawn)

    def add(self, part: str, setting: dict[str, Any], measured: dict[str, Any]) -> None:
        """Write a row, in the place of an older one of the same part and setting."""
        row = {"part": part, "setting": setting, "weights": weights_checksum(self.folder), **measured}
        row |= {"precision": str(self.model.network.dtype).removeprefix("torch."), "machine": machine()}
        self.rows = [kept for kept in self.rows if (kept["part"], kept["setting"]) != (part, setting)] + [row]
        write_measured(STUDY, {"rows": self.rows}, self.given.out)
        print(f"{part} {setting}: {brief(row)}", flush=True)


def moved(emoji: EmojiSet, count: int) -> Scenes:
    """Single things at a place, of a size and at an angle that their captions, their names, do not say."""
    rng, scenes = torch.Generator().manual_seed(NEW_SCENES), []
    for subject in plain_names(emoji, count).tolist():
        own = ((emoji.subject == subject) & ~emoji.held_out).nonzero()[:, 0]
        picture = int(own[int(torch.randint(len(own), (), generator=rng))])
        scenes.append(Scene(emoji.names[subject], (Sprite(picture),)))
    return wandered(batch_scenes(scenes), 1.0, NEW_SCENES)


def of_edges(study: Study) -> None:
    """F1 within one pixel, by the kind of scenes and by scale."""
    for split in ("moved", "train", "held_out"):
        scenes, x, marks = study.scenes(split)
        asked, control = edges(x), control_picture(marks, "edges")
        has = asked.any(dim=(1, 2))  # a pale thing may have none

        def f1(images: Tensor, other: Tensor) -> dict[str, float]:
            return mean(edge_f1(edges(images), other, TOLERANCE)[has].cpu())  # noqa: B023

        drawn = study.draw(scenes.captions, control)
        decoded = torch.cat([study.model.decode(study.model.encode(part)) for part in x.split(study.given.batch)])
        study.add(
            "edges",
            {"scenes": split, "scale": 1.0},
            {
                "f1": f1(drawn, asked),
                "another_prompt": f1(drawn, asked.roll(1, 0)),
                "without_control": f1(study.draw(scenes.captions), asked),
                "autoencoder": f1(decoded, asked),
            },
        )
        for scale in SCALES if split == "moved" else ():
            study.add(
                "edges",
                {"scenes": split, "scale": scale},
                {"f1": f1(study.draw(scenes.captions, control, scale), asked)},
            )


def of_scribbles(study: Study) -> None:
    """The drawn foreground against the true shape of the things: intersection over union, by kind of control."""
    scenes, _, marks = study.scenes("moved")
    first, second = silhouettes(scenes, study.images)
    shape = first | second

    def iou(images: Tensor, other: Tensor) -> dict[str, float]:
        found = foreground(images)
        return mean(((found & other).sum((1, 2)) / (found | other).sum((1, 2)).clamp(min=1)).cpu())

    for kind in CONTROLS:
        drawn = study.draw(scenes.captions, control_picture(marks, kind))
        study.add(
            "scribble", {"control": kind}, {"iou": iou(drawn, shape), "another_prompt": iou(drawn, shape.roll(1, 0))}
        )
    study.add("scribble", {"control": "none"}, {"iou": iou(study.draw(scenes.captions), shape)})


def of_layouts(study: Study) -> None:
    """Two things in two circles: every other pair has the first on the left; the caption leaves the sides open."""
    emoji = study.emoji
    first, second = pairs_of_things(emoji, max(2, study.given.pictures // 2))
    names = [[emoji.names[i] for i in side.tolist()] for side in (first, second)]
    pairs = list(zip(*names, strict=True))
    left_first = torch.arange(len(pairs)) % 2 == 0
    control = circles(left_first).to(study.device)
    retrieval = load_retrieval(device=study.device)
    said_first, said_second = (embed_captions(retrieval, side, study.model.pipe.tokenizer) for side in names)

    def right_sides(images: Tensor) -> dict[str, Any]:
        # how much better the first name fits a half than the second does, [B]
        left, right = (
            (embed_pictures(retrieval, half) * (said_first - said_second)).sum(1).cpu() for half in halves(images)
        )
        return {
            "right_sides": share(((left > 0) == left_first) & ((right > 0) != left_first)),
            "reversed": share(((left > 0) != left_first) & ((right > 0) == left_first)),
            "order": share((left > right) == left_first),
            "chance": {"right_sides": 0.25, "order": 0.5},
        }

    phrases = [[with_article(name) for name in side] for side in names]
    open_order = [f"{a} and {b}" for a, b in zip(*phrases, strict=True)]
    said = [
        f"{a} {'left' if left else 'right'} of {b}" for a, b, left in zip(*phrases, left_first.tolist(), strict=True)
    ]
    for how, captions, picture in (
        ("layout, the caption leaves it open", open_order, control),
        ("no control, the caption leaves it open", open_order, None),
        ("no control, the caption says it", said, None),
        ("layout, and the caption says it", said, control),
    ):
        drawn = study.draw(captions, picture)
        study.add("layout", {"how": how, "caption": captions[0]}, right_sides(drawn))
    real = draw_scenes(in_two_halves(emoji, first, second, left_first), study.images)
    study.add("layout", {"how": "real emoji in the circles"}, right_sides(real))


def in_two_halves(emoji: EmojiSet, first: Tensor, second: Tensor, left_first: Tensor) -> Scenes:
    """Real pictures of the subjects [B] where `circles` puts them."""
    scenes = []
    for a, b, left in zip(first.tolist(), second.tolist(), left_first.tolist(), strict=True):
        one, other = (int(((emoji.subject == subject) & ~emoji.held_out).nonzero()[0]) for subject in (a, b))
        side = -HALF if left else HALF
        scenes.append(Scene("", (Sprite(one, side, 0, 2 * AREA), Sprite(other, -side, 0, 2 * AREA))))
    return batch_scenes(scenes)


def circles(left_first: Tensor) -> Tensor:
    """Layouts [B, 3, 128, 128]: the first thing's circle red, the second's blue, side by side; left_first: bool [B]."""
    left, right = (-HALF, 0.0, 2 * AREA), (HALF, 0.0, 2 * AREA)
    return torch.cat([round_areas((left, right) if first else (right, left)) for first in left_first.tolist()])


def of_speed(study: Study) -> None:
    """Seconds on the CPU, with and without control in turn: medians, and the median of the rounds' ratios."""
    if study.device.type != "cpu":
        raise ValueError("speed is measured on the CPU: leave --device out.")
    layout = circles(torch.tensor([True]))
    settings: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": SCALE}
    for steps in (STEPS, 8):
        settings["num_inference_steps"] = steps
        candidates: dict[str, Callable[[], Any]] = {
            "plain": lambda: study.model.sample("a cat and a dog", **settings),
            "controlled": lambda: study.model.sample("a cat and a dog", control=layout, **settings),
        }
        taken = side_by_side(candidates, study.given.repeats)
        ratios = [b / a for a, b in zip(taken["plain"], taken["controlled"], strict=True)]
        seconds = {name: {"median": statistics.median(each), "least": min(each)} for name, each in taken.items()}
        study.add(
            "speed",
            {"steps": steps, "threads": torch.get_num_threads()},
            {**seconds, "ratio": {"median": statistics.median(ratios), "rounds": len(ratios)}},
        )


PARTS = {"edges": of_edges, "scribble": of_scribbles, "layout": of_layouts, "speed": of_speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="the parts to measure [all except speed]")
    parser.add_argument("--control", default="micro", help='the ControlNet\'s folder, or "micro", the shipped one')
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pictures", type=int, default=512, help="per setting")
    parser.add_argument("--batch", type=int, default=256, help="pictures per batch")
    parser.add_argument("--sample", action="store_true", help="use only the emoji that ship with the package")
    parser.add_argument("--threads", type=int, help="of a CPU")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of speed")
    parser.add_argument("--out", type=Path, default=MEASURED)
    given = parser.parse_args()
    tried(parser, check_folder, given.out)
    if given.threads:
        torch.set_num_threads(given.threads)
    study = Study(given)
    for part in given.parts or [name for name in PARTS if name != "speed"]:
        PARTS[part](study)


if __name__ == "__main__":
    main()
