"""How much memory a model takes, before anything of it is loaded: its weights exactly, a run's activations estimated.

The weights are counted in the headers of the files (a few kilobytes are read), in the type in which they are loaded.
Activations are the tensors of one network evaluation, or of one decoding, that are alive at the same time, in values:

| part                             | values                     | E: batch size, twice it for a guided one        |
|----------------------------------|----------------------------|-------------------------------------------------|
| U-Net, attention from level 1 on | 26 E C h w                 | C: channels of level 1; h, w: side of latents   |
| U-Net, attention from level 2 on | 16 E C h w                 | (Stable Diffusion XL)                           |
| transformer                      | 18 E D (h w / p^2 + 512)   | D: width; p: latents per token side; 512: texts |
| decoder                          | 6 B c H W                  | c: channels of its last level; H, W: pixels     |

The factors are the largest sums of living tensors of the published configurations on torch's meta device
(`benchmarks/memory.py`), with attention that keeps no matrix of N x N. `SPARE` times that many are expected on a GPU,
which also needs room for its convolutions: a run of Stable Diffusion 1.5 took 0.6 GiB for one picture and 2.0 GiB for
four on an H200 (`benchmarks/stable_diffusion.py`), 1.6 and 1.3 times its decoding. The convolutions of a tile need more
beside it, `SPARE_OF_A_TILE`: 1.78 times its decoding for Stable Diffusion XL (`benchmarks/large_models.py memory`).

    all on the device     peak = weights of all parts + the larger of evaluation and decoding
    offload               peak = autoencoder + safety checker + the largest of (network + evaluation), decoding, and
                          text encoder: the autoencoder stays where it is between two decodings
    decoded in parts      B = 1 (slicing), and H, W at most a tile's, 512 pixels (tiling)
    float8                the weights of the network's layers take 1 byte each, and are computed with in the run's type
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diffusion_explained.checks import named_options, typed_arguments, whole
from diffusion_explained.devices import choose_device
from diffusion_explained.messages import shortened, unknown_name
from diffusion_explained.stable_diffusion.defaults import OFF, defaults_of_weights
from diffusion_explained.stable_diffusion.families import XL, Family
from diffusion_explained.stable_diffusion.float8 import is_float8
from diffusion_explained.stable_diffusion.latents import TILE, check_size, dtype_of
from diffusion_explained.stable_diffusion.listing import CHECKER, T5
from diffusion_explained.stable_diffusion.memory import NotEnoughMemoryError
from diffusion_explained.stable_diffusion.part_sizes import SIZES, Stored, stored_of, stored_of_module
from diffusion_explained.stable_diffusion.weights import Weights, find_weights

SPARE, SPARE_OF_A_TILE = 1.5, 1.8
UNET, LATER_UNET, TRANSFORMER, DECODER = 26, 16, 18, 6
TEXT_TOKENS = 512
GB = 1e9


# what may be changed so that a model fits, the least change first
CHANGES = ("offload", "in_parts", "dtype", "float8", "t5")
SAID = {"offload": "offload", "in_parts": "decoded in parts", "float8": "weights in float8"}


@dataclass(frozen=True)
class Need:
    """What a model needs on the device in one way to run it, in bytes.

    t5: whether T5 is loaded, None for a model without one; in_parts: slicing and tiling; weights: of each part;
    resident: the most weights that are there at one time; activations: an estimate, None for a network of which none is
    known; peak: of the run.
    """

    dtype: str
    t5: bool | None
    offload: bool
    in_parts: bool
    float8: bool
    weights: Mapping[str, int]
    resident: int
    activations: int | None
    peak: int

    def changes(self, base: Need) -> set[str]:
        """In which of `CHANGES` this way differs from another one."""
        return {name for name in CHANGES if getattr(self, name) != getattr(base, name)}

    @property
    def more(self) -> list[str]:
        """The way in words, but for its dtype and a T5 that is loaded."""
        said = [words for name, words in SAID.items() if getattr(self, name)]
        return [*said, *(["without T5"] if self.t5 is False else [])]

    def __str__(self) -> str:
        return ", ".join([self.dtype, *self.more, *(["with T5"] if self.t5 else [])])


@dataclass(frozen=True)
class Forecast:
    """What a model needs, for pictures of one size: `needs` has every way to run it; printed, it is a table."""

    name: str
    title: str
    height: int
    width: int
    batch_size: int
    needs: tuple[Need, ...]

    def need(
        self,
        dtype: str = "float16",
        *,
        t5: bool | None = None,
        offload: bool = False,
        in_parts: bool = False,
        float8: bool = False,
    ) -> Need:
        """One way to run it; t5=None is with T5 where it is there.

        Raises ValueError for another dtype, or a T5 that is not there.
        """
        wanted = (dtype, offload, in_parts, float8)
        ways = [n for n in self.needs if (n.dtype, n.offload, n.in_parts, n.float8) == wanted and t5 in (None, n.t5)]
        if not ways:
            raise ValueError(f"There is no forecast for {shortened(dtype)} with t5={t5}: {', '.join(SIZES)} are known.")
        return ways[0]

    def fitting(self, room: int, base: Need, allowed: Collection[str] = CHANGES) -> tuple[Need, ...]:
        """The ways to run it in so many bytes, the least changed first; allowed: what may differ from `base`.

        A way is left out if another one fits that changes a part of the same.
        """
        types = {base.dtype} if SIZES[base.dtype] == 2 else {base.dtype, "float16"}
        ways = [n for n in self.needs if n.peak <= room and n.dtype in types and n.changes(base) <= set(allowed)]
        least = [n for n in ways if not any(m.changes(base) < n.changes(base) for m in ways)]

        def order(need: Need) -> tuple[int, int]:
            changed = need.changes(base)
            return len(changed), max((CHANGES.index(name) for name in changed), default=0)

        return tuple(sorted(least, key=order))

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        pictures = f"{self.batch_size} picture{'s'[: self.batch_size > 1]} of {self.width} x {self.height} pixels"
        title = "" if self.title == self.name else f"{self.title}, "
        yield f"{self.name}: {title}{pictures}; in GB (10^9 bytes)"
        yield _row("", list(SIZES))
        usual = [self.need(dtype) for dtype in SIZES]
        for part in usual[0].weights:
            yield _row(part, [need.weights[part] for need in usual])
        yield _row("all weights", [sum(need.weights.values()) for need in usual])
        if usual[0].activations is None:
            yield "The activations of this network are not known: the peaks are of the weights alone."
        else:
            yield _row("activations, estimated", [need.activations for need in usual])
        shown: list[tuple[set[str], list[int]]] = []
        for of in (need for need in self.needs if need.dtype == usual[0].dtype):
            peaks = [
                self.need(dtype, t5=of.t5, offload=of.offload, in_parts=of.in_parts, float8=of.float8).peak
                for dtype in SIZES
            ]
            more = set(of.more)
            if len(more) > 2 or any(before < more and then == peaks for before, then in shown):  # it saves nothing
                continue
            shown.append((more, peaks))
            yield _row(", ".join(["peak", *of.more]), peaks)


def _row(name: str, values: list[Any]) -> str:
    shown = (f"{value / GB:10.2f}" if isinstance(value, int) else f"{value:>10}" for value in values)
    return f"  {name:<44}" + "".join(shown)


@named_options
@typed_arguments
def forecast(
    model: str | os.PathLike[str],
    *,
    height: int | None = None,
    width: int | None = None,
    batch_size: int = 1,
    guidance_scale: float | None = None,
    t5: bool | None = None,
    safety_checker: bool | None = None,
    parts_from: str | os.PathLike[str] | None = None,
    vae: str | os.PathLike[str] | None = None,
    prediction: str | None = None,
) -> Forecast:
    """Forecast the memory of a model on this machine, from the headers of its files; nothing is loaded.

    model, t5, safety_checker, parts_from, vae, prediction: as for `find_weights`; height, width in pixels, and
    guidance_scale: by default the model's own.

    Raises ValueError and WeightsUnavailableError as `find_weights` does, OSError for a file that is damaged.
    """
    weights = find_weights(
        model, t5=t5, safety_checker=safety_checker, parts_from=parts_from, vae=vae, prediction=prediction
    )
    return forecast_of(weights, height=height, width=width, batch_size=batch_size, guidance_scale=guidance_scale)


@named_options
@typed_arguments
def forecast_of(
    weights: Weights,
    *,
    height: int | None = None,
    width: int | None = None,
    batch_size: int = 1,
    guidance_scale: float | None = None,
) -> Forecast:
    """The forecast of weights that `find_weights` found: see `forecast`."""
    usual, family = defaults_of_weights(weights), weights.family
    of_size = usual.size or (512, 512)
    scale = usual.guidance_scale if guidance_scale is None else guidance_scale
    return forecast_of_parts(
        weights.name,
        family,
        {part: stored_of(weights, part) for part in weights.parts},
        {
            part: {"_class_name": weights.classes[part][1], **weights.configuration(part)}
            for part in (family.network, "vae")
        },
        height=of_size[0] if height is None else height,
        width=of_size[1] if width is None else width,
        batch_size=batch_size,
        guided=scale != OFF,
    )


def forecast_of_parts(
    name: str,
    family: Family,
    stored: Mapping[str, Stored],
    configs: Mapping[str, Mapping[str, Any]],
    *,
    height: int,
    width: int,
    batch_size: int,
    guided: bool,
) -> Forecast:
    """The forecast of a model from the values of its parts and the configurations of its network and autoencoder."""
    check_size(height, width, family.multiple)
    whole("batch_size", batch_size, 1)
    network = network_values(family, configs[family.network], height, width, batch_size, guided)
    decoders = [decoder_values(configs["vae"], height, width, batch_size, in_parts=parts) for parts in (False, True)]
    # as `loading.of_pipeline` does; the default is that of diffusers' class
    upcast = family.name in XL and configs["vae"].get(
        "force_upcast", configs["vae"].get("_class_name") == "AutoencoderKL"
    )
    needs = []
    for dtype, with_t5 in product(SIZES, (True, False) if T5 in stored else (None,)):
        of_vae = "float32" if dtype == "float16" and upcast else dtype
        for float8, in_parts, offload in product((False, True), repeat=3):
            weights = {
                part: one.bytes_in(of_vae if part == "vae" else dtype, float8=float8 and part == family.network)
                for part, one in stored.items()
                if with_t5 or part != T5
            }
            known, decoder = None, decoders[in_parts]
            if network is not None and decoder is not None:
                spare = SPARE_OF_A_TILE if in_parts else SPARE
                known = (int(SPARE * network * SIZES[dtype]), int(spare * decoder * SIZES[of_vae]))
            resident, peak = _peak(weights, family.network, known or (0, 0), offload=offload)
            activations = None if known is None else max(known)
            needs.append(Need(dtype, with_t5, offload, in_parts, float8, weights, resident, activations, peak))
    return Forecast(name, family.title, height, width, batch_size, tuple(needs))


def _peak(weights: Mapping[str, int], network: str, known: tuple[int, int], *, offload: bool) -> tuple[int, int]:
    """(The most weights that are on the device at one time, the peak), by the head of this file."""
    evaluation, decoding = known
    if not offload:
        return sum(weights.values()), sum(weights.values()) + max(known)
    stays = weights["vae"] + weights.get(CHECKER, 0)
    texts = max((n for part, n in weights.items() if part.startswith("text_encoder")), default=0)
    return stays + max(weights[network], texts), stays + max(weights[network] + evaluation, decoding, texts)


def network_values(
    family: Family, config: Mapping[str, Any], height: int, width: int, batch_size: int, guided: bool
) -> int | None:
    """The values that are alive at once in an evaluation of the network; None for a network of another kind."""
    evaluated = batch_size * (2 if guided and (family.drive is None or family.drive.scale == "guidance_scale") else 1)
    if family.network == "unet":
        widths = config.get("block_out_channels") or (320,)  # diffusers' default
        begins = (config.get("down_block_types") or ("CrossAttnDownBlock2D",))[0]
        factor = UNET if "Attn" in begins else LATER_UNET
        return factor * evaluated * widths[0] * (height // family.multiple) * (width // family.multiple)
    heads, of_head = config.get("num_attention_heads"), config.get("attention_head_dim")
    d = heads * of_head if heads and of_head else config.get("dim") or config.get("hidden_size")
    if not isinstance(d, int) or (family.drive is not None and family.drive.layout == "video"):
        return None
    tokens = (height // family.multiple) * (width // family.multiple)
    return TRANSFORMER * evaluated * d * (tokens + TEXT_TOKENS)


def decoder_values(
    config: Mapping[str, Any], height: int, width: int, batch_size: int, *, in_parts: bool = False
) -> int | None:
    """The values that are alive at once in a decoding; None for another autoencoder than the usual one.

    in_parts: picture by picture, and in tiles.
    """
    widths = config.get("block_out_channels")
    if in_parts:
        height, width, batch_size = min(height, TILE), min(width, TILE), 1
    return DECODER * batch_size * widths[0] * height * width if widths else None


# -- the device ---------------------------------------------------------------------------------------------


def room_on(device: torch.device) -> int | None:
    """The bytes that are free on a device now; None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    try:  # Linux
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None


