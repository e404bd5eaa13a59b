"""What the micro model's text encoder knows of a relation, what is drawn from the padding, and what is remembered.

    python benchmarks/micro_text.py binding                                # on a CPU, half a minute
    python benchmarks/micro_text.py copies padding mask --device cuda      # seconds on a GPU
    python benchmarks/micro_text.py copies --sample --prompts 2 --out runs # a trial on a CPU
    python benchmarks/micro_text.py --model WEIGHTS --name before --out runs

    binding   linear probes on the vectors of "a A left of a B": do they hold "left", A, B, and which one is on the left
    padding   the perceptual distance to the picture of the whole prompt when the padding or the words are emptied
              (replaced by the empty prompt's vectors), and when the padding is masked in cross-attention
    mask      how often the name of a thing is recognised in its picture, with the padding attended to, and masked
    copies    for four kinds of prompts, the distance between the pictures of different seeds; where the prompt names
              one thing, the distance to its nearest training picture, and, to compare, the distances of a training
              picture to its own reconstruction by the autoencoder and to the pictures of the same thing in other styles

Rows are added to <out>/micro_text.json. A probe is ridge regression on three quarters of the captions, scored on the
others; the pairs of things differ, the things do not.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from micro import checksum, mean
from micro_captions import colour_pairs, pairs_of_things, plain_names, style_pairs
from places import tried
from side_by_side import machine
from torch import Tensor

from diffusion_explained.files import check_folder
from diffusion_explained.measured import MEASURED, write_measured
from diffusion_explained.micro.emoji import EmojiSet, load_emoji, load_emoji_sample
from diffusion_explained.micro.fidelity import naming, picture_distance
from diffusion_explained.micro.reconstruction import on_white
from diffusion_explained.micro.retrieval import Retrieval, embed_captions, embed_pictures, load_retrieval
from diffusion_explained.micro.subjects import load_subjects
from diffusion_explained.micro.tokens import encode, load_tokenizer
from diffusion_explained.micro.words import with_article
from diffusion_explained.stable_diffusion import find_weights
from diffusion_explained.stable_diffusion.backend import diffusers

STUDY = "micro_text"
CAPTIONS, RIDGE = 6000, 0.1
SEEDS, SCALE, STEPS = 3, 4.0, 30
SPARE = 1000  # the distance between the seeds of two pictures of one prompt
NAMES = 256  # drawn with and without a mask
PROMPTS, VARIANTS = 20, 8  # in `copies`: the prompts of each kind, and the seeds of each prompt


class Networks:
    """Text encoder, U-Net and decoder of a folder, sampled with Euler steps and, if asked, a mask over the padding."""

    def __init__(self, model: str, device: str) -> None:
        from transformers import CLIPTextModel

        folder, dtype = find_weights(model).folder, torch.float32 if device == "cpu" else torch.float16
        kinds = {
            "text_encoder": CLIPTextModel,
            "unet": diffusers().UNet2DConditionModel,
            "vae": diffusers().AutoencoderKL,
        }
        self.text_encoder, self.unet, self.vae = (
            kind.from_pretrained(str(folder / part)).to(device, dtype).eval() for part, kind in kinds.items()
        )
        self.tokenizer, self.device, self.dtype = load_tokenizer(), device, dtype
        self.weights = checksum(*(f for part in sorted(kinds) for f in sorted((folder / part).glob("*.safetensors"))))

    @torch.no_grad()
    def text(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """The vectors of captions [B, L, D], and the place of each end token [B]."""
        ids = encode(self.tokenizer, captions).to(self.device)
        vectors = torch.cat([self.text_encoder(input_ids=part).last_hidden_state for part in ids.split(500)])
        return vectors, (ids == self.tokenizer.eos_token_id).int().argmax(dim=1)

    @torch.no_grad()
    def draw(
        self, captions: list[str], seeds: list[int], *, emptied: str | None = None, masked: bool = False
    ) -> Tensor:
        """Pictures [B, 3, 128, 128]; emptied: "padding" or "words" get the empty prompt's vectors."""
        (said, end), (empty, none) = self.text(captions), self.text([""] * len(captions))
        place = torch.arange(said.shape[1], device=self.device)
        parts = {"padding": place >= end[:, None], "words": (place >= 1) & (place < end[:, None])}
        if emptied is not None:
            said = torch.where(parts[emptied][..., None], empty, said)
        mask = place <= torch.cat([none, end])[:, None] if masked else None
        x = torch.stack([torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(s)) for s in seeds])
        x, text = x.to(self.device), torch.cat([empty, said])
        for i in range(STEPS):
            time = torch.full((2 * len(x),), 1000 * (1 - i / STEPS), device=self.device)
            v = self.unet(
                torch.cat([x, x]).to(self.dtype), time, encoder_hidden_states=text, encoder_attention_mask=mask,
                return_dict=False,
            )[0].float()  # fmt: skip
            without, with_text = v.chunk(2)
            x = x - (without + SCALE * (with_text - without)) / STEPS
        return self.decode(x.to(self.dtype) / self.vae.config.scaling_factor)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Pictures [B, 3, 128, 128] in [-1, 1] of the autoencoder's latents."""
        return self.vae.decode(z).sample.float().clamp(-1, 1)

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, 128, 128], encoded and decoded."""
        return self.decode(self.vae.encode(images.to(self.device, self.dtype)).latent_dist.mean)


def binding(networks: Networks, emoji: EmojiSet) -> list[dict[str, Any]]:
    """For each place of a caption: linear probes for the relation, its things, and the left one."""
    groups = load_subjects()
    names = [n for group in ("animals", "food", "travel", "objects") for n in groups[group] if len(n.split()) <= 2]
    g = torch.Generator().manual_seed(0)
    first = torch.randint(len(names), (CAPTIONS,), generator=g)
    second = (first + torch.randint(1, len(names), (CAPTIONS,), generator=g)) % len(names)
    is_left = torch.randint(2, (CAPTIONS,), generator=g).bool()
    phrases = [with_article(name) for name in names]
    said = [
        f"{phrases[a]} {'left' if is_left[i] else 'right'} of {phrases[b]}"
        for i, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True))
    ]
    (vectors, end), (alone, alone_end) = networks.text(said), networks.text(phrases)
    vectors, end, alone, alone_end = (each.cpu() for each in (vectors.float(), end, alone.float(), alone_end))
    things = alone[torch.arange(len(names)), alone_end]
    things = things - things.mean(0)
    unit, row, word = torch.nn.functional.normalize(things, dim=1), torch.arange(CAPTIONS), alone_end[first]
    padding = (torch.arange(vectors.shape[1]) >= end[:, None])[..., None].float()
    fourth = padding * (torch.arange(vectors.shape[1]) % 4 == 0)[:, None]  # where the second training reads the left
    places = {
        "first noun": vectors[row, word - 1], "left or right": vectors[row, word], "last noun": vectors[row, end - 1],
        "end": vectors[row, end], "padding, mean": (vectors * padding).sum(1) / padding.sum(1),
        "padding, every fourth": (vectors * fourth).sum(1) / fourth.sum(1),
    }  # fmt: skip
    left = torch.where(is_left, first, second)
    right = torch.where(is_left, second, first)
    test = slice(3 * CAPTIONS // 4, None)
    found = []
    for place, x in places.items():
        probe = probes(x, CAPTIONS * 3 // 4)
        sign = probe(is_left[:, None].float() * 2 - 1)[test, 0] > 0
        guess = probe(things[left])
        nearer = (guess * unit[left]).sum(1) > (guess * unit[right]).sum(1)
        known = [
            ((probe(things[thing]) @ unit.T).topk(5).indices == thing[:, None]).any(1)[test]
            for thing in (first, second)
        ]
        found.append(
            {
                "place": place,
                "relation": mean((sign == is_left[test]).float()),
                "left_of_the_two": mean(nearer[test].float()),
                "first_in_top5": mean(known[0].float()),
                "second_in_top5": mean(known[1].float()),
                "chance": {"relation": 0.5, "left_of_the_two": 0.5, "in_top5": 5 / len(names)},
            }
        )
    return found


def probes(x: Tensor, count: int) -> Any:
    """Ridge regression from x [N, D], fitted on the first `count` rows: called with targets [N, K], gives [N, K]."""
    x = torch.cat([x - x[:count].mean(0), torch.ones(len(x), 1)], dim=1)
    gram = x[:count].T @ x[:count] + RIDGE * torch.eye(x.shape[1])
    return lambda y: x @ torch.linalg.solve(gram, x[:count].T @ y[:count])


def padding(networks: Networks, emoji: EmojiSet) -> list[dict[str, Any]]:
    """Distances to the pictures of 20 whole prompts, means over seeds; the error is over prompts."""
    names, (first, second) = emoji.names, pairs_of_things(emoji, 6)
    prompts = [names[i] for i in plain_names(emoji, 8).tolist()]
    prompts += [pair.caption for pair in colour_pairs(emoji, 4, held_out=True)]
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    prompts += [f"{with_article(names[a])} left of {with_article(names[b])}" for a, b in pairs]
    prompts += [pair.caption for pair in style_pairs(emoji, 2, held_out=False)]
    captions = [prompt for prompt in prompts for _ in range(SEEDS)]
    seeds = [seed for _ in prompts for seed in range(SEEDS)]
    retrieval, whole = load_retrieval(device=networks.device), networks.draw(captions, seeds)

    def distance(images: Tensor) -> dict[str, float]:
        return mean(picture_distance(retrieval, whole, images).reshape(len(prompts), SEEDS).mean(1).cpu())

    drawn = {
        "padding emptied": networks.draw(captions, seeds, emptied="padding"),
        "words emptied": networks.draw(captions, seeds, emptied="words"),
        "padding masked": networks.draw(captions, seeds, masked=True),
        "another seed": networks.draw(captions, [seed + SPARE for seed in seeds]),
        "another prompt": whole.roll(SEEDS, 0),
    }
    return [{"change": change, "distance": distance(images), "seeds": SEEDS} for change, images in drawn.items()]


def mask(networks: Networks, emoji: EmojiSet) -> list[dict[str, Any]]:
    """How often a name is recognised in its picture among all names, with and without the mask."""
    subjects, retrieval = plain_names(emoji, NAMES), load_retrieval(device=networks.device)
    captions, words = [emoji.names[i] for i in subjects.tolist()], embed_captions(retrieval, emoji.names)
    found = []
    for masked in (False, True):
        drawn = embed_pictures(retrieval, networks.draw(captions, list(range(len(captions))), masked=masked))
        found.append({"padding": "masked" if masked else "attended to", **naming(drawn, words, subjects)})
    return found


def copies(networks: Networks, emoji: EmojiSet, prompts: int = PROMPTS) -> list[dict[str, Any]]:
    """Distances between the pictures of one prompt, and to training pictures; means over prompts."""
    names, retrieval = emoji.names, load_retrieval(device=networks.device)
    plain, styled = plain_names(emoji, prompts).tolist(), style_pairs(emoji, prompts, held_out=False)
    pairs = zip(*(side.tolist() for side in pairs_of_things(emoji, prompts)), strict=True)
    kinds: dict[str, tuple[list[str], list[int] | None]] = {
        "a thing": ([names[i] for i in plain], plain),
        "a thing in a style": ([pair.caption for pair in styled], [pair.subject for pair in styled]),
        "a thing in a new colour": ([pair.caption for pair in colour_pairs(emoji, prompts, held_out=True)], None),
        "two things": ([f"{with_article(names[a])} left of {with_article(names[b])}" for a, b in pairs], None),
    }
    i, j = torch.triu_indices(VARIANTS, VARIANTS, 1)
    found = []
    for kind, (captions, subjects) in kinds.items():
        seeds = list(range(VARIANTS)) * len(captions)
        drawn = networks.draw([caption for caption in captions for _ in range(VARIANTS)], seeds)
        drawn = drawn.unflatten(0, (len(captions), VARIANTS))
        between = [picture_distance(retrieval, one[i], one[j]).mean() for one in drawn]
        row: dict[str, Any] = {"prompts": kind, "seeds": VARIANTS, "between_seeds": mean(torch.stack(between).cpu())}
        if subjects is not None:
            row |= to_training(networks, retrieval, emoji, subjects, drawn)
        found.append(row)
    return found


def to_training(
    networks: Networks, retrieval: Retrieval, emoji: EmojiSet, subjects: list[int], drawn: Tensor
) -> dict[str, Any]:
    """The distances of drawn pictures [N, V, 3, 128, 128] to training pictures of their subjects [N]."""
    nearest, rebuilt, others = [], [], []
    for subject, pictures in zip(subjects, drawn, strict=True):
        own = on_white(emoji.images[(emoji.subject == subject) & ~emoji.held_out]).to(drawn.device)
        each = [picture_distance(retrieval, pictures, one.expand_as(pictures)) for one in own]
        nearest.append(torch.stack(each).amin(0).mean())
        rebuilt.append(picture_distance(retrieval, own, networks.reconstruct(own)).mean())
        if len(own) > 1:
            i, j = torch.triu_indices(len(own), len(own), 1)
            others.append(picture_distance(retrieval, own[i], own[j]).mean())
    measured = {"nearest_training_picture": nearest, "its_reconstruction": rebuilt, "in_another_style": others}
    return {name: mean(torch.stack(distances).cpu()) for name, distances in measured.items()}


PARTS = {"binding": binding, "padding": padding, "mask": mask, "copies": copies}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS])
    parser.add_argument("--model", default="micro")
    parser.add_argument("--name", default="micro", help="the model's name in the rows")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sample", action="store_true", help="use only the emoji that ship with the package")
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="of each kind in `copies`")
    parser.add_argument("--out", type=Path, default=MEASURED)
    given = parser.parse_args()
    tried(parser, check_folder, given.out)
    parts: dict[str, Callable[..., list[dict[str, Any]]]] = {**PARTS, "copies": partial(copies, prompts=given.prompts)}
    networks, path = Networks(given.model, given.device), given.out / f"{STUDY}.json"
    emoji = load_emoji_sample() if given.sample else None
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    for part in given.parts or PARTS:
        if part != "binding" and emoji is None:
            emoji = load_emoji()
        measured = parts[part](networks, emoji)
        rows = [row for row in rows if (row["part"], row["model"]) != (part, given.name)]
        what = {"part": part, "model": given.name, "weights": networks.weights}
        rows += [{**what, **row, "machine": machine()} for row in measured]
        write_measured(STUDY, {"rows": rows}, given.out)
        for row in measured:
            print({name: value for name, value in row.items() if name != "chance"}, flush=True)


if __name__ == "__main__":
    main()
