"""Is a made-up character the same one in ten scenes: by words, by an image prompt, by a LoRA of it, and by both?

    python benchmarks/micro_character.py --device cuda                                            # minutes on one GPU
    python benchmarks/micro_character.py --characters 2 --scenes 2 --lora-steps 4 --sampling-steps 4 --out runs # a try

A character is a thing in a made-up look (`micro.random_styles`) that the base never saw, of a thing that the adapter
saw in no made-up look. It stands on the left of ten other things: "a dog left of a tulip". A LoRA is trained on five
pictures of the character: alone, at other places and sizes, some mirrored, with a new word ("a zorb dog") or its name
("a dog"); or beside other things than the ten ("a dog left of a rocket"). The image prompt is a picture of the
character: alone, or on the left of white paper.

The judge cuts out the left half. It is the character if the character's picture is the nearest (`picture_distance`)
among seven: it, the thing's pictures by three artists, and the thing in three other looks (chance 1 in 7). The thing on
the right is named by the retrieval network, among the ten and the character's thing (chance 1 in 11). Scenes that are
composed from real pictures show what the judges can tell. Errors are over the characters. Rows are added to
<out>/micro_character.json.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from micro import checksum, mean, weight_files
from micro_captions import shuffled, things
from micro_lora import BATCH, STEPS, brief
from places import tried
from prompting import cut_out
from side_by_side import machine
from torch import Tensor

from diffusion_explained.data import to_uint8
from diffusion_explained.files import check_folder
from diffusion_explained.measured import MEASURED, picture_to_text, write_measured
from diffusion_explained.micro.emoji import load_emoji_sample
from diffusion_explained.micro.fidelity import foreground, halves, picture_distance
from diffusion_explained.micro.image_prompt import IMAGE_PROMPT_FOLDER, load_micro_image_prompt
from diffusion_explained.micro.lora import LoRA, LoRAConfig, save_lora, train_lora
from diffusion_explained.micro.lora_pictures import draw_prior, encode_pictures
from diffusion_explained.micro.random_styles import is_tested, random_style
from diffusion_explained.micro.reconstruction import on_white
from diffusion_explained.micro.retrieval import embed_captions, embed_pictures, load_retrieval
from diffusion_explained.micro.words import with_article
from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import load
from diffusion_explained.stable_diffusion.image_prompt_loading import FILE

STUDY, WORD, SIDE = "micro_character", "zorb", 128
LOOKS = 4  # per thing: the character's own, and three of the judge
SHOWN = (  # how a LoRA's five pictures show the character alone, as `placed` takes it
    (1.0, 0.5, 0.5, False),
    (0.6, 0.3, 0.4, True),
    (0.5, 0.7, 0.7, False),
    (0.7, 0.6, 0.4, True),
    (0.5, 0.3, 0.6, False),
)
ON_THE_LEFT = (0.5, 0.25, 0.5, False)
TAUGHT = ("alone, by a new word", "alone, by its name", "beside other things, by its name")
STRIP = 4  # scenes of the first character that are kept as a picture
SCALES = (0.5, 1.0)  # of the image prompt


def placed(picture: Tensor, size: float, across: float, down: float, mirrored: bool) -> Tensor:
    """A picture [3, 128, 128] on white paper: its size, its middle from the left and from the top, as shares."""
    side = round(size * SIDE)
    small = F.interpolate(picture[None], size=(side, side), mode="bilinear", antialias=True, align_corners=False)[0]
    small = small.flip(-1) if mirrored else small
    row, column = (round(middle * SIDE - side / 2) for middle in (down, across))
    row, column = (min(max(0, one), SIDE - side) for one in (row, column))
    paper = torch.ones(3, SIDE, SIDE)
    paper[:, row : row + side, column : column + side] = small
    return paper


def equally_sharp(pictures: Tensor) -> Tensor:
    """What is drawn in pictures [N, 3, 128, 128], cut out, enlarged, and as blurred as half a picture's thing is."""
    return F.interpolate(F.avg_pool2d(cut_out(pictures), 2), scale_factor=2, mode="bilinear")


