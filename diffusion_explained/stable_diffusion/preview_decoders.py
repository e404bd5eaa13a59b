"""TAESD: a decoder of 1.2 M weights that draws the picture of each step in a moment (O. Boer Bohan 2023, MIT licence).

    z -> 3 tanh(z / 3) -> conv, relu -> (3 blocks, twice as large, conv) x 3 -> block, conv -> picture
    a block: y = relu(conv(relu(conv(relu(conv(x))))) + x)

It was trained to draw what the model's own decoder draws, so it belongs to one kind of latents:

| latents of           | its name | channels |
|----------------------|----------|----------|
| Stable Diffusion 1.x, 2.x | taesd   | 4  |
| Stable Diffusion XL       | taesdxl | 4  |
| Stable Diffusion 3, 3.5   | taesd3  | 16 |
| FLUX.1                    | taef1   | 16 |

Two layouts are read; nothing but the decoder is. What the files do not say is told by the shapes of their tensors.

| layout                                  | names of its tensors                               |
|-----------------------------------------|----------------------------------------------------|
| taesd_decoder.safetensors, its author's | n.weight, n.conv.k.weight; 0 is 3 tanh(z / 3)      |
| AutoencoderTiny of diffusers, a folder  | decoder.layers.(n-1).weight, and those of encoding |
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from diffusion_explained.devices import torch_defaults
from diffusion_explained.messages import shortened
from diffusion_explained.stable_diffusion.configurations import check_preview_decoder
from diffusion_explained.stable_diffusion.families import MICRO_TITLE, Family
from diffusion_explained.stable_diffusion.headers import Header, tensors_of
from diffusion_explained.stable_diffusion.listing import WeightsUnavailableError, read_json
from diffusion_explained.stable_diffusion.weights import cached_folder, is_repository, single_file

MADE_FOR = {"sd": ("taesd", 4), "sdxl": ("taesdxl", 4), "sd3": ("taesd3", 16), "flux": ("taef1", 16)}
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
OF_DIFFUSERS = "decoder.layers."
OF_AUTHOR = ("taesd_decoder.", "decoder.", "")  # what stands before n in files with both halves, and in its own
MOST_LAYERS, ENLARGED = 64, 3  # three times twice as large: 8 pixels per latent


class Clamp(nn.Module):
    """3 tanh(z / 3)."""

    def forward(self, z: Tensor) -> Tensor:
        """Latents [B, C, h, w] to the same shape, within (-3, 3)."""
        return 3 * torch.tanh(z / 3)


class Block(nn.Module):
    """relu(conv(relu(conv(relu(conv(x))))) + x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        convs = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), convs[2])

    def forward(self, x: Tensor) -> Tensor:
        """x [B, width, h, w] to the same shape."""
        return nn.functional.relu(self.conv(x) + x)


@dataclass(frozen=True)
class PreviewDecoder:
    """name: of its file or folder; layers: the decoder, from latents to a picture in [0, 1]."""

    name: str
    layers: nn.Sequential

    @torch_defaults()
    @torch.no_grad()
    def __call__(self, latents: Tensor) -> Tensor:
        """Latents [B, C, h, w] as pictures [B, 3, 8h, 8w], float32 in [-1, 1]."""
        first = next(self.layers.parameters())
        return (self.layers(latents.to(first)).float() * 2 - 1).clamp(-1, 1)


def read_preview_decoder(
    path: str | os.PathLike[str], family: Family, latents: Mapping[str, object], dtype: torch.dtype,
    device: torch.device,
) -> PreviewDecoder:  # fmt: skip
    """Read a TAESD for a family of models: a .safetensors file, a folder, or a name in the hub's cache.

    latents: the configuration of the model's own autoencoder.

    Raises ValueError for a file with something else, or one that was made for other latents; OSError for one that is
    damaged; WeightsUnavailableError for one that is not here.
    """
    file = _found(os.fspath(path))
    made_for, channels = MADE_FOR.get(family.name, ("", 0))
    if not made_for or family.title == MICRO_TITLE or latents.get("latents_mean") is not None:
        raise ValueError(
            f"There is no preview decoder for the latents of {family.title}: leave preview_decoder out. There are for "
            "Stable Diffusion 1.x, 2.x, XL, 3, 3.5 and FLUX.1."
        )
    named = kind_of(file)
    if named not in ("", made_for):
        raise ValueError(f"{path} is {named}, and the latents of {family.title} need {made_for}.")
    tensors = _decoder(tensors_of(file))
    layers = _layers(tensors, f"{path} is no TAESD")
    given = tensors["1.weight"].shape[1]
    if given != channels:
        raise ValueError(f"{path} reads latents of {given} channels, and those of {family.title} have {channels}.")
    layers.load_state_dict(tensors, strict=True)
    return PreviewDecoder(Path(path).stem, layers.to(device, dtype).eval().requires_grad_(False))


