"""How well the micro Stable Diffusion follows its prompts: all measurements of measured/micro.json.

    python benchmarks/micro.py --device cuda                           # all but speed, about a minute on one GPU
    python benchmarks/micro.py guidance --pictures 32                  # one part, small, on a CPU
    python benchmarks/micro.py --device cuda --model runs/micro_flow --name micro_flow --out runs      # a candidate
    python benchmarks/micro.py speed --threads 2                       # on a CPU

Each part adds rows to <out>/micro.json as it measures them; a row that is there already, for the same weights, setting
and number of pictures, is not measured again. Picture i starts from the noise of seed i, whatever is varied. The
retrieval network (`micro.retrieval`) measures the pictures. Every measure is also taken of real pictures (the part
"real", and the rows whose setting says so): compare the two.

    real          how well the retrieval network recognises real emoji, of training and held out
    guidance      are plain subjects recognised, and are colours overdone, from guidance scale 1 to 12
    composition   pairs of colour and subject, and of style and subject: never seen in training, and seen
    order         two subjects, or subject and style, in both orders; the effect of each word of a caption
    negative      a colour, or a style, as the negative prompt
    relations     left of and right of; two and three
    autoencoder   reconstruction of emoji that were never used in training
    steps         plain subjects by sampler and number of steps
    speed         seconds on a CPU
"""

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from micro_captions import (
    Combination,
    colour_pairs,
    counts,
    leave_one_out,
    natural_colours,
    pairs_of_things,
    plain_names,
    style_pairs,
)
from places import tried
from side_by_side import machine, side_by_side, table
from torch import Tensor

from diffusion_explained.files import check_folder
from diffusion_explained.measured import MEASURED, write_measured
from diffusion_explained.metrics import frechet_distance
from diffusion_explained.micro.emoji import STYLES, EmojiSet, load_emoji, load_emoji_sample
from diffusion_explained.micro.fidelity import (
    choices,
    colour_shares,
    halves,
    look,
    naming,
    picture_distance,
    share,
    spread,
    ssim,
)
from diffusion_explained.micro.reconstruction import on_white, psnr
from diffusion_explained.micro.retrieval import WEIGHTS, Retrieval, embed_captions, embed_pictures, load_retrieval
from diffusion_explained.micro.scenes import HALF, Scenes, draw_scenes, plain_caption
from diffusion_explained.micro.tokens import load_tokenizer
from diffusion_explained.micro.words import COLOURS, NUMBERS, plural, with_article
from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import StableDiffusion, Text, find_weights, load

STUDY = "micro"
SCALES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0)
STEPS, SCALE = 30, 4.0  # where a part does not vary them
STEP_COUNTS = (4, 8, 15, 30, 50)
SAMPLERS = ("ddim", "euler", "dpm_solver_pp_2m", "heun", "euler_ancestral")
SEEDS = "picture i of a row starts from the noise of seed i, and where a second one is drawn of 1,000,000 + i"
PLACES = ("first", "second")
OTHER_SEEDS = 1_000_000  # where the seeds of a second picture of each caption begin
SETTING = (
    "part",
    "model",
    "weights",
    "retrieval",
    "setting",
    "scale",
    "pictures",
    "precision",
)  # these keys identify a row


