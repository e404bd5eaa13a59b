"""Load each part of a pipeline with its own class, and check what the library reports about it.

diffusers and transformers load the tensors whose names match and leave the others random, or on no device, without an
error. Here a tensor that is missing, of another shape, or left over is an error.
"""

from __future__ import annotations

import codecs
import dataclasses
import importlib
import inspect
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from diffusion_explained.messages import shortened
from diffusion_explained.stable_diffusion.backend import diffusers
from diffusion_explained.stable_diffusion.checkpoints import part_of_file, tokenizers_of, vae_of_file
from diffusion_explained.stable_diffusion.listing import CHECKER, read_json
from diffusion_explained.stable_diffusion.memory import NotEnoughMemoryError, enough_memory
from diffusion_explained.stable_diffusion.tokenizer_rules import check_tokenizers
from diffusion_explained.stable_diffusion.weights import FileWeights, Weights

# tensors of old files that a newer library computes itself
HARMLESS = ("position_ids", "decoder.", "lm_head.", "encoder.embed_tokens.weight", "relative_attention_bias.weight")
TEXTS = ("*.json", "*/*.json", "*/*.txt")
TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
ROOM = 1_000_000  # how many values a part may have beyond those in its files: computed ones, which are not stored


def load_pipeline(weights: Weights, dtype: torch.dtype) -> Any:
    """Load diffusers' pipeline on the CPU, with all weights from the files.

    Raises ValueError for files that do not match their networks or are damaged, OSError for files that cannot be read.
    """
    if isinstance(weights, FileWeights):
        return _of_file(weights, dtype)
    with _without_marks(weights) as weights:
        return _assembled(weights, dtype)


def _of_file(weights: FileWeights, dtype: torch.dtype) -> Any:
    """The pipeline of a single file; parts and tokenizers that it has not come from `weights.others`."""
    assert weights.identity is not None
    library, others = diffusers(), weights.others
    parts = {part: load_part(weights, part, dtype, half=False) for part in weights.parts}
    scheduler = weights.configuration("scheduler")
    parts["scheduler"] = getattr(library, scheduler["_class_name"]).from_config(scheduler)
    options: dict[str, Any] = {key: value for key, value in weights.index().items() if isinstance(value, bool)}
    options |= {part: None for part in weights.left_out}
    if weights.family.name == "sd":
        options |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = getattr(library, weights.pipeline)
    if others is None:
        return pipeline(**parts, **tokenizers_of(weights), **options)

    def assemble() -> Any:
        return pipeline.from_pretrained(others.folder, local_files_only=True, **parts, **options)

    pipe = _in_words(weights, "its tokenizers", assemble)
    if weights.family.drive is None:
        check_tokenizers(pipe, weights.family.name, f"{others.name} ({others.folder})", partial(_in_words, others))
    return pipe


def _assembled(weights: Weights, dtype: torch.dtype) -> Any:
    library, drive = diffusers(), weights.family.drive
    if lacking := [name for name in drive.needs if find_spec(name) is None] if drive else []:
        raise ValueError(
            f"{weights.family.title} needs the package {', '.join(lacking)}, which is not installed here: "
            f"pip install {' '.join(lacking)}."
        )
    half = weights.wants_float16(dtype == torch.float32)
    parts = {part: load_part(weights, part, dtype, half) for part in weights.parts}
    options: dict[str, Any] = {part: None for part in weights.left_out}
    if weights.family.name == "sd" and CHECKER not in weights.parts:
        options["requires_safety_checker"] = False

    def assemble() -> Any:
        pipeline = getattr(library, weights.pipeline if drive is None else weights.family.pipelines[0])
        return pipeline.from_pretrained(weights.folder, local_files_only=True, **parts, **options)

    pipe = _in_words(weights, "its scheduler and tokenizers", assemble)
    if drive is None:
        check_tokenizers(pipe, weights.family.name, f"{weights.name} ({weights.folder})", partial(_in_words, weights))
    return pipe


@contextmanager
def _without_marks(weights: Weights) -> Iterator[Weights]:
    """The weights; if a text file of theirs begins with a byte-order mark, in a folder of links without such marks.

    Windows' editors write the mark, this package reads it, and diffusers and transformers refuse it.
    """
    texts = [file for pattern in TEXTS for file in weights.folder.glob(pattern)]
    marked = [file for file in texts if _begin_of(file) == codecs.BOM_UTF8]
    if not marked:
        yield weights
        return
    with tempfile.TemporaryDirectory(prefix="diffusion_explained_") as temporary:
        folder = Path(temporary)
        for part in ("", *weights.classes, *TOKENIZERS, "scheduler", "feature_extractor"):
            for file in (weights.folder / part).glob("*"):
                if file.is_file():
                    _link(file, folder / part / file.name, marked=file in marked)
        try:
            yield dataclasses.replace(weights, folder=folder)
        except (OSError, ValueError) as error:  # name the user's folder instead
            raise type(error)(str(error).replace(temporary, str(weights.folder))) from error