class Study:
    """The model, the characters with their scenes, the judge, and the rows."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.path = given, given.out / f"{STUDY}.json"
        self.rows = json.loads(self.path.read_text(encoding="utf-8"))["rows"] if self.path.is_file() else []
        self.emoji = emoji = load_emoji_sample()
        self.base = load("micro", device=given.device, dtype=torch.float32)
        self.shown = load_micro_image_prompt(self.base, given.adapter)  # the same network
        self.weights = checksum(*weight_files("micro"), given.adapter / FILE)
        able = things(emoji)
        tested = [i for i in able if is_tested(emoji.names[i])]
        self.subjects = shuffled(tested, lambda i: f"character {emoji.names[i]}", given.characters)
        others = [i for i in able if i not in tested]
        chosen = shuffled(others, lambda i: f"scene {emoji.names[i]}", given.scenes + len(SHOWN))
        self.others, self.beside = chosen[: given.scenes], chosen[given.scenes :]
        self.pictures = [self._looks(k, subject) for k, subject in enumerate(self.subjects)]
        self.retrieval = load_retrieval(device=given.device)
        self.names = embed_captions(self.retrieval, emoji.names)

    def artists(self, subject: int) -> Tensor:
        """The real pictures of a thing, [3, 3, 128, 128]."""
        return on_white(self.emoji.images[(self.emoji.subject == subject).nonzero().flatten()])

    def _looks(self, k: int, subject: int) -> Tensor:
        """Character k's picture, the thing's pictures by three artists, and the thing in three other looks."""
        artists = self.artists(subject)
        own = artists[k % len(artists)][None]
        drawn = foreground(own)[:, None]
        looks = [torch.where(drawn, random_style(LOOKS * k + i)(own), 1.0) for i in range(LOOKS)]
        return torch.cat([looks[0], artists, *looks[1:]])

    def captions(self, subject: int, word: str = "") -> list[str]:
        """The ten scenes of a character."""
        name = with_article(f"{word} {self.emoji.names[subject]}".strip())
        return [f"{name} left of {with_article(self.emoji.names[other])}" for other in self.others]

    def draw(
        self, which: Sequence[int], word: str = "", shown: Sequence[Tensor] | None = None, scale: float = 1.0
    ) -> list[Tensor]:
        """The scenes of some characters, a tensor [N, 3, 128, 128] each; shown: a picture per character.

        Each scene has a seed of its own, the same in every way to ask for it.
        """
        scenes = self.given.scenes
        captions = [caption for k in which for caption in self.captions(self.subjects[k], word)]
        seeds = [k * scenes + j for k in which for j in range(scenes)]
        pictures = None if shown is None else torch.stack(list(shown)).repeat_interleave(scenes, 0).to(self.base.device)
        model, drawn = (self.base if shown is None else self.shown), []
        for i in range(0, len(captions), BATCH):
            part = slice(i, i + BATCH)
            given = {} if pictures is None else {"image_prompt": pictures[part], "image_prompt_scale": scale}
            steps = model.steps(
                captions[part], num_inference_steps=self.given.sampling_steps, seed=seeds[part],
                guidance_scale=self.given.guidance, **given,
            )  # fmt: skip
            drawn.append(model.decode(final(steps)).float().cpu())
        return list(torch.cat(drawn).split(scenes))

    def judged(self, k: int, drawn: Tensor) -> dict[str, float]:
        """The shares of the scenes with the character, with the other thing, and with both; the distance from it."""
        left, right = halves(drawn)
        left, candidates = equally_sharp(left), equally_sharp(self.pictures[k])
        far = torch.stack(
            [picture_distance(self.retrieval, left, one.expand_as(left)) for one in candidates], dim=1
        ).cpu()
        kept = far.argmin(1) == 0
        names = self.names[[*self.others, self.subjects[k]]]
        named = (embed_pictures(self.retrieval, right) @ names.T).argmax(1).cpu() == torch.arange(len(self.others))
        values = {"character": kept, "other_thing": named, "both": kept & named, "apart": far[:, 0]}
        return {name: value.double().mean().item() for name, value in values.items()}

    def add(self, setting: dict[str, Any], judged: list[dict[str, float]], strip: str, **more: Any) -> None:
        measured = {name: mean(torch.tensor([one[name] for one in judged])) for name in judged[0]} | more
        key = {"setting": setting, "weights": self.weights}
        self.rows = [row for row in self.rows if {name: row[name] for name in key} != key]
        drawn_in = {"sampling_steps": self.given.sampling_steps, "scenes": self.given.scenes}
        self.rows.append({**key, **measured, **drawn_in, "strip": strip, "machine": machine()})
        write_measured(STUDY, {"rows": self.rows}, self.given.out)
        print(setting, {name: brief(value) for name, value in measured.items()}, flush=True)


def pictures_of(study: Study, k: int, taught: str) -> tuple[Tensor, list[str]]:
    """The five pictures of character k [5, 3, 128, 128] that a LoRA is trained on, and their captions."""
    name = study.emoji.names[study.subjects[k]]
    if not taught.startswith("beside"):
        word = f"{WORD} {name}" if taught == TAUGHT[0] else name
        return torch.stack([placed(study.pictures[k][0], *one) for one in SHOWN]), [with_article(word)] * len(SHOWN)
    others = [with_article(study.emoji.names[other]) for other in study.beside]
    return (
        torch.stack([_composed(study, k, other) for other in study.beside]),
        [f"{with_article(name)} left of {other}" for other in others],
    )


def trained(study: Study, k: int, taught: str) -> tuple[Path, float]:
    """The file of a LoRA of character k, and the seconds that its training took."""
    given, model, began = study.given, study.base, time.perf_counter()
    pictures, captions = pictures_of(study, k, taught)
    encoded = encode_pictures(model, pictures.to(model.device), captions)
    images = LoRAConfig().batch_size * given.lora_steps
    config = LoRAConfig(images=images, prior=1.0, cuda_graph=given.device == "cuda")
    lora = LoRA(model)
    *_, _ = train_lora(lora, model, encoded, config, prior=draw_prior(model))
    file = save_lora(given.out / f"character_{k}_{TAUGHT.index(taught)}", lora, model)
    return file, time.perf_counter() - began


def measure(study: Study) -> None:
    """Every way to ask for the characters' scenes."""
    every = range(len(study.subjects))

    def add(setting: dict[str, Any], drawn: Sequence[Tensor], **more: Any) -> None:
        study.add(setting, [study.judged(k, scenes) for k, scenes in enumerate(drawn)], strip_of(drawn[0]), **more)

    add({"of": "real pictures"}, [torch.stack([_composed(study, k, i) for i in study.others]) for k in every])
    add({"of": "words"}, study.draw(every))
    shown = {
        "alone": [study.pictures[k][0] for k in every],
        "on the left": [placed(study.pictures[k][0], *ON_THE_LEFT) for k in every],
    }
    for how, pictures in shown.items():
        for scale in study.given.scales:
            add({"of": "image prompt", "shown": how, "scale": scale}, study.draw(every, "", pictures, scale))
    ways = [(scale, picture) for scale in study.given.lora_scales for picture in (0.0, *study.given.scales)]
    for taught in study.given.taught:
        by_lora: list[list[Tensor]] = [[] for _ in ways]
        seconds, word = [], WORD if taught == TAUGHT[0] else ""
        for k in every:
            file, took = trained(study, k, taught)
            seconds.append(took)
            for (lora_scale, scale), drawn in zip(ways, by_lora, strict=True):
                study.base.load_lora(file, scale=lora_scale, name=WORD)
                drawn += study.draw([k], word, [shown["on the left"][k]] if scale else None, scale)
                study.base.unload_lora()
        for (lora_scale, scale), drawn in zip(ways, by_lora, strict=True):
            both = {"image_prompt": "on the left", "scale": scale} if scale else {}
            setting = {"of": "LoRA", "taught": taught, "lora_scale": lora_scale, **both}
            more = {"lora_steps": study.given.lora_steps, "lora_seconds": mean(torch.tensor(seconds))}
            add(setting, drawn, **more)


