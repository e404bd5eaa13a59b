"""Does micro follow a picture that it is shown: its style on another subject, its subject, and both?

    python benchmarks/micro_image_prompt.py --device cuda                        # all, some minutes on one GPU
    python benchmarks/micro_image_prompt.py --subjects 4 --fitted 50 --sampling-steps 4 --out runs    # a trial on a CPU

style      The prompt names a subject, the reference is another subject in the style. The styles are those of
           micro_lora.py: noto, twemoji and fluent with subjects that neither the base nor the adapter saw in them; ink
           (outlines, of a kind that the adapter saw, on subjects that it did not); mosaic (of no kind that it saw).
subject    The reference is a picture that no training saw, and the prompt is empty, or names it.

The judges are those of micro_lora.py: a linear probe for the style, the retrieval network for the name among all names
and, for "the same picture", its nearest among the embeddings of all references (chance 1 / n). The real pictures show
what the judges can tell. Rows are added to <out>/micro_image_prompt.json.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from micro import checksum
from micro_captions import shuffled, things
from micro_lora import ALL, BATCH, Judge, brief
from places import tried
from side_by_side import machine
from torch import Tensor

from diffusion_explained.files import check_folder
from diffusion_explained.measured import MEASURED, write_measured
from diffusion_explained.micro.emoji import STYLES, load_emoji, load_emoji_sample
from diffusion_explained.micro.fidelity import share
from diffusion_explained.micro.image_prompt import IMAGE_PROMPT_FOLDER, load_micro_image_prompt
from diffusion_explained.micro.made_styles import MADE
from diffusion_explained.micro.random_styles import is_tested
from diffusion_explained.micro.reconstruction import on_white
from diffusion_explained.micro.retrieval import embed_pictures
from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import load
from diffusion_explained.stable_diffusion.image_prompt_loading import FILE

STUDY = "micro_image_prompt"
STEPS, FITTED = 30, 1500
SCALES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


class Study:
    """The model with its image prompt, the judge, and the rows."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.path = given, given.out / f"{STUDY}.json"
        self.rows = json.loads(self.path.read_text(encoding="utf-8"))["rows"] if self.path.is_file() else []
        self.emoji = load_emoji_sample() if given.sample else load_emoji()
        base = load("micro", device=given.device, dtype=torch.float32)
        self.model = load_micro_image_prompt(base, given.adapter)
        self.weights = checksum(given.adapter / FILE)
        # by style: the subjects, their real pictures [N, 3, 128, 128], and the references
        self.cases: dict[str, tuple[list[int], Tensor, Tensor]] = {}
        for style in given.styles:
            subjects, real = self._asked(style)
            self.cases[style] = (subjects, real, self._references(style, subjects))
        drawn = {subject for subjects, _, _ in self.cases.values() for subject in subjects}
        self.judge = Judge(self.emoji, given.device, drawn, given.fitted)

    def _asked(self, style: str) -> tuple[list[int], Tensor]:
        """Subjects that neither the base nor the adapter saw in a style, and their real pictures."""
        names, most = self.emoji.names, self.given.subjects
        if style in MADE:
            own = [i for i in things(self.emoji) if self.given.sample or is_tested(names[i])]
            subjects = shuffled(own, lambda i: f"{style} {names[i]}", most)
            # the emoji's own styles in turn, the same for subject and reference
            pictures = [self._picture(i, k, ~self.emoji.held_out) for k, i in enumerate(subjects)]
            return subjects, MADE[style](on_white(self.emoji.images[pictures]))
        held = (self.emoji.held_out & (self.emoji.style == STYLES.index(style))).nonzero().flatten().tolist()
        held = shuffled(held, lambda picture: f"{style} {names[int(self.emoji.subject[picture])]}", most)
        return [int(self.emoji.subject[picture]) for picture in held], on_white(self.emoji.images[held])

    def _picture(self, subject: int, k: int, allowed: Tensor) -> int:
        own = (allowed & (self.emoji.subject == subject)).nonzero().flatten().tolist()
        return own[k % len(own)]

    def _references(self, style: str, subjects: list[int]) -> Tensor:
        """For each subject a picture of another subject in the style, chosen by a hash of the names."""
        seen = ~self.emoji.held_out
        if style not in MADE:
            seen = seen & (self.emoji.style == STYLES.index(style))
        able = [i for i in range(len(self.emoji.names)) if bool((seen & (self.emoji.subject == i)).any())]
        others = shuffled(able, lambda i: f"reference {style} {self.emoji.names[i]}", len(subjects) + 50)
        others = [i for i in others if i not in subjects][: len(subjects)]
        pictures = on_white(self.emoji.images[[self._picture(i, k, seen) for k, i in enumerate(others)]])
        return MADE[style](pictures) if style in MADE else pictures

    def draw(
        self, captions: list[str], references: Tensor | None = None, scale: float = 1.0, *, along_picture: bool = False
    ) -> Tensor:
        """One picture per caption, picture i from seed i.

        along_picture: the negative prompt is the prompt, so that guidance moves towards the picture alone.
        """
        drawn = []
        for i in range(0, len(captions), BATCH):
            part = captions[i : i + BATCH]
            options: dict[str, Any] = {}
            if references is not None:
                options = {"image_prompt": references[i : i + len(part)], "image_prompt_scale": scale}
            seeds, guidance = range(i, i + len(part)), self.given.guidance
            steps = self.model.steps(
                part, num_inference_steps=self.given.sampling_steps, seed=seeds, guidance_scale=guidance,
                negative=part if along_picture else None, **options,
            )  # fmt: skip
            drawn.append(self.model.decode(final(steps)).cpu())
        return torch.cat(drawn)

    def add(self, part: str, setting: dict[str, Any], measured: dict[str, Any]) -> None:
        key = {"part": part, "setting": setting, "weights": self.weights}
        self.rows = [row for row in self.rows if {name: row[name] for name in key} != key]
        drawn_in = {"sampling_steps": self.given.sampling_steps, "judge_fitted_to": len(self.judge.fitted)}
        self.rows.append({**key, **measured, **drawn_in, "machine": machine()})
        write_measured(STUDY, {"rows": self.rows}, self.given.out)
        print(part, setting, {name: brief(value) for name, value in measured.items()}, flush=True)


