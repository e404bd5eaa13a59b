"""Does a LoRA of a few pictures draw other things in their style, and what does it forget?

    python benchmarks/micro_lora.py --device cuda                     # all, some minutes on one GPU
    python benchmarks/micro_lora.py --styles ink --pictures 20 --prior 0 --subjects 16 --out runs     # a trial on a CPU
    python benchmarks/micro_lora.py --shipped --device cuda        # the package's own LoRAs, by scale and both at once

Each style has a new word, "zorb". A LoRA is trained on a few pictures of it, "cat, zorb style", and then asked for
other subjects, "boat, zorb style". Two kinds of styles are held out:

    noto, twemoji, fluent   of the emoji's own three; pictures whose subject neither the base nor the LoRA ever saw in
                            that style (`EmojiSet.held_out`), though the base saw the style of other subjects
    ink, mosaic             made from emoji by a rule; the base never saw them, of any subject

The judge of a style is a linear probe on the retrieval network's feature maps (means and deviations of their channels),
fitted to real pictures of other subjects in all five styles. The judge of a subject is the retrieval network, among all
names. Both are measured on the real pictures of the same subjects, which are the bound. What is forgotten is measured
on plain names without the word: how often they are named right, the distance to the base's pictures of the same seeds,
and how many the judge takes for the new style. Rows are added to <out>/micro_lora.json.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from micro import checksum, mean, weight_files
from micro_captions import plain_names, shuffled, things
from micro_text import probes
from places import tried
from side_by_side import machine
from torch import Tensor

from diffusion_explained.files import check_folder
from diffusion_explained.measured import MEASURED, write_measured
from diffusion_explained.micro.emoji import STYLES, EmojiSet, load_emoji, load_emoji_sample
from diffusion_explained.micro.fidelity import picture_distance, share
from diffusion_explained.micro.lora import LoRA, LoRAConfig, save_lora, train_lora
from diffusion_explained.micro.lora_pictures import caption_with, draw_prior, encode_pictures
from diffusion_explained.micro.made_styles import EXAMPLES, MADE, WORDS, lora_of
from diffusion_explained.micro.reconstruction import on_white
from diffusion_explained.micro.retrieval import embed_captions, embed_pictures, load_retrieval
from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import load

STUDY, WORD = "micro_lora", "zorb"
STEPS, BATCH = 30, 100  # of sampling
FITTED = 1500  # real pictures per style that the judge is fitted to
NAMES = 100  # without the word
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # of the package's own LoRAs


ALL = (*STYLES, *MADE)


@dataclass(frozen=True)
class Cases:
    """Subjects with their real pictures [N, 3, 128, 128] in a style, in a fixed order; the first are trained on."""

    subjects: list[int]
    images: Tensor


def cases_of(emoji: EmojiSet, style: str, most: int) -> Cases:
    """At most `most` subjects in a style that the base never saw them in."""
    if style in MADE:
        subjects = shuffled(things(emoji), lambda i: f"{style} {emoji.names[i]}", most)
        seen = ~emoji.held_out
        own = [(seen & (emoji.subject == i)).nonzero().flatten().tolist() for i in subjects]
        pictures = [of_subject[k % len(of_subject)] for k, of_subject in enumerate(own)]  # the emoji's styles in turn
        return Cases(subjects, MADE[style](on_white(emoji.images[pictures])))
    own = (emoji.held_out & (emoji.style == STYLES.index(style))).nonzero().flatten().tolist()
    own = shuffled(own, lambda picture: f"{style} {emoji.names[int(emoji.subject[picture])]}", most)
    return Cases([int(emoji.subject[picture]) for picture in own], on_white(emoji.images[own]))


class Judge:
    """Which of the five styles a picture has, and which name it has."""

    def __init__(self, emoji: EmojiSet, device: str, without: set[int], fitted: int) -> None:
        """Fit the probe to real pictures, without those of the subjects that are drawn."""
        self.retrieval = load_retrieval(device=device)
        self.names = embed_captions(self.retrieval, emoji.names)
        allowed = ~emoji.held_out & ~torch.isin(emoji.subject, torch.tensor(sorted(without)))
        features, classes = [], []
        for i, style in enumerate(ALL):
            of_style = allowed if style in MADE else allowed & (emoji.style == STYLES.index(style))
            chosen = of_style.nonzero().flatten()
            chosen = chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(i))[:fitted]]
            images = on_white(emoji.images[chosen])
            features.append(self.features(MADE[style](images) if style in MADE else images))
            classes += [i] * len(chosen)
        x = torch.cat(features)
        self.centre, self.spread = x.mean(0), x.std(0).clamp(min=1e-6)
        self.fitted, self.classes = self.standard(x), F.one_hot(torch.tensor(classes)).float()

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """The mean and the standard deviation of every channel of every feature map, [N, D], on the CPU."""
        found = []
        for part in images.split(BATCH):
            maps = self.retrieval.image.feature_maps(part.to(self.retrieval.device).float())
            found.append(torch.cat([torch.cat([m.mean((2, 3)), m.std((2, 3))], dim=1) for m in maps], dim=1).cpu())
        return torch.cat(found)

    def standard(self, x: Tensor) -> Tensor:
        """Features [N, D] with the mean 0 and the deviation 1 of those that were fitted, divided by the root of D."""
        return (x - self.centre) / self.spread / x.shape[1] ** 0.5

    def styles(self, images: Tensor) -> Tensor:
        """The index of each picture's style, [N]."""
        together = torch.cat([self.fitted, self.standard(self.features(images))])
        scores = probes(together, len(self.fitted))(torch.cat([self.classes, torch.zeros(len(images), len(ALL))]))
        return scores[len(self.fitted) :].argmax(dim=1)

    def found(self, images: Tensor, style: str, subjects: list[int]) -> dict[str, Any]:
        """The shares of the right style, the right name, and both."""
        is_style = self.styles(images) == ALL.index(style)
        read = embed_pictures(self.retrieval, images)
        named = (read @ self.names.T).argmax(dim=1).cpu() == torch.tensor(subjects)
        return {"in_the_style": share(is_style), "named": share(named), "both": share(is_style & named)}


