"""A LoRA: a small change of a model's weights, added to them and taken away again.

    W' = W + s (alpha / r) B A        Hu et al. 2021 (Sec. 4.1): A [r, in], B [out, r]; s is the caller's scale

Files come in two kinds of names, and both are read here:

| written by           | a layer of the network                              | its two factors        | alpha      |
|----------------------|-----------------------------------------------------|------------------------|------------|
| diffusers, peft      | unet.down_blocks.0...to_q, text_encoder...          | lora_A, lora_B, or     | notes, r   |
|                      |                                                     | lora.down, lora.up     |            |
| kohya's sd-scripts   | lora_unet_down_blocks_0_..., lora_te_..., for XL     | lora_down, lora_up     | .alpha     |
|                      | lora_unet_input_blocks_4_1_..., lora_te1_, lora_te2_ |                        |            |

Every tensor of a file must belong to a layer of the model and have its shape; else the file is refused whole. The sum
is computed in float32 and rounded to the model's type once; the weights before it are kept, so that unloading is exact.

A LoRA that was trained here (`micro.lora`) notes the weights of its base, and any others are refused.

diffusers' load_lora_weights and fuse_lora (0.42.1, peft 0.21.2) give the same weights, to the bit for files of
diffusers; of kohya's files they leave out q, k and v of the text encoders (transformers 5.23), which are added here.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_explained.checks import number
from diffusion_explained.messages import shortened
from diffusion_explained.stable_diffusion.float8 import FLOAT8
from diffusion_explained.stable_diffusion.headers import Header, read_header, tensors_of
from diffusion_explained.stable_diffusion.weights import single_file
from diffusion_explained.weight_files import fingerprint

Layer = nn.Linear | nn.Conv2d
MOST_SCALE = 100
FILE = "pytorch_lora_weights.safetensors"  # diffusers' name of the file in a LoRA's folder
BASE = "diffusion_explained.base"  # the note in a file that says on which weights it was trained (`identity`)
PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
# the endings of the two factors' names, A first, and what an attention processor of old files calls a layer
FACTORS = (("lora_A.weight", "lora_B.weight"), ("lora.down.weight", "lora.up.weight"),
           ("lora_down.weight", "lora_up.weight"), ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight"),
           ("lora_A.default.weight", "lora_B.default.weight"))  # fmt: skip
OLD = re.compile(r"\.processor\.to_(q|k|v|out)_lora\.(down|up)\.weight$")
KOHYA = {"lora_unet": ("unet", "transformer"), "lora_te": ("text_encoder",), "lora_te1": ("text_encoder",),
         "lora_te2": ("text_encoder_2",), "lora_te3": ("text_encoder_3",)}  # fmt: skip
RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}  # fmt: skip
ALONE = {"conv_in": "input_blocks.0.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
         "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
         "add_embedding.linear_2": "label_emb.0.2"}  # fmt: skip
OF_TRAINING = ("init_lora_weights", "inference_mode", "fan_in_fan_out", "base_model_name_or_path", "lora_dropout")
SETTINGS = {
    "r",
    "lora_alpha",
    "alpha_pattern",
    "rank_pattern",
    "target_modules",
    "peft_type",
    "task_type",
    "use_rslora",
}


@dataclass(frozen=True)
class Change:
    """One layer's change: B A of up [out, r] and down [r, in] (a convolution's have more dimensions), times factor."""

    layer: Layer
    down: Tensor
    up: Tensor
    factor: float

    def of(self, scale: float) -> Tensor:
        """s (alpha / r) B A in float32, in the shape of the layer's weight."""
        both = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return (scale * self.factor * both).reshape(self.layer.weight.shape)


@dataclass
class Adapters:
    """The LoRAs that a model has now, by name, with their scales; and the weights that it had before the first one."""

    changes: dict[str, tuple[float, list[Change]]] = field(default_factory=dict)
    before: dict[Layer, Tensor] = field(default_factory=dict)

    def add(self, name: str, scale: float, changes: list[Change]) -> None:
        """Add a LoRA to the weights."""
        self.changes[name] = (scale, changes)
        self._put()

    def remove(self, name: str | None) -> None:
        """Take one LoRA away, or all: the weights are those of before, to the bit, plus the LoRAs that stay."""
        if name is None:
            self.changes.clear()
        else:
            del self.changes[name]
        self._put()

    @torch.no_grad()
    def _put(self) -> None:
        for layer, weight in self.before.items():
            layer.weight.copy_(weight)
        sums: dict[Layer, Any] = {}
        for scale, changes in self.changes.values():
            for change in changes:
                sums[change.layer] = sums.get(change.layer, 0.0) + change.of(scale)
        for layer, total in sums.items():
            weight = layer.weight
            if layer not in self.before:
                self.before[layer] = weight.detach().to("cpu", copy=True)
            weight.copy_(self.before[layer].float() + total)
        for layer in [layer for layer in self.before if layer not in sums]:
            del self.before[layer]