def shortage(found: Forecast, need: Need, room: int | None, where: torch.device) -> str:
    """What does not fit, what is there, and what fits instead; empty where the peak fits, or the room is not known."""
    if room is None or need.peak <= room:
        return ""
    run = "" if need.activations is None else (
        f" and about {need.activations / GB:.1f} GB, estimated, for a run of {found.width} x {found.height} pixels"
    )  # fmt: skip
    return (
        f"{found.name} in {need} takes {sum(need.weights.values()) / GB:.1f} GB of weights{run}: at most "
        f"{need.peak / GB:.1f} GB at one time, and the device {where.type} has {room / GB:.1f} GB free. "
        f"{what_fits(found, room, need, where)}"
    )


def possible_on(where: torch.device) -> set[str]:
    """What of `CHANGES` is possible on a device: a CPU has nothing to offload from, and Apple's MPS no float8."""
    return set(CHANGES) - {{"cpu": "offload", "mps": "float8"}.get(where.type, "")}


def what_fits(found: Forecast, room: int, base: Need, where: torch.device) -> str:
    """A sentence with the ways to run a model, changed from `base`, that fit on a device with so much room."""
    ways = found.fitting(room, base, possible_on(where))
    if ways:
        return f"What fits: {'; '.join(f'{way} ({way.peak / GB:.1f} GB)' for way in ways[:3])}."
    least = min(need.resident for need in found.needs)
    if least < room:
        return f"Smaller pictures may fit: the least weights at one time are {least / GB:.1f} GB."
    return f"Nothing of it fits: the least weights at one time are {least / GB:.1f} GB. Choose a smaller model."