class Study:
    """The model, the judge, and the rows."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.path = given, given.out / f"{STUDY}.json"
        self.rows = json.loads(self.path.read_text(encoding="utf-8"))["rows"] if self.path.is_file() else []
        self.emoji = load_emoji_sample() if given.sample else load_emoji()
        self.model = load("micro", device=given.device, dtype=torch.float32)
        self.weights = checksum(*weight_files("micro"))
        count = max(given.pictures) + given.subjects
        self.cases = {style: cases_of(self.emoji, style, count) for style in given.styles}
        drawn = {subject for cases in self.cases.values() for subject in cases.subjects}
        self.judge = Judge(self.emoji, given.device, drawn, given.fitted)
        self.plain = [i for i in plain_names(self.emoji, 10 * NAMES).tolist() if i not in drawn][: given.names]
        self.before = self.draw([self.emoji.names[i] for i in self.plain])

    def draw(self, captions: list[str]) -> Tensor:
        """One picture per caption, picture i from seed i."""
        drawn = []
        for i in range(0, len(captions), BATCH):
            part = captions[i : i + BATCH]
            steps = self.model.steps(part, num_inference_steps=self.given.sampling_steps, seed=range(i, i + len(part)))
            drawn.append(self.model.decode(final(steps)).cpu())
        return torch.cat(drawn)

    def captions(self, subjects: list[int], word: str) -> list[str]:
        return [caption_with(word, self.emoji.names[i]) for i in subjects]

    def kept(self, style: str) -> dict[str, Any]:
        """What the model draws of plain names now, beside what it drew before any LoRA."""
        images = self.draw([self.emoji.names[i] for i in self.plain]) if self.model.loras else self.before
        found = self.judge.found(images, style, self.plain)
        moved = picture_distance(self.judge.retrieval, *(x.to(self.model.device) for x in (images, self.before)))
        return {**found, "moved": mean(moved.cpu())}

    def add(self, style: str, setting: dict[str, Any], measured: dict[str, Any]) -> None:
        key = {"style": style, "setting": setting, "weights": self.weights}
        self.rows = [row for row in self.rows if {name: row[name] for name in key} != key]
        drawn_in = {"sampling_steps": self.given.sampling_steps, "judge_fitted_to": len(self.judge.fitted)}
        self.rows.append({**key, **measured, **drawn_in, "machine": machine()})
        write_measured(STUDY, {"rows": self.rows}, self.given.out)
        print(style, setting, {name: brief(value) for name, value in measured.items()}, flush=True)


def brief(value: Any) -> Any:
    if isinstance(value, dict) and "error" in value:
        return f"{value.get('share', value.get('mean')):.3f} +- {value['error']:.3f}"
    return {name: brief(one) for name, one in value.items()} if isinstance(value, dict) else value


def measure(study: Study, style: str) -> None:
    """The real pictures, the base with the style's own name, and the LoRAs."""
    given, cases = study.given, study.cases[style]
    asked = cases.subjects[max(given.pictures) :]
    real = cases.images[max(given.pictures) :]
    study.add(style, {"of": "real pictures"}, study.judge.found(real, style, asked))
    if style not in MADE:
        drawn = study.draw(study.captions(asked, style))
        study.add(style, {"of": "the base, by the style's own name"}, study.judge.found(drawn, style, asked))
    unknown = study.judge.found(study.draw(study.captions(asked, WORD)), style, asked)
    study.add(style, {"of": "the base, by the new word"}, {**unknown, "without_the_word": study.kept(style)})
    for pictures in given.pictures:
        for prior in given.prior:
            lora, seconds, loss = trained(study, cases, pictures, prior)
            file = save_lora(given.out / f"lora_{style}_{pictures}_{prior:g}", lora, study.model)
            study.model.load_lora(file, name=WORD)
            found = study.judge.found(study.draw(study.captions(asked, WORD)), style, asked)
            setting = {"of": "LoRA", "pictures": pictures, "prior": prior, "rank": given.rank, "steps": given.steps}
            more = {"seconds": seconds, "loss": loss, "bytes": file.stat().st_size}
            study.add(style, setting, {**found, "without_the_word": study.kept(style), **more})
            study.model.unload_lora()