def lora_file(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """The file of a LoRA, given itself or in a folder as diffusers and `diffusion-explained lora` write it; its name.

    Raises ValueError for a pickled file, WeightsUnavailableError for one that does not exist.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        return single_file(str(place / FILE), "LoRA"), place.resolve().name
    return single_file(os.fspath(path), "LoRA"), place.stem


def identity(network: nn.Module, before: Mapping[Layer, Tensor]) -> str:
    """The start of the SHA-256 of a network's weights, rounded to fp16, as they were before any LoRA (`Adapters`).

    before: for each layer that a LoRA has changed, its weight as it was, [out, in] or [out, in, height, width].
    """
    weights = {name: x.detach() for name, x in network.state_dict().items()}
    for name, layer in network.named_modules():
        if layer in before:
            weights[f"{name}.weight"] = before[layer]
    return fingerprint("", {name: x.to("cpu", torch.float16) for name, x in weights.items()})[:16]


def read_lora(file: Path, pipe: Any, title: str, before: Mapping[Layer, Tensor]) -> list[Change]:
    """The changes that a LoRA's file asks for in a pipeline of diffusers.

    title: the model's family, for messages; before: the weights that the loaded LoRAs have changed, as they were, each
    [out, in] or [out, in, height, width].

    Raises ValueError for a file with layers that the model does not have, or that was trained here on other weights,
    which names both models; and for other kinds of adapters (LoHa, LoKr, DoRA).
    """
    header = read_header(file)
    pairs, alphas, strange = _pairs(tensors_of(file))
    if strange or not pairs:
        named = ", ".join(map(shortened, strange[:3]))
        what = f"{len(strange)} of its tensors are no factors of one: {named}" if strange else "it has no tensors"
        raise ValueError(
            f"{file} is no supported LoRA ({what}): those of diffusers and of kohya's scripts are, and not LoHa, "
            "LoKr, DoRA."
        )
    layers = _layers(pipe)
    places = {name: layers.get(name.removeprefix("base_model.model.")) for name in pairs}
    lacking = [name for name, layer in places.items() if layer is None]
    if lacking:
        _refuse(file, header, title, f"{len(lacking)} of its {len(pairs)} layers are not in this model "
                f"({', '.join(map(shortened, lacking[:2]))})")  # fmt: skip
    settings, changes = _settings(file, header), []
    for name, (down, up) in pairs.items():
        layer = places[name]
        assert layer is not None
        weight = layer.weight
        out, r, into = len(up), len(down), down[0].numel()
        if (out, into) != (len(weight), weight[0].numel()) or up[0].numel() != r:
            here = f"{weight[0].numel()} and {len(weight)} here"
            _refuse(file, header, title, f"{shortened(name)} has {into} inputs and {out} outputs, and {here}")
        if weight.dtype == FLOAT8:
            raise ValueError(
                f"{file}: a LoRA changes weights by less than float8 rounds them. Load the model without float8."
            )
        changes.append(Change(layer, down, up, _factor(name, r, alphas, settings)))
    base = header.notes.get(BASE)
    if base is not None and pipe.unet.dtype != torch.bfloat16:  # bfloat16 has rounded the weights
        own = identity(pipe.unet, before)
        if own != base:
            _refuse(file, header, title, f"its U-Net's weights are {own}")
    return changes


def _refuse(file: Path, header: Header, title: str, why: str) -> None:
    own = made_for(header)
    raise ValueError(f"{file} is a LoRA for {own}, and this model is {title}: {why}. Load it into its own model.")


def is_lora(header: Header) -> bool:
    """Whether a file holds the factors of a LoRA, by the names of its tensors."""
    endings = tuple(ending for pair in FACTORS for ending in pair)
    return any(name.endswith(endings) or OLD.search(name) for name in header.shapes)


def made_for(header: Header) -> str:
    """The model that a LoRA was made for, by its notes or the width of the texts that it reads."""
    noted = header.notes.get("ss_base_model_version") or header.notes.get("modelspec.architecture")
    if noted:
        return shortened(noted)
    widths = {
        math.prod(shape[1:])
        for name, shape in header.shapes.items()
        if re.search(r"attn2[._](processor[._])?to_k", name) and re.search(r"lora_A|down\.weight", name)
    }
    titles = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}
    if any("joint_blocks" in name or name.startswith("transformer.transformer_blocks") for name in header.shapes):
        return "Stable Diffusion 3, FLUX.1 or another transformer"
    if any("double_blocks" in name or "single_transformer_blocks" in name for name in header.shapes):
        return "FLUX.1"
    known = [titles[width] for width in widths if width in titles]
    return known[0] if len(known) == 1 else "another model"


def _pairs(tensors: Mapping[str, Tensor]) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, float], list[str]]:
    """({layer: (A, B)}, {layer: alpha}, the tensors that are neither)."""
    halves: dict[str, dict[int, Tensor]] = {}
    alphas, strange = {}, []
    for name, x in tensors.items():
        name = OLD.sub(lambda found: f".to_{found[1]}{'.0' * (found[1] == 'out')}.lora.{found[2]}.weight", name)
        ending = next(((k, end) for ends in FACTORS for k, end in enumerate(ends) if name.endswith("." + end)), None)
        if ending is not None and x.ndim in (2, 4) and x.is_floating_point():
            halves.setdefault(name.removesuffix("." + ending[1]), {})[ending[0]] = x
        elif name.endswith(".alpha") and x.numel() == 1:
            alphas[name.removesuffix(".alpha")] = float(x)
        else:
            strange.append(name)
    strange += [name for name, both in halves.items() if len(both) != 2]
    strange += [name for name in alphas if name not in halves]
    return {name: (both[0], both[1]) for name, both in halves.items() if len(both) == 2}, alphas, strange


def _settings(file: Path, header: Header) -> dict[str, Any]:
    """What diffusers notes about a LoRA, {"unet.lora_alpha": 8, ...}. Raises ValueError for settings not known here."""
    try:
        noted = json.loads(header.notes.get("lora_adapter_metadata", "{}"))
        items = dict(noted).items()
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} has notes about its LoRA that cannot be read: copy or download it again.") from error
    for key, value in items:
        name = key.rpartition(".")[2]
        if name not in SETTINGS and value not in (None, False, [], {}, "none", 0, 0.0):
            if name in OF_TRAINING:
                continue
            raise ValueError(f"{file} sets {shortened(key)} to {shortened(value)}, which is not supported.")
    return dict(items)


def _factor(name: str, r: int, alphas: Mapping[str, float], settings: Mapping[str, Any]) -> float:
    """alpha / r; alpha is r where a file says nothing, as in diffusers."""
    if name in alphas:
        return alphas[name] / r
    part, _, inner = name.partition(".")
    alpha = settings.get(f"{part}.lora_alpha", r)
    for pattern, own in (settings.get(f"{part}.alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", inner):
            alpha = own
    return alpha / (math.sqrt(r) if settings.get(f"{part}.use_rslora") else r)


def _layers(pipe: Any) -> dict[str, Layer]:
    """The layers of a pipeline that a LoRA may change, by each name that files have for them."""
    found: dict[str, Layer] = {}
    for part in PARTS:
        network = getattr(pipe, part, None)
        if not isinstance(network, nn.Module):
            continue
        places = {n: m for n, m in network.named_modules() if isinstance(m, Layer)}
        if part.startswith("text"):  # transformers from 5.6.0 on has no text_model in front, and files have it
            places |= {f"text_model.{n}": m for n, m in places.items() if not n.startswith("text_model.")}
        found |= {f"{part}.{n}": m for n, m in places.items()}
        if part == "unet":
            places |= {first: places[n] for first, n in _first_names(network, places).items()}
        for beginning in (key for key, parts in KOHYA.items() if part in parts):
            found |= {f"{beginning}_{n.replace('.', '_')}": m for n, m in places.items()}
    return found


def _first_names(unet: Any, places: Mapping[str, Layer]) -> dict[str, str]:
    """{a layer's name in the first program (input_blocks.4.1...): its name in diffusers} for a U-Net."""
    n, blocks = unet.config.layers_per_block, len(unet.config.block_out_channels)
    if not isinstance(n, int):
        return {}
    begins = {**ALONE, "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
              "mid_block.resnets.1": "middle_block.2"}  # fmt: skip
    for i in range(blocks):
        for j in range(n):
            begins[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{(n + 1) * i + j + 1}.0"
            begins[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{(n + 1) * i + j + 1}.1"
        begins[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{(n + 1) * (i + 1)}.0.op"
        for j in range(n + 1):
            begins[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{(n + 1) * i + j}.0"
            begins[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{(n + 1) * i + j}.1"
        attends = any(place.startswith(f"up_blocks.{i}.attentions.") for place in places)
        begins[f"up_blocks.{i}.upsamplers.0"] = f"output_blocks.{(n + 1) * i + n}.{2 if attends else 1}"
    found = {}
    for place in places:
        theirs = next((one for one in begins if place == one or place.startswith(one + ".")), None)
        if theirs is None:
            continue
        rest = place.removeprefix(theirs).removeprefix(".")
        inner = RESNET.get(rest, rest) if ".resnets." in theirs else rest
        found[f"{begins[theirs]}.{inner}".rstrip(".")] = place
    return found


def check_scale(scale: float) -> float:
    """A LoRA's scale. Raises ValueError for one that is no number from -100 to 100."""
    return number("scale", scale, f"a number from -{MOST_SCALE} to {MOST_SCALE}", -MOST_SCALE, MOST_SCALE)
