"""Train the retrieval network: which pictures and captions of a batch belong together?

    for record in train_retrieval(emoji, tokenizer, "cuda", seconds=40, out=Path("micro_retrieval.safetensors")):
        print(record.step, record.loss)

The symmetric InfoNCE loss of CLIP (Radford et al. 2021, Figure 3), with two changes that drawn scenes allow. A caption
may also fit another picture of the batch; such pairs are left out of the softmax. And each caption has a contrary, the
same caption with one word exchanged ("a red cat" for "a blue cat", right for left), which must fit the picture less
well: without contraries a network could ignore everything but the subject (Yuksekgonul et al. 2023).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.devices import choose_device, hardware, to_channels_last
from diffusion_explained.files import check_file
from diffusion_explained.micro.emoji import STYLES, EmojiSet
from diffusion_explained.micro.fidelity import naming_accuracy
from diffusion_explained.micro.retrieval import Retrieval, save_retrieval
from diffusion_explained.micro.scene_stream import Batches, to_device
from diffusion_explained.micro.scenes import Scenes, SceneSampler, draw_scenes
from diffusion_explained.micro.tokens import encode
from diffusion_explained.micro.words import COLOURS, NUMBERS
from diffusion_explained.models import count_parameters
from diffusion_explained.noise import numpy_stream, seeded
from diffusion_explained.training.checkpoints import resume
from diffusion_explained.training.folder_lock import hold
from diffusion_explained.training.processes import Processes
from diffusion_explained.training.state import TrainingState
from diffusion_explained.training.step import make_step
from diffusion_explained.training.timed import WITHOUT_END, TimedConfig, TimedRecord, train_for
from diffusion_explained.weight_files import fingerprint, round_to_fp16

# groups of words; exchanging a word of a caption for another one of its group makes the caption false
EXCHANGED = (
    COLOURS, STYLES, tuple(NUMBERS.values()), ("left", "right"), ("above", "below"), ("top", "bottom"),
    ("small", "big"), ("little", "large"),
)  # fmt: skip
WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Batch:
    """A batch of B scenes from the worker processes: the scenes, and the token ids [B, L] of captions and contraries.

    has_contrary [B]: whether a word could be exchanged. also_fits [B, B]: whether caption i also fits picture j.
    """

    scenes: Scenes
    tokens: Tensor
    contraries: Tensor
    has_contrary: Tensor
    also_fits: Tensor


@dataclass(frozen=True)
class ContrastBatches(Batches[Batch]):
    """The training batches: batch n is a pure function of n, and holds everything that the loss needs."""

    tokenizer: Any

    def made_of(self, scenes: Scenes, n: int) -> Batch:
        """The scenes, the token ids of their captions, and a contrary of each caption."""
        random = numpy_stream(self.sampler.seed, n)
        contraries = [contrary(caption, random) for caption in scenes.captions]
        return Batch(
            scenes,
            encode(self.tokenizer, scenes.captions),
            encode(self.tokenizer, contraries),
            torch.tensor(
                [a != b for a, b in zip(contraries, scenes.captions, strict=True)], dtype=torch.bool, device="cpu"
            ),
            also_fits(scenes, self.sampler.emoji.subject),
        )


def contrary(caption: str, random: np.random.Generator) -> str:
    """A caption made false by exchanging one word for another of its group; unchanged if it has no such word.

    >>> contrary("a cat left of a dog", np.random.default_rng(0))
    'a cat right of a dog'
    """
    found = [(word, group) for word in WORD.finditer(caption) for group in EXCHANGED if word[0] in group]
    if not found:
        return caption
    word, group = found[random.integers(len(found))]
    others = [other for other in group if other != word[0]]
    return f"{caption[: word.start()]}{others[random.integers(len(others))]}{caption[word.end() :]}"


def also_fits(scenes: Scenes, subject: Tensor) -> Tensor:
    """bool [B, B]: whether caption i also counts as true for picture j, j not i.

    It does if both scenes show the same subjects in the same colours, and, if the caption names a style, in the same
    style. Positions are not compared, so a few pairs whose caption is in fact false are left out too.
    """
    named = torch.tensor(
        [any(style in caption for style in STYLES) for caption in scenes.captions], dtype=torch.bool, device="cpu"
    )
    by_subject = same_rows(torch.where(scenes.sprite < 0, -1, subject[scenes.sprite]), scenes.colour)
    by_sprite = same_rows(scenes.sprite, scenes.colour)
    return torch.where(named[:, None], by_sprite, by_subject) & ~torch.eye(len(named), dtype=torch.bool, device="cpu")


def same_rows(things: Tensor, colour: Tensor) -> Tensor:
    """bool [B, B]: whether rows i and j of things [B, S] (-1: none) are the same, with the same colour [B, S]."""
    keys = torch.where(things < 0, -1, things * (len(COLOURS) + 1) + colour + 1).sort(dim=1).values
    return (keys[:, None] == keys[None]).all(dim=2)


def contrastive_loss(
    pictures: Tensor, captions: Tensor, contraries: Tensor, has_contrary: Tensor, also_fits: Tensor, scale: Tensor
) -> Tensor:
    """The symmetric InfoNCE loss [] of unit vectors [B, D], with contraries where has_contrary [B] is true.

        (CE(s t x^T) + CE([s x t^T, s x . t'])) / 2,   x, t, t' the vectors of pictures, captions and contraries

    has_contrary [B]: which contraries count. also_fits [B, B]: the pairs of caption i and picture j that are left out
    of both softmaxes.
    """
    target = torch.arange(len(pictures), device=pictures.device, dtype=torch.int64)
    logits = (scale * captions @ pictures.T).masked_fill(also_fits, -torch.inf)
    against = (scale * (pictures * contraries).sum(1)).masked_fill(~has_contrary, -torch.inf)
    of_pictures = torch.cat([logits.T, against[:, None]], dim=1)
    return (F.cross_entropy(logits, target) + F.cross_entropy(of_pictures, target)) / 2


def soften(x: Tensor, chosen: Tensor) -> Tensor:
    """Blur the chosen [B] of pictures [B, C, H, W] to half their resolution: decoded pictures are less sharp too."""
    soft = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    return torch.where(chosen[:, None, None, None], soft, x)


@named_options
@typed_arguments
def train_retrieval(
    emoji: EmojiSet,
    tokenizer: Any,
    device: torch.device | str = "cpu",
    *,
    out: Path,
    seconds: float | None = None,
    images: int | None = None,
    batch_size: int = 512,
    learning_rate: float = 1e-3,
    workers: int = 0,
    seed: int = 0,
    network: Mapping[str, Any] | None = None,
    record_every: int = 20,
    checkpoint_every: int = 1000,
) -> Iterator[TimedRecord]:
    """Train a retrieval network on drawn scenes for `seconds` or `images`, and write it with its card to `out`.

    Args:
        out: the weight file; checkpoints are kept beside it, and the same call resumes from them.
        workers: the number of processes that compose scenes, 0 for this process; it changes only the speed.
        network: options of `Retrieval`, for instance for a smaller network.

    Raises ValueError for impossible settings, and what `train_for` and `folder_lock.hold` raise.
    """
    check_file(out, "")
    config = TimedConfig(
        images=WITHOUT_END if images is None else images, seconds=seconds, batch_size=batch_size,
        learning_rate=learning_rate, weight_decay=0.05, betas=(0.9, 0.98), seed=seed, channels_last=True,
    )  # fmt: skip
    device = choose_device(device)
    made = seeded(seed, lambda: Retrieval(len(tokenizer), tokenizer.eos_token_id, **(network or {})))
    to_channels_last(made)
    state = TrainingState.new(made.to(device).train(), config)
    description = {
        "network": made.config,
        "training": asdict(config),
        "data": fingerprint("", {"images": emoji.images, "subject": emoji.subject}),
    }
    checkpoints = out.parent / f"{out.stem}_checkpoints"
    with hold(checkpoints):
        resume(state, description, checkpoints)
        sprites = emoji.images.to(device)
        feed = ContrastBatches(SceneSampler(emoji, "train", seed), batch_size, tokenizer)
        stream = feed.stream(state.step, config.num_steps - state.step, workers)

        def batches() -> list[Tensor]:
            batch = next(stream)
            chosen = torch.rand(batch_size, generator=state.generator, dtype=torch.float32, device="cpu") < 0.5
            x = soften(draw_scenes(batch.scenes, sprites), to_device(chosen, device))
            x = x.contiguous(memory_format=torch.channels_last)
            texts = (batch.tokens, batch.contraries, batch.has_contrary, batch.also_fits)
            return [x, *(to_device(part, device) for part in texts)]

        def loss(x: Tensor, tokens: Tensor, contraries: Tensor, has_contrary: Tensor, also_fits: Tensor) -> Tensor:
            pictures = made.embed_images(x)
            captions, contraries = made.embed_tokens(torch.cat([tokens, contraries])).chunk(2)
            with torch.autocast(device.type, enabled=False):  # the vectors are compared as exactly as they are given
                return contrastive_loss(pictures, captions, contraries, has_contrary, also_fits, made.scale)

        step = make_step(loss, state, config, Processes.here(device, batch_size))
        yield from train_for(
            step, state, config, batches, description,
            record_every=record_every, checkpoints=checkpoints, checkpoint_every=checkpoint_every,
        )  # fmt: skip
        retrieval = state.ema
        round_to_fp16(retrieval)
        accuracy = naming_accuracy(retrieval, emoji, tokenizer)
        card = {
            "task": "retrieval",
            "training": asdict(config),
            "data": f"{len(emoji):,} emoji of {len(emoji.names):,} subjects, {int(emoji.held_out.sum()):,} held out",
            "images_seen": state.step * batch_size,
            "seconds": round(state.seconds),
            "hardware": hardware(device),
            "torch": torch.__version__,
            "parameters": count_parameters(retrieval),
            "accuracy": accuracy,
        }
        save_retrieval(out, retrieval, card)