def dtype_named(name: str) -> torch.dtype:
    """The floating-point type of this name. Raises ValueError for one that models are not loaded in."""
    if name not in SIZES:
        raise unknown_name("dtype", name, SIZES)
    found: torch.dtype = getattr(torch, name)
    return found


def usual_dtype(device: torch.device) -> torch.dtype:
    """The type in which a model is loaded if no other is asked for."""
    return torch.float16 if device.type == "cuda" else torch.float32


@named_options
@typed_arguments
def shortage_of(
    weights: Weights,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    *,
    offload: bool = False,
    in_parts: bool = False,
    float8: bool = False,
    height: int | None = None,
    width: int | None = None,
    batch_size: int = 1,
    guidance_scale: float | None = None,
) -> str:
    """What a run lacks on this device, and what fits instead, in words; empty where it is expected to fit.

    Arguments as for `load` and `forecast`, in_parts for slicing and tiling; without a device the GPU is asked, or the
    CPU where there is none.
    """
    chosen = choose_device("auto" if device is None else device)
    name = str(usual_dtype(chosen) if dtype is None else dtype).removeprefix("torch.")
    found = forecast_of(weights, height=height, width=width, batch_size=batch_size, guidance_scale=guidance_scale)
    need = found.need(name, offload=offload, in_parts=in_parts, float8=float8)
    return shortage(found, need, room_on(chosen), chosen)