def _begin_of(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(len(codecs.BOM_UTF8))


def _link(file: Path, to: Path, *, marked: bool) -> None:
    """Link to a file or, where links are not allowed, copy it; a file that begins with a mark is copied without it."""
    to.parent.mkdir(exist_ok=True)
    if marked:
        to.write_bytes(file.read_bytes().removeprefix(codecs.BOM_UTF8))
        return
    try:
        os.symlink(file.resolve(), to)
    except OSError:
        shutil.copyfile(file, to)


def load_part(weights: Weights, part: str, dtype: torch.dtype, half: bool) -> Any:
    """Load one part, a module of diffusers or transformers, with all its weights from the files."""
    found = _class_of(*weights.classes[part])
    if part == "vae" and weights.vae is not None:
        module, report = _in_words(weights, part, lambda: vae_of_file(weights, found, dtype))
        _check_report(weights, f"{part} ({weights.vae})", report)
        return module
    if isinstance(weights, FileWeights):
        single = weights
        if single.identity is not None and part in single.identity.held:
            module, report = _in_words(weights, part, lambda: part_of_file(single, part, found, dtype))
            _check_report(weights, part, report)
            return module
        assert weights.others is not None
        return load_part(weights.others, part, dtype, weights.others.wants_float16(dtype == torch.float32))
    files = weights.files(part, half)
    folder = weights.folder / part
    if weights.family.drive is not None:
        _check_keys(weights, part, found)
    if part != CHECKER:
        _check_size(weights, part, found, _in_words(weights, part, lambda: _stored(files)))

    # transformers otherwise refuses tensors of another shape without naming them; the report names them
    named = {"ignore_mismatched_sizes": True} if weights.classes[part][0] == "transformers" else {}

    def load() -> tuple[nn.Module, Mapping[str, Any]]:
        return found.from_pretrained(
            folder,
            dtype=dtype,
            variant="fp16" if any(".fp16" in file.name for file in files) else None,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **named,
        )

    module, report = _in_words(weights, part, load)
    _check_report(weights, part, report)
    return module


def _class_of(library: str, name: str) -> Any:
    if library in ("diffusers", "transformers"):
        return getattr(importlib.import_module(library), name)
    return getattr(importlib.import_module(f"diffusers.pipelines.{library}"), name)  # the safety checker's


def _in_words(weights: Weights, what: str, call: Any) -> Any:
    """Return what the call returns; report its errors in a short message, except those of too little memory."""
    try:
        with enough_memory(f"loading {what} of {weights.name}"):
            return call()
    except (NotEnoughMemoryError, MemoryError):
        raise
    except Exception as error:  # both libraries let errors of many types through
        lines = [line.strip() for line in str(error).strip().split("\n")]
        several = 2 if lines[0].endswith(":") else 1  # the validators of huggingface_hub begin with a heading
        first = " ".join(lines[:several])[:300] or type(error).__name__
        kind = OSError if isinstance(error, (OSError, SafetensorError)) else ValueError
        raise kind(
            f"{what} of {weights.name} cannot be loaded from {weights.folder}: {first} "
            "The files are damaged, or belong to another model: copy or download them again."
        ) from error


def _stored(files: Iterable[Any]) -> int:
    """The number of values in safetensors files, according to their headers."""
    count = 0
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - not a dict
                shape, values = tensors.get_slice(key).get_shape(), 1
                for side in shape:
                    values *= side
                count += values
    return count


def _check_keys(weights: Weights, part: str, found: Any) -> None:
    """Raise ValueError for a key that is set in a part's configuration, but that its class in diffusers ignores."""
    if weights.classes[part][0] != "diffusers":
        return
    config = read_json(weights.folder / part / "config.json")
    known = set(inspect.signature(found.__init__).parameters)
    for key, value in config.items():
        if key not in known and not key.startswith("_") and value not in (None, False, [], {}):
            raise ValueError(
                f"{part} of {weights.name} ({weights.classes[part][1]}) sets {shortened(key)}, which this version of "
                "diffusers does not know: use a newer diffusers, or another copy of the model."
            )


def _check_size(weights: Weights, part: str, found: Any, stored: int) -> None:
    """Raise ValueError, before the network is built, if its configuration has far more weights than the files."""
    folder = weights.folder / part

    def build() -> int:
        with torch.device("meta"):
            if weights.classes[part][0] != "diffusers":
                module = found(found.config_class.from_pretrained(folder, local_files_only=True))
            else:
                module = found.from_config(found.load_config(folder, local_files_only=True))
        return sum(p.numel() for p in module.parameters())

    described = _in_words(weights, part, build)
    if described > 1.1 * stored + ROOM:
        raise ValueError(
            f"{part} of {weights.name}: its config.json describes {described:,} weights and its files hold {stored:,}. "
            "They belong to two models, or are damaged: copy or download the folder again."
        )


def _check_report(weights: Weights, part: str, report: Mapping[str, Any]) -> None:
    """Raise ValueError for tensors that the library reports as missing, of another shape, left over, or unreadable."""
    for what, keys in (
        ("are missing in its files and would be random", report.get("missing_keys") or ()),
        ("have another shape than its config.json says", report.get("mismatched_keys") or ()),
        ("of its files have no place in the network", report.get("unexpected_keys") or ()),
        ("could not be read", report.get("error_msgs") or ()),
    ):
        named = sorted(key if isinstance(key, str) else str(key[0]) for key in keys)
        if what.startswith("of its files"):
            named = [key for key in named if not any(harmless in key for harmless in HARMLESS)]
        if named:
            raise ValueError(
                f"{part} of {weights.name}: {len(named)} tensors {what} ({', '.join(named[:3])}"
                f"{', ...' if len(named) > 3 else ''}). The files belong to another model, or are not complete: copy "
                "or download them again."
            )
