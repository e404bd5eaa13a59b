"""Painting with a picture given, by micro: the seam of inpainting, regional prompts, scribbles; micro_painting.json.

    python benchmarks/micro_painting.py --device cuda                     # a minute on one GPU
    python benchmarks/micro_painting.py seam --pictures 4 --steps 4 --sample     # one part, small, on a CPU

Each row has means or shares with standard errors. Picture i starts from the noise of seed i.

    seam       half of an emoji is kept and half is painted, by replacement and by RePaint with 1 to 10 resamplings: how
               much neighbouring pixels differ across the seam (beside the same of the emoji and of the emoji through
               the autoencoder alone), and whether the name is recognised in the whole picture
    outpaint   the same for the middle half of an emoji, whose surroundings are painted by zooming out
    regions    two things, one on each side: by one prompt that leaves the sides open, by one that says them, and by two
               prompts in two regions; which is where, by the retrieval network
    scribble   a flat patch of a thing's mean colour in its silhouette, as the start of image to image, by strength: is
               the name recognised, and does the drawn thing cover the silhouette (intersection over union)
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from micro import SCALE, STEPS, brief, mean, one_picture_each
from micro_captions import pairs_of_things, plain_names
from places import tried
from side_by_side import machine
from torch import Tensor

from diffusion_explained.files import check_folder
from diffusion_explained.measured import MEASURED, write_measured
from diffusion_explained.micro.emoji import load_emoji, load_emoji_sample
from diffusion_explained.micro.fidelity import choices, foreground, halves, naming, share
from diffusion_explained.micro.reconstruction import on_white
from diffusion_explained.micro.retrieval import embed_captions, embed_pictures, load_retrieval
from diffusion_explained.micro.words import with_article
from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import load
from diffusion_explained.stable_diffusion.masks import rectangle_mask
from diffusion_explained.stable_diffusion.outpainting import zoomed_out
from diffusion_explained.stable_diffusion.regions import regional

STUDY = "micro_painting"
SIDE = 128
RESAMPLINGS = (1, 2, 5, 10)
STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9)


class Study:
    """The model, the retrieval network, the emoji, and what has been measured."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.model = given, load("micro", device=given.device)
        self.emoji = load_emoji_sample() if given.sample else load_emoji()
        self.images = self.emoji.images.to(given.device)
        self.retrieval = load_retrieval(device=given.device)
        self.names = embed_captions(self.retrieval, self.emoji.names)
        self.path = given.out / f"{STUDY}.json"
        self.rows = json.loads(self.path.read_text(encoding="utf-8"))["rows"] if self.path.is_file() else []

    def draw(self, captions: list[str], **options: Any) -> Tensor:
        """One picture per caption, picture i from seed i; tensors in the options have one row per caption."""
        drawn, size = [], self.given.batch
        for start in range(0, len(captions), size):
            part = slice(start, start + size)
            own = {key: value[part] if isinstance(value, Tensor) and value.ndim == 4 else value
                   for key, value in options.items()}  # fmt: skip
            seeds = list(range(start, start + len(captions[part])))
            settings = {"num_inference_steps": self.given.steps, "guidance_scale": SCALE, "seed": seeds}
            drawn.append(self.model.decode(final(self.model.steps(captions[part], **settings, **own))))
        return torch.cat(drawn)

    def named(self, images: Tensor, subjects: Tensor) -> dict[str, Any]:
        return naming(embed_pictures(self.retrieval, images), self.names, subjects)["top1"]

    def add(self, part: str, setting: dict[str, Any], measured: dict[str, Any]) -> None:
        """Write a row, in the place of an older one of the same part and setting."""
        row = {"part": part, "setting": setting, "pictures": self.given.pictures, "steps": self.given.steps, **measured}
        row |= {"precision": str(self.model.network.dtype).removeprefix("torch."), "machine": machine()}
        self.rows = [kept for kept in self.rows if (kept["part"], kept["setting"]) != (part, setting)] + [row]
        write_measured(STUDY, {"rows": self.rows}, self.given.out)
        print(f"{part} {setting}: {brief(row)}", flush=True)


def across(images: Tensor, mask: Tensor) -> Tensor:
    """How much neighbouring pixels on the two sides of a mask's edge differ, [B], the mean over edge and colours.

    Neighbours of which both are the background's colour in the first picture count too: a seam can show there.
    """
    sideways, down = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    found = [(images[..., 1:] - images[..., :-1]).abs()[..., sideways]]
    found += [(images[..., 1:, :] - images[..., :-1, :]).abs()[..., down]]
    return torch.cat(found, dim=-1).mean((1, 2))


def painted(study: Study, part: str, images: Tensor, given: Tensor, mask: Tensor, subjects: Tensor) -> None:
    """The rows of one mask: the pictures, the same through the autoencoder, and what is painted around `given`."""
    captions = [study.emoji.names[i] for i in subjects.tolist()]
    decoded = torch.cat([study.model.decode(study.model.encode(each)) for each in images.split(study.given.batch)])

    def measured(drawn: Tensor) -> dict[str, Any]:
        more = across(drawn, mask) - across(images, mask)
        return {
            "across_the_seam": mean(across(drawn, mask).cpu()),
            "more_than_the_picture": mean(more.cpu()),
            "named": study.named(drawn, subjects),
        }

    study.add(part, {"how": "the pictures"}, measured(images))
    study.add(part, {"how": "through the autoencoder"}, measured(decoded))
    kept = {"image": given, "mask": mask}
    ways: dict[str, dict[str, Any]] = {"replacement, the default sampler": {}, "replacement, DDPM": {"sampler": "ddpm"}}
    ways |= {f"RePaint, {times} resamplings": {"resamplings": times} for times in RESAMPLINGS}
    for how, options in ways.items():
        study.add(part, {"how": how}, measured(study.draw(captions, **kept, **options)))