def strip_of(scenes: Tensor) -> str:
    """The first scenes in a row, half as large, as text."""
    small = F.avg_pool2d(scenes[:STRIP], 2).clamp(-1, 1)
    return picture_to_text(torch.cat(list(to_uint8(small).movedim(1, -1)), dim=1))


def _composed(study: Study, k: int, other: int) -> Tensor:
    """A scene from real pictures: the character on the left, the other thing on the right."""
    left = placed(study.pictures[k][0], *ON_THE_LEFT)
    artists = study.artists(other)
    right = placed(artists[k % len(artists)], 0.5, 0.75, 0.5, False)
    return torch.where(torch.arange(SIDE) < SIDE // 2, left, right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", type=Path, default=IMAGE_PROMPT_FOLDER, help="the folder of an adapter")
    parser.add_argument("--characters", type=int, default=16, help="at most")
    parser.add_argument("--scenes", type=int, default=10, help="of each character")
    parser.add_argument("--scales", nargs="+", type=float, default=SCALES, help="of the image prompt")
    parser.add_argument("--taught", nargs="+", default=TAUGHT, choices=TAUGHT, help="how a LoRA is trained")
    parser.add_argument("--lora-steps", type=int, default=300)
    parser.add_argument("--lora-scales", nargs="+", type=float, default=(1.0,))
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--sampling-steps", type=int, default=STEPS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=MEASURED)
    given = parser.parse_args()
    tried(parser, check_folder, given.out)
    measure(Study(given))


if __name__ == "__main__":
    main()
