"""The scenes that the U-Net is trained on: latents and token ids, encoded once and kept in the device's memory.

Encoding a picture costs about as much as a training step on its latents, so each scene is drawn and encoded once, and
used several times, each time with other noise at another level. A scene takes 2 KB.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from diffusion_explained.checks import check_finite
from diffusion_explained.files import atomic_path
from diffusion_explained.micro.emoji import EmojiSet
from diffusion_explained.micro.networks import LATENT_CHANNELS, PIXELS, SIDE
from diffusion_explained.micro.scene_stream import CaptionedBatches
from diffusion_explained.micro.scenes import SceneSampler, draw_scenes
from diffusion_explained.micro.tokens import MAX_LENGTH, encode
from diffusion_explained.weight_files import fingerprint, read_tensors


@dataclass(frozen=True)
class EncodedScenes:
    """latents fp16 [N, 4, 16, 16], of unit variance; tokens int16 [N, L]; empty int16 [L], the empty caption.

    made_from: the settings and inputs that they were made from; a file with other ones is not used again.
    """

    latents: Tensor
    tokens: Tensor
    empty: Tensor
    made_from: dict[str, Any]

    def __len__(self) -> int:
        return len(self.latents)

    def to(self, device: torch.device | str) -> EncodedScenes:
        """Copy the scenes to a device."""
        return EncodedScenes(self.latents.to(device), self.tokens.to(device), self.empty.to(device), self.made_from)


@torch.no_grad()
def encode_scenes(
    vae: Any,
    tokenizer: Any,
    emoji: EmojiSet,
    count: int,
    *,
    split: str = "train",
    seed: int = 0,
    batch_size: int = 512,
    workers: int = 0,
    file: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EncodedScenes:
    """Draw and encode the scenes 0 .. count - 1, on the device of the autoencoder.

    latents = mean * scaling_factor

    Args:
        workers: the number of processes that compose scenes; 0 for this process.
        file: a .safetensors file; it is read if it exists, otherwise written.
        progress: called with (scenes done, scenes in all).

    Raises ValueError for a file of other scenes or of another autoencoder, OSError for a damaged one.
    """
    if count < 1:
        raise ValueError(f"Give one scene or more to encode, not {count}.")
    first = next(vae.parameters())
    made_from = {
        "scenes": count,
        "split": split,
        "seed": seed,
        "emoji": len(emoji),
        "autoencoder": fingerprint("", {name: t.cpu().float() for name, t in vae.state_dict().items()}),
        "tokens": len(tokenizer),
    }
    if file is not None and file.is_file():
        return read_scenes(file, made_from).to(first.device)
    images = emoji.images.to(first.device)
    batches = CaptionedBatches(SceneSampler(emoji, split, seed), batch_size, tokenizer)
    latents, tokens, done = [], [], 0
    for scenes, ids in batches.stream(0, -(-count // batch_size), workers):
        x = draw_scenes(scenes, images).to(first.dtype)
        latents.append((vae.encode(x).latent_dist.mean.float() * vae.config.scaling_factor).half())
        check_finite(latents[-1], "latents", "the autoencoder's weights are broken: train or copy it again")
        tokens.append(ids.to(torch.int16))
        done += len(x)
        if progress is not None:
            progress(min(done, count), count)
    encoded = EncodedScenes(
        torch.cat(latents)[:count],
        torch.cat(tokens)[:count].to(first.device),
        encode(tokenizer, [""])[0].to(first.device, torch.int16),
        made_from,
    )
    if file is not None:
        write_scenes(file, encoded)
    return encoded


def write_scenes(file: Path, encoded: EncodedScenes) -> None:
    """Write encoded scenes to a file, whole or not at all."""
    tensors = {name: getattr(encoded, name).cpu().contiguous() for name in ("latents", "tokens", "empty")}
    with atomic_path(file) as part:
        save_file(tensors, part, metadata={"made_from": json.dumps(encoded.made_from)})


def read_scenes(file: Path, made_from: dict[str, Any]) -> EncodedScenes:
    """Read a file that `write_scenes` wrote.

    Raises ValueError if it was made from other settings than `made_from`, OSError if it is damaged.
    """
    try:
        stored, words = read_tensors(file, "file of scenes")
        found = json.loads(words["made_from"])
        latents, tokens, empty = (stored[name] for name in ("latents", "tokens", "empty"))
    except (KeyError, ValueError, RecursionError) as error:
        raise OSError(f"{file} is damaged, or holds no encoded scenes: {error!r}. Remove it.") from error
    if not isinstance(found, dict):
        raise OSError(f"{file} is damaged: it does not say what its scenes were made from. Remove it.")
    if not bool(latents.isfinite().all()):
        raise OSError(f"{file} is damaged: its latents hold NaN or infinity. Remove it.")
    differing = sorted(key for key in made_from.keys() | found.keys() if made_from.get(key) != found.get(key))
    if differing:
        raise ValueError(
            f"{file} holds scenes that were encoded with other settings: {', '.join(differing)} differ. "
            f"Give another file, or remove this one to encode the scenes again."
        )
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "latents": ((found["scenes"], LATENT_CHANNELS, SIDE // PIXELS, SIDE // PIXELS), torch.float16),
        "tokens": ((found["scenes"], *empty.shape), torch.int16),
        "empty": ((MAX_LENGTH,), torch.int16),
    }
    for (name, (shape, dtype)), tensor in zip(shapes.items(), (latents, tokens, empty), strict=True):
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise OSError(f"{file} is damaged: its {name} are {list(tensor.shape)} of {tensor.dtype}. Remove it.")
    ids = torch.cat([tokens.flatten(), empty])
    if int(ids.min()) < 0 or int(ids.max()) >= found["tokens"]:
        raise OSError(f"{file} is damaged: it holds tokens that the tokenizer does not have. Remove it.")
    return EncodedScenes(latents, tokens, empty, found)