def how_it_fits(found: Forecast | None, device: torch.device) -> str:
    """Whether and how a model's usual run fits on a device, in a few words; empty where nobody knows."""
    room = room_on(device)
    if found is None or room is None:
        return ""
    usual = usual_need(found, device)
    ways = found.fitting(room, usual, possible_on(device))
    if not ways:
        return "does not fit"
    return "fits" if ways[0] is usual else f"fits in {ways[0]}"


def usual_need(found: Forecast, device: torch.device) -> Need:
    """The way in which a model is loaded if nothing is asked for."""
    return found.need(str(usual_dtype(device)).removeprefix("torch."))


def check_room(
    weights: Weights, dtype: torch.dtype, device: torch.device, *, offload: bool = False, float8: bool = False
) -> None:
    """Raise NotEnoughMemoryError if a model's weights alone exceed the free memory of a GPU."""
    name = str(dtype).removeprefix("torch.")
    room = room_on(device) if device.type == "cuda" else None  # elsewhere memory may be lent
    if room is None or name not in SIZES:
        return
    found = forecast_of(weights)
    need = found.need(name, offload=offload, float8=float8)
    if need.resident > room:
        raise NotEnoughMemoryError(f"{shortage(found, need, room, device)} Nothing was loaded.")


def run_in_words(model: Any, height: int, width: int, batch_size: int) -> str:
    """What a run of a loaded model is estimated to take beside its weights, what is free, and what would fit."""
    parts: dict[str, Any] = {n: part for n, part in model.pipe.components.items() if isinstance(part, nn.Module)}
    network, vae = parts[model.family.network], parts["vae"]
    values = (
        network_values(model.family, network.config, height, width, batch_size, guided=True),
        decoder_values(vae.config, height, width, batch_size),
    )
    free = room_on(model.device)
    if None in values or free is None:
        return ""
    dtypes = (dtype_of(network), dtype_of(vae))
    sizes = [int(SPARE * n * one.itemsize) for n, one in zip(values, dtypes, strict=True) if n is not None]
    found = forecast_of_parts(
        model.name,
        model.family,
        {name: stored_of_module(part) for name, part in parts.items()},
        {model.family.network: network.config, "vae": vae.config},
        height=height,
        width=width,
        batch_size=batch_size,
        guided=True,
    )
    here = [x for part in parts.values() for x in part.state_dict().values() if x.device.type == model.device.type]
    ways = {"offload": is_offloaded(model.pipe), "in_parts": vae_in_parts(vae), "float8": is_float8(network)}
    base = found.need(str(dtypes[0]).removeprefix("torch."), **ways)
    fits = what_fits(found, free + sum(x.nbytes for x in here), base, model.device)
    return (
        f"Beside the weights, {batch_size} picture{'s'[: batch_size > 1]} of {width} x {height} pixels take about "
        f"{sizes[0] / GB:.1f} GB for a guided step and {sizes[1] / GB:.1f} GB for decoding (estimated); "
        f"{free / GB:.1f} GB are free on {model.device.type}. {fits} "
    )


def is_offloaded(pipe: Any) -> bool:
    """Whether a pipeline keeps its parts away from the GPU until they compute."""
    return bool(getattr(pipe, "_all_hooks", ()))


def vae_in_parts(vae: Any) -> bool:
    """Whether an autoencoder decodes picture by picture, and in tiles."""
    return bool(getattr(vae, "use_slicing", False) and getattr(vae, "use_tiling", False))