class Study:
    """The model, the retrieval network, the emoji, and the rows that are already measured."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.started = arguments, time.perf_counter()
        self.device, self.pictures = torch.device(arguments.device), arguments.pictures
        self.out: Path = arguments.out
        self.path = self.out / f"{STUDY}.json"
        kept = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {"rows": []}
        self.rows: list[dict[str, Any]] = kept["rows"]
        self.left_out: list[str] = []
        self.embedded: dict[tuple[str, ...], Tensor] = {}
        self.texts: dict[tuple[tuple[str, ...], ...], Text] = {}

    @cached_property
    def model(self) -> StableDiffusion:
        return load(self.arguments.model, device=self.arguments.device)

    @cached_property
    def retrieval(self) -> Retrieval:
        return load_retrieval(self.arguments.retrieval, self.device)

    @cached_property
    def emoji(self) -> EmojiSet:
        return load_emoji_sample() if self.arguments.sample else load_emoji()

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer()

    @cached_property
    def sprites(self) -> Tensor:
        return self.emoji.images.to(self.device)

    @cached_property
    def names(self) -> Tensor:
        """The retrieval network's embeddings of all subjects' names, [N, D]."""
        return self.words(self.emoji.names)

    @cached_property
    def identity(self) -> dict[str, str]:
        """The files that a row was measured with: the start of their SHA-256."""
        return {
            "weights": checksum(*weight_files(self.arguments.model)),
            "retrieval": checksum(self.arguments.retrieval),
        }

    def words(self, captions: Iterable[str]) -> Tensor:
        """The retrieval network's embeddings of captions [N, D]; equal captions are embedded only once."""
        captions = tuple(captions)
        if captions not in self.embedded:
            self.embedded[captions] = embed_captions(self.retrieval, captions, self.tokenizer)
        return self.embedded[captions]

    def read(self, images: Tensor) -> Tensor:
        return embed_pictures(self.retrieval, images)

    def draw(
        self, captions: list[str], *, seeds: list[int] | None = None, negative: list[str] | None = None, **settings: Any
    ) -> Tensor:
        """One picture per caption, picture i from seed i or seeds[i]: [N, 3, 128, 128] in [-1, 1] on the device."""
        settings = {"guidance_scale": self.arguments.scale, "num_inference_steps": STEPS, **settings}
        seeds, size, drawn = seeds or list(range(len(captions))), self.arguments.batch, []
        for start in range(0, len(captions), size):
            part = slice(start, start + size)
            away = None if negative is None else negative[part]
            run = self.model.steps(self.text(captions[part], away), seed=seeds[part], **settings)
            drawn.append(self.model.decode(final(run)))
        return torch.cat(drawn)

    def text(self, captions: list[str], negative: list[str] | None) -> Text:
        """The model's encoding of captions; equal captions are encoded only once."""
        key = (tuple(captions), tuple(negative or ()))
        if key not in self.texts:
            self.texts[key] = self.model.encode_text(captions, negative)
        return self.texts[key]

    def draw_again(self, captions: list[str]) -> Tensor:
        """Other pictures of the same captions, from other seeds, to measure how much pictures of one caption differ."""
        return self.draw(captions, seeds=[OTHER_SEEDS + i for i in range(len(captions))])

    def scenes(self, sprite: Tensor, colour: Tensor | None = None, place: Tensor | None = None) -> Tensor:
        """Real pictures of emoji [B, S] on white, recoloured and placed if requested: [B, 3, 128, 128]."""
        whole = torch.tensor([0.0, 0.0, 1.0, 0.0]).expand(*sprite.shape, 4)
        scenes = Scenes(
            captions=[""] * len(sprite),
            sprite=sprite,
            place=whole if place is None else place,
            colour=torch.full_like(sprite, -1) if colour is None else colour,
            background=torch.ones(len(sprite), 3),
        )
        return draw_scenes(scenes, self.sprites)

    def add(self, part: str, setting: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> None:
        """Measure a row and write it, unless it exists already or the time is used up."""
        model = "real" if setting.get("pictures_of") == "real" else self.arguments.name
        row = {"part": part, "model": model, **self.identity, "setting": setting, "scale": self.arguments.scale}
        row |= {"pictures": self.pictures, "precision": str(self.model.network.dtype).removeprefix("torch.")}
        if model == "real":
            row["weights"] = row["retrieval"]
        if any(all(kept.get(key) == row.get(key) for key in SETTING) for kept in self.rows):
            return
        if time.perf_counter() - self.started > self.arguments.budget:
            self.left_out.append(f"{part} {setting}")
            return
        began = time.perf_counter()
        row |= measure()
        row |= {"seconds": time.perf_counter() - began, "machine": machine()}
        same = ("part", "model", "setting")  # a row of older weights is replaced
        self.rows = [kept for kept in self.rows if not all(kept.get(key) == row.get(key) for key in same)] + [row]
        write_measured(STUDY, {"seeds": SEEDS, "rows": self.rows}, self.out)
        self.say(f"{part} {setting}: {brief(row)}")

    def say(self, text: str) -> None:
        print(f"[{time.perf_counter() - self.started:6.1f} s] {text}", flush=True)


def weight_files(model: str) -> list[Path]:
    """The weight files of a model, a name or a folder, in the order of its parts."""
    found = find_weights(model)
    return [file for part in sorted(found.parts) for file in sorted((found.folder / part).glob("*.safetensors"))]


def checksum(*files: Path) -> str:
    """The start of the SHA-256 of the concatenated files."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def mean(values: Tensor) -> dict[str, float]:
    """The mean of [B], with its standard error std / sqrt(B)."""
    values = values.double()
    error = (values.std() / len(values) ** 0.5).item() if len(values) > 1 else 0.0
    return {"mean": values.mean().item(), "error": error, "n": len(values)}


# -- the parts -------------------------------------------------------------------------------------------------


def real(study: Study) -> None:
    """The retrieval network on real emoji, and their colour statistics."""
    emoji = study.emoji
    for split, mask in (("train", ~emoji.held_out), ("held_out", emoji.held_out)):

        def measure(mask: Tensor = mask) -> dict[str, Any]:
            chosen = spread(mask.nonzero().flatten(), max(study.pictures, 1000))
            images = on_white(study.sprites[chosen])
            return {**naming(study.read(images), study.names, emoji.subject[chosen]), **look(images)}

        study.add("real", {"pictures_of": "real", "split": split}, measure)


def guidance(study: Study) -> None:
    """Plain names at every scale, and the real pictures of the same subjects."""
    emoji, subjects = study.emoji, plain_names(study.emoji, study.pictures)
    captions = [emoji.names[i] for i in subjects.tolist()]
    seen = one_picture_each(emoji, subjects)
    reference = study.read(on_white(study.sprites[seen]))

    def measures(images: Tensor) -> dict[str, Any]:
        read = study.read(images)
        found = {**naming(read, study.names, subjects), **look(images)}
        found["score"] = mean((read * study.names[subjects.to(read.device)]).sum(1))
        if len(read) > 2 * read.shape[1]:
            found["frechet_distance"] = frechet_distance(read, reference)
        return found

    other = one_picture_each(emoji, subjects, other_than=seen)
    study.add("guidance", {"pictures_of": "real"}, lambda: measures(on_white(study.sprites[other])))
    for scale in SCALES:
        study.add(
            "guidance", {"guidance_scale": scale}, lambda s=scale: measures(study.draw(captions, guidance_scale=s))
        )


def one_picture_each(emoji: EmojiSet, subjects: Tensor, other_than: Tensor | None = None) -> Tensor:
    """The index of one training picture per subject [B], with styles in turn, and if possible other than `other_than`.

    A subject with only one training picture has the same index both times.
    """
    chosen = []
    for place, subject in enumerate(subjects.tolist()):
        own = ((emoji.subject == subject) & ~emoji.held_out).nonzero().flatten()
        if other_than is not None and len(own) > 1:
            own = own[own != other_than[place]]
        chosen.append(int(own[place % len(own)]))
    return torch.tensor(chosen)


def composition(study: Study) -> None:
    """Held-out and seen combinations, drawn by the model and composed of real emoji."""
    for combination in ("held_out", "seen"):
        compose_colours(study, combination)
        compose_styles(study, combination)


def compose_colours(study: Study, combination: str) -> None:
    pairs = colour_pairs(study.emoji, study.pictures, held_out=combination == "held_out")
    captions = [pair.caption for pair in pairs]
    sprite = one_picture_each(study.emoji, torch.tensor([pair.subject for pair in pairs]))[:, None]
    colour = torch.tensor([pair.word for pair in pairs])[:, None]
    setting = {"of": "colour and subject", "combination": combination}
    study.add(
        "composition",
        {**setting, "pictures_of": "real"},
        lambda: of_colours(study, study.scenes(sprite, colour), pairs),
    )
    for scale in dict.fromkeys((study.arguments.scale, 2.0, 8.0)):
        drawn = partial(study.draw, captions, guidance_scale=scale)
        study.add(
            "composition", {**setting, "guidance_scale": scale}, lambda draw=drawn: of_colours(study, draw(), pairs)
        )


def compose_styles(study: Study, combination: str) -> None:
    pairs = style_pairs(study.emoji, study.pictures, held_out=combination == "held_out")
    captions, chosen = [pair.caption for pair in pairs], torch.tensor([pair.picture for pair in pairs])
    setting = {"of": "subject and style", "combination": combination}
    study.add(
        "composition",
        {**setting, "pictures_of": "real"},
        lambda: of_styles(study, on_white(study.sprites[chosen]), pairs),
    )
    study.add(
        "composition",
        {**setting, "guidance_scale": study.arguments.scale},
        lambda: of_styles(study, study.draw(captions), pairs),
    )


def of_colours(study: Study, images: Tensor, pairs: list[Combination]) -> dict[str, Any]:
    """Shares of a right colour (by retrieval and by pixels), a right subject (among all of that colour), and both."""
    read, names = study.read(images), study.emoji.names
    target = torch.tensor([pair.word for pair in pairs]).to(images.device)
    of_all = [[with_article(f"{colour} {names[pair.subject]}") for colour in COLOURS] for pair in pairs]
    colour = choices(study.retrieval, read, of_all, study.tokenizer) == target
    by_pixels = colour_shares(images).argmax(dim=1) == target
    subject = torch.zeros(len(pairs), dtype=torch.bool, device=images.device)
    for word in target.unique().tolist():  # all subjects with that colour's word; in total 11 times as many texts
        rows = (target == word).nonzero().flatten()
        words = study.words([with_article(f"{COLOURS[word]} {name}") for name in names])
        truth = torch.tensor([pairs[i].subject for i in rows.tolist()], device=images.device)
        subject[rows] = (read[rows] @ words.T).argmax(dim=1) == truth
    return {
        "colour": share(colour),
        "colour_by_pixels": share(by_pixels),
        "subject": share(subject),
        "both": share(colour & subject),
        "both_by_pixels": share(by_pixels & subject),
        "chance": {"colour": 1 / len(COLOURS), "subject": 1 / len(names)},
    }


def of_styles(study: Study, images: Tensor, pairs: list[Combination]) -> dict[str, Any]:
    """Shares of a right style (among three), a right subject (among all), and both."""
    read, names = study.read(images), study.emoji.names
    target = torch.tensor([pair.word for pair in pairs], device=images.device)
    style = (
        choices(study.retrieval, read, [in_styles(study.emoji, p.subject) for p in pairs], study.tokenizer) == target
    )
    truth = torch.tensor([pair.subject for pair in pairs], device=images.device)
    subject = (read @ study.names.T).argmax(dim=1) == truth
    chance = {"style": 1 / len(STYLES), "subject": 1 / len(names)}
    return {"style": share(style), "subject": share(subject), "both": share(style & subject), "chance": chance}


def in_styles(emoji: EmojiSet, subject: int) -> list[str]:
    return [plain_caption(emoji, subject, style) for style in STYLES]


def order(study: Study) -> None:
    """C29: the same words in another order, from the same noise."""
    emoji, count = study.emoji, max(2, study.pictures // 2)
    first, second = pairs_of_things(emoji, count)
    names = [[emoji.names[i] for i in side.tolist()] for side in (first, second)]
    phrases = [[with_article(name) for name in side] for side in names]
    orders = [[f"{a} and {b}" for a, b in zip(*sides, strict=True)] for sides in (phrases, phrases[::-1])]

    def in_pictures(images: Tensor) -> dict[str, Any]:
        read = study.read(images)
        both = [naming(read, study.names, side) for side in (first, second)]
        return {
            f"named_{k}": {key: found[key] for key in ("top1", "top5")} for k, found in zip(PLACES, both, strict=True)
        }

    def of_two() -> dict[str, Any]:
        a, b, again = study.draw(orders[0]), study.draw(orders[1]), study.draw_again(orders[0])
        return {
            "distance_swapped": mean(picture_distance(study.retrieval, a, b)),
            "distance_other_seed": mean(picture_distance(study.retrieval, a, again)),
            "distance_other_caption": mean(picture_distance(study.retrieval, a, again.roll(1, 0))),
            **in_pictures(a),
        }

    setting = {"of": "two subjects", "caption": orders[0][0]}
    study.add(
        "order", {**setting, "pictures_of": "real"}, lambda: in_pictures(side_by_side_pictures(study, first, second))
    )
    study.add("order", setting, of_two)

    pairs = style_pairs(emoji, count, held_out=False)
    after = [pair.caption for pair in pairs]
    before = [f"{STYLES[pair.word]} style, {emoji.names[pair.subject]}" for pair in pairs]

    def of_style() -> dict[str, Any]:
        a, b, again = study.draw(after), study.draw(before), study.draw_again(after)
        return {
            "distance_swapped": mean(picture_distance(study.retrieval, a, b)),
            "distance_other_seed": mean(picture_distance(study.retrieval, a, again)),
            "style_after": of_styles(study, a, pairs),
            "style_before": of_styles(study, b, pairs),
        }

    study.add("order", {"of": "subject and style", "caption": after[0]}, of_style)

    def of_words() -> dict[str, Any]:
        captions, cuts = leave_one_out(emoji, max(2, study.pictures // 5))
        pictures, other = study.draw(captions), study.draw_again(captions)
        drawn = study.draw([cut.caption for cut in cuts], seeds=[cut.owner for cut in cuts])
        changes = picture_distance(study.retrieval, drawn, pictures[[cut.owner for cut in cuts]])

        def grouped(labels: list[Any]) -> list[dict[str, Any]]:
            return [{"word": one, **mean(changes[[label == one for label in labels]])} for one in sorted(set(labels))]

        return {
            "by_place": grouped([cut.place for cut in cuts]),
            "by_kind": grouped([cut.kind for cut in cuts]),
            "distance_other_seed": mean(picture_distance(study.retrieval, pictures, other)),
            "captions": len(captions),
        }

    study.add("order", {"of": "words left out"}, of_words)


def negative(study: Study) -> None:
    """C30: the negative prompt reduces what it names."""
    emoji, count = study.emoji, max(2, study.pictures // 2)
    subjects, colours = natural_colours(emoji, count)
    captions = [emoji.names[i] for i in subjects.tolist()]
    named = [COLOURS[i] for i in colours.tolist()]

    def of_colour(images: Tensor) -> dict[str, Any]:
        own = colours.to(images.device)
        texts = [[with_article(f"{colour} {caption}") for colour in COLOURS] for caption in captions]
        read = study.read(images)
        return {
            "share_of_pixels": mean(colour_shares(images).gather(1, own[:, None])[:, 0]),
            "read_as_colour": share(choices(study.retrieval, read, texts, study.tokenizer) == own),
            "top1": naming(read, study.names, subjects)["top1"],
        }

    setting = {"of": "colour", "caption": captions[0]}
    study.add("negative", {**setting, "negative": ""}, lambda: of_colour(study.draw(captions)))
    study.add("negative", {**setting, "negative": named[0]}, lambda: of_colour(study.draw(captions, negative=named)))
    shuffled = named[1:] + named[:1]  # another subject's colour, for the effect of any negative prompt
    study.add(
        "negative", {**setting, "negative": "another"}, lambda: of_colour(study.draw(captions, negative=shuffled))
    )

    plain = plain_names(emoji, count)
    texts = [emoji.names[i] for i in plain.tolist()]

    def of_style(images: Tensor) -> dict[str, Any]:
        read = study.read(images)
        chosen = choices(study.retrieval, read, [in_styles(emoji, i) for i in plain.tolist()], study.tokenizer)
        found = {style: share(chosen == k) for k, style in enumerate(STYLES)}
        return {"read_as": found, "top1": naming(read, study.names, plain)["top1"]}

    for style in ("", *STYLES):
        away = None if not style else [f"{style} style"] * len(texts)
        study.add(
            "negative", {"of": "style", "negative": style}, lambda a=away: of_style(study.draw(texts, negative=a))
        )


def side_by_side_pictures(study: Study, first: Tensor, second: Tensor) -> Tensor:
    """Real pictures of the first subject on the left and the second on the right, [n] each, as in training."""
    sides = torch.tensor([[-HALF, 0.0, 0.48, 0.0], [HALF, 0.0, 0.48, 0.0]]).expand(len(first), 2, 4)
    sprite = torch.stack([one_picture_each(study.emoji, subjects) for subjects in (first, second)], dim=1)
    return study.scenes(sprite, place=sides)


def relations(study: Study) -> None:
    """C36: which of two is on the left, and how many there are."""
    emoji, count = study.emoji, max(2, study.pictures // 2)
    first, second = pairs_of_things(emoji, count)
    names = [[emoji.names[i] for i in side.tolist()] for side in (first, second)]

    def of_sides(images: Tensor) -> dict[str, Any]:
        pairs = [list(pair) for pair in zip(*names, strict=True)]
        left, right = (choices(study.retrieval, study.read(half), pairs, study.tokenizer) for half in halves(images))
        a, b = ([with_article(name) for name in side] for side in names)
        said = [[f"{x} left of {y}", f"{x} right of {y}"] for x, y in zip(a, b, strict=True)]
        whole = study.read(images)
        places = [naming(whole, study.names, side)["top5"] for side in (first, second)]
        return {
            "by_halves": share((left == 0) & (right == 1)),
            "by_halves_reversed": share((left == 1) & (right == 0)),
            "by_caption": share(choices(study.retrieval, whole, said, study.tokenizer) == 0),
            "first_in_top5": places[0],
            "second_in_top5": places[1],
            "chance": {"by_halves": 0.25, "by_caption": 0.5},
        }

    captions = [f"{with_article(a)} left of {with_article(b)}" for a, b in zip(*names, strict=True)]
    setting = {"of": "sides", "caption": captions[0]}
    study.add(
        "relations", {**setting, "pictures_of": "real"}, lambda: of_sides(side_by_side_pictures(study, first, second))
    )
    study.add("relations", setting, lambda: of_sides(study.draw(captions)))

    things = counts(emoji, count)
    said = [[with_article(name), *(f"{NUMBERS[n]} {plural(name)}" for n in (2, 3))] for name in things.names]

    def of_counts(images: Tensor, number: int) -> dict[str, Any]:
        read = study.read(images)
        chosen = choices(study.retrieval, read, said, study.tokenizer)
        found = {str(n): share(chosen == n - 1) for n in (1, 2, 3)}
        subject = naming(read, study.words([f"{NUMBERS[number]} {plural(n)}" for n in emoji.names]), things.subjects)
        return {"correct": found[str(number)], "read_as": found, "top1": subject["top1"], "chance": 1 / 3}

    for number in (2, 3):
        setting = {"of": "counts", "caption": said[0][number - 1]}
        pictures = things.real(study.scenes, one_picture_each(emoji, things.subjects), number)
        study.add("relations", {**setting, "pictures_of": "real"}, lambda p=pictures, n=number: of_counts(p, n))
        texts = [row[number - 1] for row in said]
        study.add("relations", setting, lambda t=texts, n=number: of_counts(study.draw(t), n))


def autoencoder(study: Study) -> None:
    """Emoji on white, encoded to the mean and decoded."""
    emoji = study.emoji
    for split, mask in (("train", ~emoji.held_out), ("held_out", emoji.held_out)):

        def measure(mask: Tensor = mask) -> dict[str, Any]:
            chosen = spread(mask.nonzero().flatten(), study.pictures)
            images, given = on_white(study.sprites[chosen]), []
            for part in images.split(study.arguments.batch):
                given.append(study.model.decode(study.model.encode(part)))
            given = torch.cat(given)
            return {
                "psnr": mean(psnr(images, given)),
                "ssim": mean(ssim(images, given)),
                "top1_before": naming(study.read(images), study.names, emoji.subject[chosen])["top1"],
                "top1_after": naming(study.read(given), study.names, emoji.subject[chosen])["top1"],
            }

        study.add("autoencoder", {"split": split}, measure)


def steps(study: Study) -> None:
    """Plain names by every sampler, in few and in many steps."""
    emoji = study.emoji
    subjects = plain_names(emoji, max(2, study.pictures // 2))
    captions = [emoji.names[i] for i in subjects.tolist()]

    def measures(images: Tensor) -> dict[str, Any]:
        return {**naming(study.read(images), study.names, subjects), **look(images)}

    for sampler in SAMPLERS:
        for count in STEP_COUNTS:
            study.add(
                "steps",
                {"sampler": sampler, "num_inference_steps": count},
                lambda s=sampler, n=count: measures(study.draw(captions, sampler=s, num_inference_steps=n)),
            )


def speed(study: Study) -> None:
    """Seconds on the CPU, the candidates in turn: medians of --repeats rounds, including decoding."""
    if study.device.type != "cpu":
        raise ValueError("speed is measured on the CPU: leave --device out.")
    model = study.model
    latents = torch.zeros(1, *model.latent_shape())
    settings = {"guidance_scale": study.arguments.scale}
    candidates = {
        "one picture, 30 steps": lambda: model.sample("a blue cat", num_inference_steps=30, **settings),
        "four pictures, 30 steps": lambda: model.sample(
            "a blue cat", seed=[0, 1, 2, 3], num_inference_steps=30, **settings
        ),
        "one picture, 8 steps": lambda: model.sample("a blue cat", num_inference_steps=8, **settings),
        "decode one": lambda: model.decode(latents),
        "decode four": lambda: model.decode(latents.expand(4, -1, -1, -1)),
        "encode the text": lambda: model.encode_text("a blue cat", negative="red"),
    }

    def measure() -> dict[str, Any]:
        taken = side_by_side(candidates, study.arguments.repeats)
        found = {
            name: {"median": statistics.median(each), "least": min(each), "rounds": len(each)}
            for name, each in taken.items()
        }
        return {"taken": found, "parameters": model.parameters()}

    study.add("speed", {"device": "cpu", "threads": torch.get_num_threads()}, measure)


PARTS = {
    "real": real,
    "guidance": guidance,
    "composition": composition,
    "autoencoder": autoencoder,
    "order": order,
    "negative": negative,
    "relations": relations,
    "steps": steps,
    "speed": speed,
}


# -- printing ------------------------------------------------------------------------------------------------


def brief(row: dict[str, Any]) -> str:
    """The shares, means and other single numbers of a row, in one line."""
    found = []
    for name, value in row.items():
        if isinstance(value, dict) and "share" in value:
            found.append(f"{name} {value['share']:.1%} ± {value['error']:.1%}")
        elif isinstance(value, dict) and "mean" in value:
            found.append(f"{name} {value['mean']:.3g} ± {value['error']:.2g}")
        elif isinstance(value, dict) and "median" in value:
            found.append(f"{name} {value['median']:.3g} s")
        elif isinstance(value, dict) and name not in ("setting", "chance", "parameters"):
            found.append(f"{name} ({brief(value)})")
        elif name in ("frechet_distance", "saturation", "clipped"):
            found.append(f"{name} {value:.3g}")
    return ", ".join(found)


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows as markdown."""
    cells = [
        [row["part"], row["model"], ", ".join(f"{k} {v}" for k, v in row["setting"].items()), brief(row)]
        for row in rows
    ]
    return table(["part", "model", "setting", "measured"], cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="the parts to measure [all except speed]")
    parser.add_argument("--model", default="micro", help='a folder in diffusers\' format, or "micro", the shipped one')
    parser.add_argument("--name", default="micro", help="the model's name in the rows")
    parser.add_argument("--retrieval", type=Path, default=WEIGHTS, help="the weights of the retrieval network")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pictures", type=int, help="per setting [512 on a GPU, 16 on a CPU]")
    parser.add_argument("--batch", type=int, help="pictures per batch [512 on a GPU, 16 on a CPU]")
    parser.add_argument("--scale", type=float, default=SCALE, help="of guidance, where it is not varied")
    parser.add_argument(
        "--sample", action="store_true", help="use only the emoji that ship with the package, for a rehearsal"
    )
    parser.add_argument("--threads", type=int, help="of a CPU")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of speed")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which no new row is measured")
    parser.add_argument("--out", type=Path, default=MEASURED, help="the folder of micro.json")
    arguments = parser.parse_args()
    tried(parser, check_folder, arguments.out)
    on_gpu = torch.device(arguments.device).type == "cuda"
    arguments.pictures = arguments.pictures or (512 if on_gpu else 16)
    arguments.batch = arguments.batch or (512 if on_gpu else 16)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    study = Study(arguments)
    for part in arguments.parts or [name for name in PARTS if name != "speed"]:
        study.say(part)
        PARTS[part](study)
    print(as_table(study.rows))
    for missing in study.left_out:
        study.say(f"left out, the budget is used up: {missing}")


if __name__ == "__main__":
    main()
