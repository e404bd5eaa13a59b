"""The parts of a single file: its tensors under diffusers' names, in networks of the published configurations.

diffusers' own converters rename and split the tensors (`diffusers.loaders.single_file_utils`). They drop what they do
not know, so here the values are counted: every one of the file must arrive, every one of the network must be there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_explained.extras import extra
from diffusion_explained.stable_diffusion.clip_vocabulary import clip_tokenizer
from diffusion_explained.stable_diffusion.families import REFINER, XL
from diffusion_explained.stable_diffusion.headers import tensors_of
from diffusion_explained.stable_diffusion.listing import T5
from diffusion_explained.stable_diffusion.single_files import PLACES
from diffusion_explained.stable_diffusion.weights import FileWeights, Weights

PADS = {
    "sd1": {"tokenizer": "<|endoftext|>"},
    "sd2": {"tokenizer": "!"},
    "sdxl": {"tokenizer": "<|endoftext|>", "tokenizer_2": "!"},
    REFINER: {"tokenizer_2": "!"},
    "sd3": {"tokenizer": "<|endoftext|>", "tokenizer_2": "!"},
}
# tensors of a part that its network has no use for: numbers of old libraries, and CLIP's projection where the model of
# Stable Diffusion 3 leaves it out
UNUSED = re.compile(r"(position_ids|logit_scale)$|\.loss\.|clip_l\.transformer\.text_projection\.weight$")


def tokenizers_of(weights: FileWeights) -> dict[str, Any]:
    """CLIP's tokenizers, one for each of the file's CLIPs."""
    assert weights.identity is not None
    return {name: clip_tokenizer(pad) for name, pad in PADS[weights.identity.layout].items()}


def part_of_file(weights: FileWeights, part: str, found: Any, dtype: torch.dtype) -> tuple[nn.Module, dict[str, Any]]:
    """(A part of a single file, and what does not fit, as the libraries report it), with its weights in this dtype."""
    assert weights.identity is not None
    layout = weights.identity.layout
    tensors = tensors_of(weights.file, PLACES[layout][part])
    config = weights.configuration(part)
    module = _empty(found, config)
    ignored = set(_utils().SD_2_TEXT_ENCODER_KEYS_TO_IGNORE) if layout == "sd2" else set()
    tensors = {name: x for name, x in tensors.items() if name not in ignored and not UNUSED.search(name)}
    given = sum(x.numel() for x in tensors.values())
    if part == "unet":
        converted = _utils().convert_ldm_unet_checkpoint(tensors, config)
    elif part == "vae":
        converted = _utils().convert_ldm_vae_checkpoint(tensors, config)
    elif part == "transformer":
        convert = "convert_sd3_transformer_checkpoint_to_diffusers" if layout == "sd3" else (
            "convert_flux_transformer_checkpoint_to_diffusers"
        )  # fmt: skip
        converted = getattr(_utils(), convert)(tensors)
    elif part == T5 or (layout == "flux" and part == "text_encoder_2"):
        converted = _utils().convert_sd3_t5_checkpoint_to_diffusers(tensors)
    elif layout == "sd2" or (layout in XL and part == "text_encoder_2"):
        converted = _utils().convert_open_clip_checkpoint(module, tensors, prefix=PLACES[layout][part][0])
    else:
        converted = _utils().convert_ldm_clip_checkpoint(tensors, PLACES[layout][part][0])
    lost = given - sum(x.numel() for x in converted.values())
    if layout == "sd3" and part == "text_encoder":  # as diffusers does: the model was trained without the projection
        converted["text_projection.weight"] = torch.eye(config["projection_dim"], device="cpu", dtype=torch.float32)
    report = _fill(module, converted, dtype, found)
    if lost:
        report["unexpected_keys"] = [*report["unexpected_keys"], f"{lost:,} values"]
    return module, report


def vae_of_file(weights: Weights, found: Any, dtype: torch.dtype) -> tuple[nn.Module, dict[str, Any]]:
    """(The autoencoder of a file of its own, in the first program's names or in diffusers', and what does not fit.)"""
    assert weights.vae is not None
    tensors, config = tensors_of(weights.vae), weights.configuration("vae")
    module = _empty(found, config)
    if "decoder.conv_norm_out.weight" in tensors:  # in diffusers' names
        return module, _fill(module, tensors, dtype, found)
    tensors = {name: x for name, x in tensors.items() if not UNUSED.search(f".{name}") and "model_ema." not in name}
    given = sum(x.numel() for x in tensors.values())
    converted = _utils().convert_ldm_vae_checkpoint(tensors, config)
    report = _fill(module, converted, dtype, found)
    if lost := given - sum(x.numel() for x in converted.values()):
        report["unexpected_keys"] = [*report["unexpected_keys"], f"{lost:,} values"]
    return module, report


def _utils() -> Any:
    with extra("sd"):
        from diffusers.loaders import single_file_utils
    return single_file_utils


def _empty(found: Any, config: Mapping[str, Any]) -> Any:
    """A network without weights, whose other buffers are computed."""
    with extra("sd"):
        from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        if hasattr(found, "config_class"):  # of transformers
            return found(found.config_class(**config))
        return found.from_config(config)


def _fill(module: Any, tensors: dict[str, Tensor], dtype: torch.dtype, found: Any) -> dict[str, Any]:
    """Put tensors into a network in this dtype; what does not fit, as transformers and diffusers report it."""
    if not hasattr(module, "text_model"):  # transformers from 5.6.0 on
        tensors = {name.removeprefix("text_model."): x for name, x in tensors.items()}
    expected = module.state_dict()
    kept = {"wo"} if dtype == torch.float16 and "wo" in (getattr(found, "_keep_in_fp32_modules", None) or ()) else set()
    shared = _tied(expected, tensors)
    report = {
        "missing_keys": [name for name in expected if name not in tensors and name not in shared],
        "unexpected_keys": [name for name in tensors if name not in expected],
        "mismatched_keys": [n for n, x in tensors.items() if n in expected and x.shape != expected[n].shape],
    }
    if not any(report.values()):
        tensors = {**tensors, **{name: tensors[of] for name, of in shared.items()}}
        as_asked = {
            name: x.to(torch.float32 if kept & set(name.split(".")) else dtype) if x.is_floating_point() else x
            for name, x in tensors.items()
        }
        module.load_state_dict(as_asked, strict=True, assign=True)
        module.eval()
    return report


def _tied(expected: Iterable[str], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """T5 has its embedding under two names, and files hold one of them: {the missing name: the other one}."""
    pairs = (("encoder.embed_tokens.weight", "shared.weight"), ("shared.weight", "encoder.embed_tokens.weight"))
    return {a: b for a, b in pairs if a in expected and a not in tensors and b in tensors}