def _found(name: str) -> Path:
    """The file of a TAESD. Errors as for `read_preview_decoder`."""
    folder = Path(name).expanduser()
    if not folder.exists() and is_repository(name) and folder.suffix != ".safetensors":
        cached = cached_folder(name, CONFIG)
        if cached is None:
            raise WeightsUnavailableError(
                f"{name} is not on this machine. Run once with a network:\n    hf download {name} --include "
                f'"*.json" "*.safetensors"\nor give a .safetensors file.'
            )
        folder = cached
    file = folder / WEIGHTS if folder.is_dir() else single_file(name, "preview decoder")
    if not file.is_file():
        raise WeightsUnavailableError(f"{name} holds no {WEIGHTS}: give the file of a TAESD, or its whole folder.")
    if (file.parent / CONFIG).is_file() and file.name == WEIGHTS:
        try:
            check_preview_decoder(read_json(file.parent / CONFIG))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return file


def kind_of(file: Path) -> str:
    """The one of `MADE_FOR` that a file's name or the names of its folders say, the nearest first; or "" for none."""
    for part in (file.stem, *(folder.name for folder in file.parents)):
        if said := re.search(r"tae(sdxl|sd3|sd|f\d)", part.lower()):
            return said[0]
    return ""


def is_preview_decoder(header: Header) -> bool:
    """Whether a file holds a TAESD, by the names of its tensors."""
    return any(f"{begin}3.conv.0.weight" in header.shapes for begin in (*OF_AUTHOR, OF_DIFFUSERS))


def _decoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The decoder's tensors, under its author's names."""
    if any(name.startswith(OF_DIFFUSERS) for name in tensors):
        of_decoder = {n.removeprefix(OF_DIFFUSERS): x for n, x in tensors.items() if n.startswith(OF_DIFFUSERS)}
        return {re.sub(r"^\d+", lambda found: str(int(found[0][:4]) + 1), n): x for n, x in of_decoder.items()}
    begin = next((begin for begin in OF_AUTHOR if f"{begin}1.weight" in tensors), "")
    return {n.removeprefix(begin): x for n, x in tensors.items() if n.startswith(begin)}


def _layers(tensors: Mapping[str, Tensor], no: str) -> nn.Sequential:
    """The layers that the tensors describe: a number without tensors enlarges. Raises ValueError, which begins `no`."""
    numbers = {int(found[0]) for name in tensors if (found := re.match(r"\d{1,2}(?=\.)", name))}
    if 1 not in numbers or max(numbers) > MOST_LAYERS or any(x.ndim not in (1, 4) for x in tensors.values()):
        raise ValueError(f"{no}: it holds {', '.join(map(shortened, list(tensors)[:3])) or 'no tensors'}.")
    layers: list[nn.Module] = [Clamp(), _conv(tensors, 1), nn.ReLU()]
    for n in range(3, max(numbers) + 1):
        if f"{n}.conv.0.weight" in tensors:
            layers.append(Block(len(tensors[f"{n}.conv.0.weight"])))
        else:
            layers.append(_conv(tensors, n) if f"{n}.weight" in tensors else nn.Upsample(scale_factor=2))
    made = nn.Sequential(*layers)
    expected = {name: x.shape for name, x in made.state_dict().items()}
    given = {name: x.shape for name, x in tensors.items()}
    wrong = [name for name in {**expected, **given} if expected.get(name) != given.get(name)]
    if wrong:
        raise ValueError(f"{no}: {len(wrong)} of its tensors have no place, or another shape ({shortened(wrong[0])}).")
    if sum(isinstance(layer, nn.Upsample) for layer in layers) != ENLARGED or given.get(f"{max(numbers)}.weight", ())[
        :1
    ] != (3,):
        raise ValueError(f"{no}: its pictures are not 8 times as large as the latents, in 3 colours.")
    return made


def _conv(tensors: Mapping[str, Tensor], n: int) -> nn.Conv2d:
    out, into = tensors[f"{n}.weight"].shape[:2]
    return nn.Conv2d(into, out, 3, padding=1, bias=f"{n}.bias" in tensors)
