"""Prompting and known weaknesses: reproduced, measured, and mended by the usual remedy; prompting.json.

    python benchmarks/prompting.py --device cuda                          # all parts, ten minutes on a GPU
    python benchmarks/prompting.py hands words skew --device cuda         # those that train networks of their own
    python benchmarks/prompting.py hands --images 5000 --n 20 --seeds 1 --out runs        # a trial on a CPU

By micro, with the emoji that ship with the package (three pictures of each thing, one per artist):

    refine     eight seeds of a thing, the one that fits its name best is chosen; then image to image with a colour in
               the prompt, by strength: distance from the chosen picture, is the colour right, is the thing recognised
    artefacts  a scale that breaks pictures, and negative prompts against this: is the thing recognised, and how far is
               the nearest training picture of it
    character  one thing beside four others: how similar is it from picture to picture, is it by the same artist; by
               chance, from one seed, with a style in the prompt, and by inpainting around the first picture's thing

By networks that are trained here, with the configuration of recipes/mnist_unet_flow.toml, on pictures of which a
procedure says whether they are right; shares are means over the training seeds, with their standard error:

    hands      the share of hands with five fingers: trained on hands with five, by the number of training images; on
               hands with three to seven, with the number as a label and without; and five with a drawing of the bones
               given, as the start of image to image, or as a second channel that is known at every step
    words      words of three letters, of which the network knows 40 by a label: are the letters right, and those of
               words that were not in training, composed of regions with a label each
    skew       two classes of digits, 90% threes and 10% eights, and half of each: the shares in samples, by guidance
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from micro import STEPS, mean
from micro_captions import colour_pairs, pairs_of_things, plain_names, things
from places import tried
from side_by_side import machine
from torch import Tensor

from diffusion_explained.comparisons import rms_distance
from diffusion_explained.data import bundled_mnist, to_float, to_uint8
from diffusion_explained.data.hands_and_words import LENGTH, count_fingers, draw_hands, draw_words, read_letters
from diffusion_explained.data.hands_and_words import LETTERS as ALPHABET
from diffusion_explained.files import check_folder
from diffusion_explained.measured import MEASURED, picture_to_text, write_measured
from diffusion_explained.metrics import classify
from diffusion_explained.metrics.classes import shipped_classifier
from diffusion_explained.micro.emoji import STYLES, load_emoji_sample
from diffusion_explained.micro.fidelity import colour_shares, foreground, naming, picture_distance, share
from diffusion_explained.micro.reconstruction import on_white
from diffusion_explained.micro.retrieval import embed_captions, embed_pictures, load_retrieval
from diffusion_explained.micro.scenes import caption_of
from diffusion_explained.micro.words import with_article
from diffusion_explained.models import build_network, of_data
from diffusion_explained.noise import generators, randn, seeded
from diffusion_explained.pretrained import Model
from diffusion_explained.samplers import final, run
from diffusion_explained.schedules import schedule_from_config
from diffusion_explained.stable_diffusion import load
from diffusion_explained.stable_diffusion.inpainting import KnownRegion
from diffusion_explained.stable_diffusion.latents import Known, Start
from diffusion_explained.stable_diffusion.masks import rectangle_mask
from diffusion_explained.stable_diffusion.regions import RegionalDenoiser
from diffusion_explained.training import train
from diffusion_explained.training.config import TrainConfig
from diffusion_explained.training.recipes import Recipe, read_recipe

STUDY = "prompting"
SCALE = 4.0
REFINED = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
VARIANTS = 8
BROKEN = {"guidance_scale": 10.0, "num_inference_steps": 10, "sampler": "dpm_solver_pp_2m", "spacing": "trailing"}
NEGATIVE = ("", "blurry", "blurry, ugly, deformed, low quality", "unbelievable", "a rocket")
BESIDE = 4  # the other things beside which a character is drawn
SIDE = 128
GUIDED = (1.0, 2.0, 4.0)
DRAWN = 20_000  # training pictures of hands or words
MOMENTS = 4  # of a training run at which hands are counted
FROM_BONES = (0.6, 0.7, 0.8, 0.9, 0.95)  # strengths of image to image
SHOWN = 10  # samples that are kept as a picture
IN_TRAINING = """CAT DOG SUN MAP HEN BOX JAM KEY LIP NUT OWL PIG RAT SKY TEA VAN WEB YAK ZOO ARM
    BED CUP EGG FIG GUM HAT INK JET LOG MUG NET OAK PEN RUG SAW TOY URN WIG AXE ICE"""
OTHERS = "HOT CAP RUN SAT PAN BUG TEN MET PUT HUG JOG WET BAT NAP LET FUN SET TAP MEN COG"
KNOWN, NEW = IN_TRAINING.split(), OTHERS.split()


def of_seeds(values: list[float]) -> dict[str, float]:
    """The mean of one share per training seed, with its standard error over the seeds."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return {"share": statistics.mean(values), "error": error if error == error else 0.0, "seeds": len(values)}