def measure_shipped(study: Study) -> None:
    """The package's own LoRAs on other subjects than theirs: by scale, and both together with each word and both."""
    asked = {}
    for style in MADE:
        others = study.cases[style].subjects[max(study.given.pictures) :]
        asked[style] = [i for i in others if study.emoji.names[i] not in EXAMPLES]
        for scale in SCALES:
            study.model.load_lora(lora_of(style), scale=scale)
            found = study.judge.found(study.draw(study.captions(asked[style], WORDS[style])), style, asked[style])
            setting = {"of": "the package's LoRA", "scale": scale}
            study.add(style, setting, {**found, "without_the_word": study.kept(style)})
            study.model.unload_lora()
    for scale in SCALES[2:5]:
        for style in MADE:
            study.model.load_lora(lora_of(style), scale=scale)
        for word in (*WORDS.values(), " ".join(WORDS.values())):
            styles = study.judge.styles(study.draw(study.captions(asked["ink"], word)))
            found = {style: share(styles == ALL.index(style)) for style in MADE}
            study.add("both", {"of": "both LoRAs of the package", "scale": scale, "word": word}, found)
        study.model.unload_lora()


def trained(study: Study, cases: Cases, pictures: int, prior: float) -> tuple[LoRA, float, float]:
    """A LoRA of the first pictures of a style, the seconds that its training took, and its last loss."""
    given, model = study.given, study.model
    batch = LoRAConfig().batch_size
    config = LoRAConfig(images=batch * given.steps, prior=prior, cuda_graph=given.device == "cuda")
    words = study.captions(cases.subjects[:pictures], WORD)
    began = time.perf_counter()
    encoded = encode_pictures(model, cases.images[:pictures].to(model.device), words)
    others = draw_prior(model) if prior else None
    lora = LoRA(model, given.rank)
    *_, last = train_lora(lora, model, encoded, config, prior=others)
    return lora, time.perf_counter() - began, last.loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--styles", nargs="+", default=ALL, choices=ALL)
    parser.add_argument("--pictures", nargs="+", type=int, default=(5, 20), help="to train on")
    parser.add_argument("--prior", nargs="+", type=float, default=(0.0, 1.0))
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--subjects", type=int, default=100, help="at most, that are drawn in each style")
    parser.add_argument("--names", type=int, default=NAMES, help="that are drawn without the word")
    parser.add_argument("--sampling-steps", type=int, default=STEPS)
    parser.add_argument("--fitted", type=int, default=FITTED, help="real pictures per style, at most, for the judge")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sample", action="store_true", help="use only the emoji that ship with the package")
    parser.add_argument("--shipped", action="store_true", help="measure the package's own LoRAs, and train none")
    parser.add_argument("--out", type=Path, default=MEASURED)
    given = parser.parse_args()
    tried(parser, check_folder, given.out)
    study = Study(given)
    if given.shipped:
        measure_shipped(study)
        return
    for style in given.styles:
        measure(study, style)


if __name__ == "__main__":
    main()
