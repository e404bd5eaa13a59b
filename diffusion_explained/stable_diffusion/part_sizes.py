"""How many values the parts of a model have, by the headers of its files; nothing is loaded.

The count is that of the parts once they are loaded: without tensors that are tied to others, or left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields

from torch import nn

from diffusion_explained.stable_diffusion.checkpoints import UNUSED
from diffusion_explained.stable_diffusion.float8 import KEPT
from diffusion_explained.stable_diffusion.headers import BYTES, Header, read_header
from diffusion_explained.stable_diffusion.single_files import PLACES
from diffusion_explained.stable_diffusion.weights import FileWeights, Weights

SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}  # bytes of a value
# tensors of a file that its network does not load: tied to another one, or of a half that is left out
TIED = ("encoder.embed_tokens.weight", "shared.weight")
OTHER_HALF = re.compile(r"^(decoder|lm_head)\.")
OF_SD2 = re.compile(r"model\.transformer\.resblocks\.23\.|model\.text_projection$")
IN_FLOAT32 = {"T5EncoderModel": re.compile(r"(^|\.)wo\."), "UMT5EncoderModel": re.compile(r"(^|\.)wo\.")}  # of float16


@dataclass(frozen=True)
class Stored:
    """The values of a part: floating-point ones, those of them that stay float32 in float16, and bytes of others.

    in_layers: the floating-point ones in the weights of linear layers and convolutions, which float8 stores in 8 bits.
    """

    floats: int
    in_float32: int = 0
    other_bytes: int = 0
    in_layers: int = 0

    def bytes_in(self, dtype: str, *, float8: bool = False) -> int:
        """The bytes that the part takes when it is loaded in this dtype; float8: with its layers' weights in 8 bits."""
        kept = self.in_float32 if dtype == "float16" else 0
        whole = (self.floats - kept) * SIZES[dtype] + kept * SIZES["float32"] + self.other_bytes
        return whole - self.in_layers * (SIZES[dtype] - 1) if float8 else whole

    def __add__(self, other: Stored) -> Stored:
        return Stored(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


NOTHING = Stored(0)


def stored_of(weights: Weights, part: str) -> Stored:
    """What a part's files hold of it, by their headers."""
    if part == "vae" and weights.vae is not None:
        header = read_header(weights.vae)
        return _count(header, [n for n in header.shapes if not UNUSED.search(f".{n}") and "model_ema." not in n])
    if isinstance(weights, FileWeights):
        assert weights.identity is not None
        if part not in weights.identity.held:
            assert weights.others is not None
            return stored_of(weights.others, part)
        return _of_file(weights, part)
    return sum(
        (_of_part(read_header(file), *weights.classes[part]) for file in weights.files(part, half=False)), NOTHING
    )


def stored_of_module(part: nn.Module) -> Stored:
    """The same of a part that is loaded."""
    stored = part.state_dict().keys()
    tensors = [(n, x) for of in (part.named_parameters(), part.named_buffers()) for n, x in of if n in stored]
    kept = IN_FLOAT32.get(type(part).__name__)
    floats = {name: x.numel() for name, x in tensors if x.is_floating_point()}
    return Stored(
        sum(floats.values()),
        sum(count for name, count in floats.items() if kept is not None and kept.search(name)),
        sum(x.nbytes for _, x in tensors if not x.is_floating_point()),
        sum(
            layer.weight.numel()
            for name, layer in part.named_modules()
            if isinstance(layer, nn.Linear | nn.Conv2d) and not KEPT.search(name)
        ),
    )


def _of_part(header: Header, library: str, called: str) -> Stored:
    """The values of one file of a part in diffusers' format."""
    names = [name for name in header.shapes if not name.endswith("position_ids")]
    if library == "transformers" and called.endswith("Model"):
        names = [name for name in names if not OTHER_HALF.match(name)]
    return _count(header, _untied(names), IN_FLOAT32.get(called))


def _untied(names: Iterable[str]) -> list[str]:
    names = set(names)
    return [name for name in names if name != TIED[0] or TIED[1] not in names]


def _of_file(weights: FileWeights, part: str) -> Stored:
    """The values of a part of a single file, as `checkpoints` reads them."""
    assert weights.identity is not None
    header, layout = read_header(weights.file), weights.identity.layout
    places = PLACES[layout][part]
    names = [name for name in header.shapes if name.startswith(places) and not UNUSED.search(name)]
    if layout == "sd2":
        names = [name for name in names if not OF_SD2.search(name)]
    called = weights.classes[part][1]
    short = {name.removeprefix(places[0]): name for name in names}
    found = _count(header, [short[name] for name in _untied(short)], IN_FLOAT32.get(called))
    if layout == "sd3" and part == "text_encoder":  # its projection is the identity, and in no file
        return found + Stored(int(weights.configuration(part)["projection_dim"]) ** 2)
    return found


def _count(header: Header, names: list[str], kept: re.Pattern[str] | None = None) -> Stored:
    floats = in_float32 = others = in_layers = 0
    for name in names:
        values, kind = math.prod(header.shapes[name]), header.types[name]
        if "F" not in kind:
            others += values * BYTES.get(kind, 8)
            continue
        floats += values
        in_float32 += values if kept is not None and kept.search(name) else 0
        if name.endswith(".weight") and len(header.shapes[name]) > 1 and not KEPT.search(name):
            in_layers += values
    return Stored(floats, in_float32, others, in_layers)