def strip(images: Tensor) -> str:
    """A picture as text: images [N, 1, H, W] in [-1, 1] in one row."""
    return picture_to_text(torch.cat(list(to_uint8(images[:SHOWN].clamp(-1, 1))[:, 0]), dim=1))


class Study:
    """The arguments, the rows, and what the parts by micro share."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.path = given, given.out / f"{STUDY}.json"
        self.rows = json.loads(self.path.read_text(encoding="utf-8"))["rows"] if self.path.is_file() else []

    def use_micro(self) -> None:
        self.model, self.emoji = load("micro", device=self.given.device), load_emoji_sample()
        self.retrieval = load_retrieval(device=self.given.device)
        self.names = embed_captions(self.retrieval, self.emoji.names)

    def draw(self, captions: list[str], seeds: list[int], **options: Any) -> Tensor:
        """One picture per caption and seed; tensors [N, ...] in the options have one row per caption."""
        drawn, size = [], self.given.batch
        settings: dict[str, Any] = {"num_inference_steps": self.given.steps, "guidance_scale": SCALE, **options}
        for start in range(0, len(captions), size):
            part = slice(start, start + size)
            own = {k: v[part] if isinstance(v, Tensor) and v.ndim == 4 else v for k, v in settings.items()}
            drawn.append(self.model.decode(final(self.model.steps(captions[part], seed=seeds[part], **own))).float())
        return torch.cat(drawn)

    def named(self, images: Tensor, subjects: Tensor) -> dict[str, Any]:
        return naming(embed_pictures(self.retrieval, images), self.names, subjects)["top1"]

    def originals(self, subject: int) -> Tensor:
        """The training pictures of a thing, [3, 3, 128, 128], by style."""
        emoji = self.emoji
        at = [int(((emoji.subject == subject) & (emoji.style == k)).nonzero()[0]) for k in range(len(STYLES))]
        return on_white(emoji.images[at]).to(self.given.device)

    def add(self, part: str, setting: dict[str, Any], measured: dict[str, Any]) -> None:
        """Write a row, in the place of an older one of the same part and setting."""
        row = {"part": part, "setting": setting, **measured, "machine": machine()}
        self.rows = [kept for kept in self.rows if (kept["part"], kept["setting"]) != (part, setting)] + [row]
        write_measured(STUDY, {"rows": self.rows}, self.given.out)
        print(part, setting, {k: v for k, v in measured.items() if k != "strip"}, flush=True)


# -- by micro --------------------------------------------------------------------------------------------------


def refine(study: Study) -> None:
    """Choose one of eight seeds, then image to image with a colour in the prompt."""
    emoji = study.emoji
    pairs = colour_pairs(emoji, study.given.pictures, held_out=False)
    subjects = torch.tensor([pair.subject for pair in pairs])
    names = [emoji.names[pair.subject] for pair in pairs]
    captions = [name for name in names for _ in range(VARIANTS)]
    seeds = [VARIANTS * i + k for i in range(len(names)) for k in range(VARIANTS)]
    variants = study.draw(captions, seeds).unflatten(0, (len(names), VARIANTS))
    pictures = embed_pictures(study.retrieval, variants.flatten(0, 1)).unflatten(0, (len(names), VARIANTS))
    scores = torch.einsum("nvd,nd->nv", pictures, study.names[subjects])
    best = scores.argmax(1).cpu()
    every = torch.arange(len(names))
    chosen = variants[every, best]
    study.add(
        "refine",
        {"what": "choose", "of": VARIANTS},
        {
            "named_first": study.named(variants[:, 0], subjects),
            "named_best": study.named(chosen, subjects),
            "score_first": mean(scores[:, 0].cpu()),
            "score_best": mean(scores.amax(1).cpu()),
            "between_seeds": mean(picture_distance(study.retrieval, variants[:, 0], variants[:, 1]).cpu()),
        },
    )
    asked, colours = [pair.caption for pair in pairs], torch.tensor([pair.word for pair in pairs])
    own = [VARIANTS * i + int(k) for i, k in enumerate(best)]
    for strength in (0.0, *REFINED, 1.0):
        if strength == 0:
            drawn = chosen
        else:
            options = {} if strength == 1 else {"image": chosen, "strength": strength}
            drawn = study.draw(asked, own, **options)
        shares = colour_shares(drawn.cpu())
        study.add(
            "refine",
            {"what": "image to image", "strength": strength},
            {
                "distance": mean(picture_distance(study.retrieval, drawn, chosen).cpu()),
                "in_pixels": mean(torch.tensor([rms_distance(a, b) for a, b in zip(drawn, chosen, strict=True)])),
                "colour": share(shares.argmax(1) == colours),
                "named": study.named(drawn, subjects),
            },
        )


def artefacts(study: Study) -> None:
    """Negative prompts against pictures that a large scale breaks."""
    subjects = plain_names(study.emoji, study.given.pictures)
    captions, seeds = [study.emoji.names[i] for i in subjects.tolist()], list(range(len(subjects)))
    originals = [study.originals(subject) for subject in subjects.tolist()]

    def measured(drawn: Tensor, beside: Tensor) -> dict[str, Any]:
        nearest = [
            picture_distance(study.retrieval, one.expand_as(own), own).min()
            for one, own in zip(drawn[:, None], originals, strict=True)
        ]
        return {
            "named": study.named(drawn, subjects),
            "to_training": mean(torch.stack(nearest).cpu()),
            "moved": mean(picture_distance(study.retrieval, drawn, beside).cpu()),
        }

    for how, options in (("usual", {}), ("broken", BROKEN)):
        beside = study.draw(captions, seeds, **options)
        for negative in NEGATIVE:
            drawn = study.draw(captions, seeds, negative=negative, **options) if negative else beside
            study.add("artefacts", {"how": how, "negative": negative}, measured(drawn, beside))
    smaller = BROKEN | {"num_inference_steps": 50, "sampler": "euler"}
    study.add("artefacts", {"how": "broken, in 50 steps of Euler", "negative": ""},
              measured(study.draw(captions, seeds, **smaller), study.draw(captions, seeds)))  # fmt: skip


def cut_out(images: Tensor) -> Tensor:
    """What is drawn in each picture [N, 3, H, W], cut out and enlarged to 128 x 128 on white."""
    found = []
    for image, drawn in zip(images, foreground(images), strict=True):
        rows, columns = drawn.any(1).nonzero().flatten(), drawn.any(0).nonzero().flatten()
        if not len(rows):
            found.append(torch.ones(3, SIDE, SIDE, device=images.device))
            continue
        part = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        space = max(part.shape[1:]) - torch.tensor(part.shape[1:])
        pad = (int(space[1]) // 2, int(space[1]) - int(space[1]) // 2, int(space[0]) // 2,
               int(space[0]) - int(space[0]) // 2)  # fmt: skip
        square = torch.nn.functional.pad(part, pad, value=1.0)
        found.append(torch.nn.functional.interpolate(square[None], size=(SIDE, SIDE), mode="bilinear")[0])
    return torch.stack(found)


def character(study: Study) -> None:
    """One thing on the left of four others: is it the same one in all four pictures?"""
    emoji, count = study.emoji, max(2, min(study.given.pictures, len(things(study.emoji)) - BESIDE))
    first, _ = pairs_of_things(emoji, count)
    names = [emoji.names[i] for i in first.tolist()]
    others = [names[(i + k) % count] for i in range(count) for k in range(1, BESIDE + 1)]
    phrases = [
        f"{with_article(name)} left of {with_article(other)}"
        for name, other in zip([name for name in names for _ in range(BESIDE)], others, strict=True)
    ]
    seeds = list(range(len(phrases)))
    one_seed = [BESIDE * (i // BESIDE) for i in seeds]
    styled = [caption_of(phrase, None, STYLES[(i // BESIDE) % len(STYLES)]) for i, phrase in enumerate(phrases)]
    left = rectangle_mask(SIDE, SIDE, (0, 0.5), (0, 1)).to(study.given.device)
    first_pictures = study.draw(phrases[::BESIDE], seeds[::BESIDE]).repeat_interleave(BESIDE, 0)
    ways: dict[str, tuple[list[str], list[int], dict[str, Any]]] = {
        "another seed for each": (phrases, seeds, {}),
        "one seed": (phrases, one_seed, {}),
        "a style in the prompt": (styled, seeds, {}),
        "a style, and one seed": (styled, one_seed, {}),
        "inpainted around the first": (phrases, seeds, {"image": first_pictures, "mask": 1 - left}),
    }
    i, j = torch.triu_indices(BESIDE, BESIDE, 1)
    originals = [cut_out(study.originals(subject)) for subject in first.tolist()]
    within = mean(torch.stack([picture_distance(study.retrieval, own[:-1], own[1:]).mean() for own in originals]).cpu())
    for how, (captions, own_seeds, options) in ways.items():
        drawn = study.draw(captions, own_seeds, **options)
        white = torch.where(left.bool(), drawn, torch.ones_like(drawn))
        cut = cut_out(white).unflatten(0, (count, BESIDE))
        apart = torch.stack([picture_distance(study.retrieval, one[i], one[j]).mean() for one in cut])
        artist = torch.stack(
            [
                torch.stack(
                    [picture_distance(study.retrieval, one, k.expand_as(one)) for k in own], dim=1
                ).argmin(1)
                for one, own in zip(cut, originals, strict=True)
            ]
        )  # fmt: skip
        same = (artist[:, i] == artist[:, j]).double().mean(1)
        other = drawn.unflatten(0, (count, BESIDE))
        study.add(
            "character",
            {"how": how},
            {
                "apart": mean(apart.cpu()),
                "same_artist": mean(same.cpu()),
                "named": study.named(cut.flatten(0, 1), first.repeat_interleave(BESIDE)),
                "pictures_apart": mean(
                    torch.stack([picture_distance(study.retrieval, one[i], one[j]).mean() for one in other]).cpu()
                ),
                "artists_apart": within,
            },
        )


# -- by networks that are trained here -------------------------------------------------------------------------


def trained(study: Study, images: Tensor, labels: Tensor | None, classes: int, seed: int, records: int = 1) -> Any:
    """Records of training the digits' U-Net on images uint8 [N, C, H, W]; the last one is that of the end."""
    recipe = Recipe.from_tables(*read_recipe("mnist_unet_flow"))
    config = of_data(recipe.network, images.shape[1:], classes)  # with one class and no labels: unconditional
    network = seeded(seed, lambda: build_network(config))
    on_gpu = torch.device(study.given.device).type == "cuda"
    faster: dict[str, Any] = {"precision": "bfloat16", "noise_on": "device", "cuda_graph": True} if on_gpu else {}
    settings = TrainConfig(images=study.given.images, batch_size=256, ema_decay=0.999, seed=seed, **faster)
    return train(
        network, images, labels, schedule_from_config(recipe.schedule), recipe.kind, settings,
        device=study.given.device, record_every=max(1, settings.num_steps // records),
    )  # fmt: skip


def last(records: Any) -> Model:
    """The model at the end of a training."""
    for record in records:
        model = record.model
    return model


def sampled(model: Model, n: int, seed: int, labels: Tensor | None = None, **options: Any) -> Tensor:
    """n images; with labels [n] or without. Other settings are those of the part's docstring."""
    given = {"num_inference_steps": 20, "seed": 10_000 * (seed + 1), **options}
    if labels is None:
        return model.sample(None, n, **given)
    return model.sample(labels, **given)


def hands(study: Study) -> None:
    """Hands with five fingers, and with three to seven."""
    n, seeds = study.given.n, range(study.given.seeds)
    five = torch.full((n,), 5)
    real = count_fingers(to_float(draw_hands(five, seed=77)))
    found: dict[str, list[Tensor]] = {}
    shown: dict[str, Tensor] = {}

    def add(how: str, images: Tensor) -> None:
        found.setdefault(how, []).append(count_fingers(images[:, :1]))
        shown.setdefault(how, images[:, :1])

    for seed in seeds:
        fixed = torch.full((DRAWN,), 5)
        for record in trained(study, draw_hands(fixed, seed), None, 1, seed, MOMENTS):
            model = record.model
            add(f"five fingers, {record.images_seen:,} images", sampled(model, n, seed))
        bones = to_float(draw_hands(five, 1000 + seed, bones=True)).to(model.device)
        for strength in FROM_BONES:
            levels = [level for level in model.levels(50) if level.sigma <= strength]
            eps = randn(bones.shape, generators(n, 500_000 * (seed + 1)), model.device)
            start = Start(levels[0].alpha * bones + levels[0].sigma * eps, levels, generators(n))
            add(f"from the bones, strength {strength}", final(run("euler", model.denoiser(start=start), start)))
        numbers = 3 + torch.arange(DRAWN) % 5
        model = last(trained(study, draw_hands(numbers, seed), numbers - 3, 5, seed))
        add("three to seven, no number said", sampled(model, n, seed))
        for scale in GUIDED:
            add(f"three to seven, five said, guidance {scale:g}",
                sampled(model, n, seed, torch.full((n,), 2), guidance_scale=scale))  # fmt: skip
        both = torch.cat([draw_hands(fixed, seed), draw_hands(fixed, seed, bones=True)], dim=1)
        model = last(trained(study, both, None, 1, seed))
        add("five fingers and bones", sampled(model, n, seed))
        levels = model.levels(20)
        start = model.prepare(10_000 * (seed + 1), n, levels=levels)
        mask = torch.tensor([1.0, 0.0], device=model.device)[None, :, None, None]
        known = Known(torch.cat([bones, bones], dim=1), start.x_t, mask.expand(n, 2, *bones.shape[2:]), levels[0])
        add("bones given at every step", final(run("euler", KnownRegion(model.denoiser(start=start), known), start)))
    for how, counts in found.items():
        study.add(
            "hands",
            {"how": how, "images": study.given.images},
            {
                "five": of_seeds([(one == 5).double().mean().item() for one in counts]),
                "counts": torch.bincount(torch.cat(counts), minlength=10)[:10].tolist(),
                "n": n,
                "real": (real == 5).double().mean().item(),
                "strip": strip(shown[how]),
            },
        )


def words(study: Study) -> None:
    """Words that were in training, by a label; and new words, composed of regions."""
    n, seeds = study.given.n, range(study.given.seeds)
    found: dict[str, list[tuple[float, float, float]]] = {}
    shown: dict[str, Tensor] = {}
    known = torch.tensor([[ALPHABET.index(letter) for letter in word] for word in KNOWN])
    new = torch.tensor([[ALPHABET.index(letter) for letter in word] for word in NEW])

    def add(how: str, images: Tensor, truth: Tensor | None) -> None:
        letters, cosine = read_letters(images)
        if truth is None:  # no word was asked for: is it one of training?
            right = (letters[:, None] == known).all(-1).any(-1).double()
            found.setdefault(how, []).append((right.mean().item(), float("nan"), cosine.mean().item()))
        else:
            right = letters == truth
            whole, each = right.all(1).double().mean().item(), right.double().mean().item()
            found.setdefault(how, []).append((whole, each, cosine.mean().item()))
        shown.setdefault(how, images)

    for seed in seeds:
        labels = torch.arange(DRAWN) % len(KNOWN)
        pictures = draw_words([KNOWN[i] for i in labels.tolist()], seed)
        model = last(trained(study, pictures, labels, len(KNOWN), seed))
        asked, wanted = torch.arange(n) % len(KNOWN), torch.arange(n) % len(NEW)
        add("drawn, not sampled", to_float(draw_words([NEW[i] for i in wanted.tolist()], 999)), new[wanted])
        add("no word said", sampled(model, n, seed), None)
        for scale in GUIDED:
            images = sampled(model, n, seed, asked, guidance_scale=scale)
            add(f"a word of training, guidance {scale:g}", images, known[asked])
        place = torch.arange(pictures.shape[-1])
        cells = ((place - 1).clamp(0, 10 * LENGTH - 1) // 10).to(model.device)
        shares = torch.stack([(cells == i).float() for i in range(LENGTH)])[:, None, None, None]
        parts = []
        for i in range(LENGTH):
            source = [next(k for k, word in enumerate(KNOWN) if word[i] == wish[i]) for wish in NEW]
            parts.append(torch.tensor(source)[wanted])
        for scale in GUIDED:
            denoise = RegionalDenoiser(tuple(model.denoiser(part, scale) for part in parts), shares)
            images = model.sample(denoise, n, num_inference_steps=20, seed=10_000 * (seed + 1))
            add(f"a new word, by regions, guidance {scale:g}", images, new[wanted])
        nearest = (new[:, None] == known).sum(-1).argmax(1)[wanted]
        add("a new word, by the most similar label", sampled(model, n, seed, nearest, guidance_scale=2.0), new[wanted])
    for how, each in found.items():
        whole, letters, cosine = zip(*each, strict=True)
        row: dict[str, Any] = {"word": of_seeds(list(whole)), "cosine": statistics.mean(cosine), "n": n}
        if how != "no word said":
            row["letters"] = of_seeds(list(letters))
        study.add("words", {"how": how, "images": study.given.images}, row | {"strip": strip(shown[how])})


def skew(study: Study) -> None:
    """Threes and eights in two classes, of which one is skewed."""
    digits, n = bundled_mnist(), study.given.n
    each = {label: digits.images[digits.labels == label] for label in (3, 8)}
    numbers = {"A": (630, 70), "B": (350, 350)}
    images = torch.cat([each[3][:630], each[8][:70], each[3][630:980], each[8][70:420]])
    labels = torch.cat([torch.zeros(700), torch.ones(700)]).long()
    judge = shipped_classifier("mnist", study.given.device)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    shown: dict[tuple[str, str], Tensor] = {}
    ways: dict[str, dict[str, Any]] = {f"guidance {w:g}": {"guidance_scale": w} for w in GUIDED}
    ways["guidance 4, only where 0.2 ≤ σ/α ≤ 3"] = {"guidance_scale": 4.0, "guidance_interval": (0.2, 3.0)}
    for seed in range(study.given.seeds):
        model = last(trained(study, images, labels, 2, seed))
        for label, name in enumerate(numbers):
            for how, options in ways.items():
                drawn = sampled(model, n, seed, torch.full((n,), label), **options)
                read = classify(drawn, judge)[1].argmax(1)
                threes, eights = ((read == digit).double().mean().item() for digit in (3, 8))
                found.setdefault((name, how), []).append((threes / (threes + eights), threes + eights))
                shown.setdefault((name, how), drawn)
    for (name, how), shares in found.items():
        study.add(
            "skew",
            {"class": name, "how": how, "images": study.given.images},
            {
                "threes": of_seeds([one for one, _ in shares]),
                "in_training": numbers[name][0] / 700,
                "threes_or_eights": statistics.mean(either for _, either in shares),
                "n": n,
                "strip": strip(shown[name, how]),
            },
        )


BY_MICRO: dict[str, Callable[[Study], None]] = {"refine": refine, "artefacts": artefacts, "character": character}
PARTS: dict[str, Callable[[Study], None]] = {**BY_MICRO, "hands": hands, "words": words, "skew": skew}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pictures", type=int, default=64, help="prompts per setting of the parts by micro")
    parser.add_argument("--steps", type=int, default=STEPS, help="of micro")
    parser.add_argument("--batch", type=int, default=256, help="pictures per batch of micro")
    parser.add_argument("--images", type=int, default=400_000, help="training images processed per network")
    parser.add_argument("--n", type=int, default=500, help="samples per setting and trained network")
    parser.add_argument("--seeds", type=int, default=3, help="networks per setting")
    parser.add_argument("--out", type=Path, default=MEASURED)
    given = parser.parse_args()
    tried(parser, check_folder, given.out)
    study, parts = Study(given), given.parts or list(PARTS)
    if set(parts) & set(BY_MICRO):
        study.use_micro()
    for part in parts:
        PARTS[part](study)


if __name__ == "__main__":
    main()