def of_emoji(study: Study) -> tuple[Tensor, Tensor]:
    """Subjects [B], and one training picture of each [B, 3, 128, 128]."""
    subjects = plain_names(study.emoji, study.given.pictures)
    return subjects, on_white(study.images[one_picture_each(study.emoji, subjects)])


def seam(study: Study) -> None:
    """The right half of an emoji, painted again."""
    subjects, images = of_emoji(study)
    mask = rectangle_mask(SIDE, SIDE, (0.5, 1), (0, 1)).to(images.device)
    painted(study, "seam", images, images, mask, subjects)


def outpainting(study: Study) -> None:
    """The middle half of an emoji, zoomed out of: its surroundings are known, and painted again."""
    subjects, images = of_emoji(study)
    middle = torch.nn.functional.interpolate(images[..., 32:96, 32:96], size=(SIDE, SIDE), mode="bicubic").clamp(-1, 1)
    canvas, mask = zoomed_out(middle, 2.0)
    painted(study, "outpaint", images, canvas, mask.to(canvas.device), subjects)


def regions(study: Study) -> None:
    """Which of two things is where, for three ways to ask for it."""
    first, second = pairs_of_things(study.emoji, max(2, study.given.pictures))
    names = [[study.emoji.names[i] for i in side.tolist()] for side in (first, second)]
    pairs, phrases = list(zip(*names, strict=True)), [[with_article(name) for name in side] for side in names]
    tokenizer = study.model.pipe.tokenizer
    left = rectangle_mask(SIDE, SIDE, (0, 0.5), (0, 1))

    def measured(images: Tensor) -> dict[str, Any]:
        found = [choices(study.retrieval, embed_pictures(study.retrieval, half), pairs, tokenizer)
                 for half in halves(images)]  # fmt: skip
        named = [naming(embed_pictures(study.retrieval, half), study.names, truth)["top1"]
                 for half, truth in zip(halves(images), (first, second), strict=True)]  # fmt: skip
        both = (found[0] == 0) & (found[1] == 1)
        return {"right_sides": share(both), "left_named": named[0], "right_named": named[1], "chance": 0.25}

    def by_regions() -> Tensor:
        model, drawn = study.model, []
        for first in range(0, len(pairs), study.given.batch):
            part = slice(first, first + study.given.batch)
            texts = [model.encode_text([f"{one} on the {side}" for one in each[part]])
                     for side, each in zip(("left", "right"), phrases, strict=True)]  # fmt: skip
            seeds = list(range(first, first + len(pairs[part])))
            start = model.prepare(seeds, levels=model.levels(study.given.steps))
            denoise = regional(model, texts, [left, 1 - left], SCALE, start=start)
            drawn.append(model.sample(denoise, num_inference_steps=study.given.steps, seed=seeds))
        return torch.cat(drawn)

    study.add("regions", {"how": "one prompt, sides open"},
              measured(study.draw([f"{a} and {b}" for a, b in zip(*phrases, strict=True)])))  # fmt: skip
    study.add("regions", {"how": "one prompt, sides said"},
              measured(study.draw([f"{a} left of {b}" for a, b in zip(*phrases, strict=True)])))  # fmt: skip
    study.add("regions", {"how": "two prompts, two regions"}, measured(by_regions()))


def scribble(study: Study) -> None:
    """Image to image from a patch of one colour, by strength."""
    subjects, images = of_emoji(study)
    captions, shape = [study.emoji.names[i] for i in subjects.tolist()], foreground(images)
    area = shape.sum((1, 2)).clamp(min=1)[:, None, None, None]
    colour = (images * shape[:, None]).sum((2, 3), keepdim=True) / area
    patches = torch.where(shape[:, None], colour, torch.ones_like(images))

    def measured(drawn: Tensor) -> dict[str, Any]:
        found = foreground(drawn)
        iou = (found & shape).sum((1, 2)) / (found | shape).sum((1, 2)).clamp(min=1)
        return {"named": study.named(drawn, subjects), "iou": mean(iou.cpu())}

    study.add("scribble", {"strength": 0.0}, measured(patches))
    for strength in STRENGTHS:
        study.add("scribble", {"strength": strength}, measured(study.draw(captions, image=patches, strength=strength)))
    study.add("scribble", {"strength": 1.0}, measured(study.draw(captions)))


PARTS = {"seam": seam, "outpaint": outpainting, "regions": regions, "scribble": scribble}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pictures", type=int, default=256, help="per setting")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch", type=int, default=256, help="pictures per batch")
    parser.add_argument("--sample", action="store_true", help="use only the emoji that ship with the package")
    parser.add_argument("--out", type=Path, default=MEASURED)
    given = parser.parse_args()
    tried(parser, check_folder, given.out)
    study = Study(given)
    for part in given.parts or PARTS:
        PARTS[part](study)


if __name__ == "__main__":
    main()