def measure_style(study: Study, style: str) -> None:
    """A subject that the text names, in the style of another subject's picture."""
    subjects, real, references = study.cases[style]
    names = [study.emoji.names[i] for i in subjects]
    found = study.judge.found
    study.add("style", {"style": style, "of": "real pictures"}, found(real, style, subjects))
    study.add("style", {"style": style, "of": "the text alone"}, found(study.draw(names), style, subjects))
    if style in STYLES:
        said = study.draw([f"{name}, {style} style" for name in names])
        study.add("style", {"style": style, "of": "the style's own name"}, found(said, style, subjects))
    for scale in study.given.scales:
        drawn = study.draw(names, references, scale)
        shown = study.judge.found(drawn, style, subjects)
        study.add("style", {"style": style, "of": "image prompt", "scale": scale}, shown)
    drawn = study.draw(names, references, along_picture=True)
    found_along = study.judge.found(drawn, style, subjects)
    study.add("style", {"style": style, "of": "image prompt, the prompt is the negative prompt too"}, found_along)


def same(study: Study, drawn: Tensor, references: Tensor) -> dict[str, float]:
    """The share of pictures whose nearest reference, of all, is their own."""
    read, of = (embed_pictures(study.judge.retrieval, x) for x in (drawn, references))
    return share((read @ of.T).argmax(dim=1).cpu() == torch.arange(len(drawn)))


def measure_subject(study: Study) -> None:
    """Pictures that no training saw, as references: what is drawn of them alone, and with their name."""
    for style in STYLES:
        if style not in study.cases:
            continue
        subjects, real, _ = study.cases[style]
        names = [study.emoji.names[i] for i in subjects]
        rows = {"real pictures": real, "the text alone": study.draw(names)}
        for scale in study.given.scales:
            rows[f"image prompt alone, scale {scale:g}"] = study.draw([""] * len(names), real, scale)
        rows["image prompt and its name"] = study.draw(names, real)
        for of, drawn in rows.items():
            found = study.judge.found(drawn, style, subjects)
            study.add("subject", {"style": style, "of": of}, {**found, "same_picture": same(study, drawn, real)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", type=Path, default=IMAGE_PROMPT_FOLDER, help="the folder of an adapter")
    parser.add_argument("--styles", nargs="+", default=ALL, choices=ALL)
    parser.add_argument("--subjects", type=int, default=100, help="at most, that are drawn in each style")
    parser.add_argument("--scales", nargs="+", type=float, default=SCALES)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--sampling-steps", type=int, default=STEPS)
    parser.add_argument("--fitted", type=int, default=FITTED, help="real pictures per style, at most, for the judge")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sample", action="store_true", help="use only the emoji that ship with the package")
    parser.add_argument("--out", type=Path, default=MEASURED)
    given = parser.parse_args()
    tried(parser, check_folder, given.out)
    study = Study(given)
    for style in given.styles:
        measure_style(study, style)
    measure_subject(study)


if __name__ == "__main__":
    main()
