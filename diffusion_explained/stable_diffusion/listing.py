"""What a pipeline's model_index.json lists: its parts, which of them are loaded, and whether each is supported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_explained.files import read_bytes
from diffusion_explained.stable_diffusion.configurations import (
    check_part,
    check_pipeline,
    check_together,
    check_tokenizer_file,
)
from diffusion_explained.stable_diffusion.families import REFINER, Family, family_of_pipeline
from diffusion_explained.stable_diffusion.levels import kind_of, schedule_of

INDEX = "model_index.json"
T5 = "text_encoder_3"
CHECKER = "safety_checker"
HOLD_WEIGHTS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", T5, CHECKER)
# the parts that a pipeline of a family needs
NEEDED = {
    "sd": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
    "sdxl": ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"),
    REFINER: ("unet", "vae", "text_encoder_2", "tokenizer_2", "scheduler"),
    "sd3": ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"),
}
OPTIONAL = {"sd": (CHECKER,), "sdxl": (CHECKER,), REFINER: (CHECKER,), "sd3": (T5, "tokenizer_3", CHECKER)}
UNUSED = ("image_encoder",)  # for image prompts, which this package does not use
LIBRARIES = ("diffusers", "transformers", "stable_diffusion", "stable_diffusion_xl", "kolors", None)
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
REFUSED_PICKLES = (
    "pickled weights can run code when they are opened, so they are refused. Use a copy of the model with "
    ".safetensors files"
)


class WeightsUnavailableError(FileNotFoundError):
    """The weights are not on this machine, or not all of them; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Listing:
    """What a model_index.json lists: the family, (library, class) of each part to load, and the parts to leave out."""

    index: Mapping[str, Any]
    family: Family
    classes: Mapping[str, tuple[str, str]]
    left_out: tuple[str, ...]
    unchecked: bool = False

    @property
    def weighty(self) -> tuple[str, ...]:
        """The parts that hold weights, in a fixed order."""
        return tuple(part for part in HOLD_WEIGHTS if part in self.classes)


def listing_of(
    index: Mapping[str, Any], folder: object, *, t5: bool | None = None, safety_checker: bool | None = None
) -> Listing:
    """Read what a model_index.json lists, without the parts to leave out.

    Raises ValueError for parts that are missing, unknown, or would run code of their own.
    """
    family = family_of_pipeline(str(index["_class_name"]))
    check_pipeline(index, family)
    listed = {part: tuple(entry) for part, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    strange = [
        part
        for part, (library, name) in listed.items()
        if library not in LIBRARIES or not (name is None or (isinstance(name, str) and name.isidentifier()))
    ]
    if strange:
        raise ValueError(f"{folder} asks to run code of its own for {', '.join(strange)}, which is refused.")
    classes = {part: entry for part, entry in listed.items() if None not in entry}
    drive = family.drive
    needed = NEEDED[family.name] if drive is None else tuple(drive.parts)
    optional = OPTIONAL[family.name] if drive is None else drive.optional
    if lacking := [part for part in needed if part not in classes]:
        raise ValueError(f"{folder} lists no {', '.join(lacking)} in its {INDEX}; {family.title} needs them.")
    known = {*optional, *UNUSED, *needed, "feature_extractor"}
    if foreign := [part for part in classes if part not in known]:
        raise ValueError(f"{folder} has a part that is not supported: {', '.join(foreign)}. Use diffusers itself.")
    away = {part for part in listed if part not in classes or part in UNUSED or (drive and part in optional)}
    if t5 is False and T5 in classes:
        away |= {T5, "tokenizer_3"}
    if t5 and T5 not in classes:
        raise ValueError(f"{folder} has no T5: it is a text encoder of Stable Diffusion 3. Leave t5 out.")
    if T5 in classes and T5 not in away and "tokenizer_3" not in classes:
        raise ValueError(
            f"{folder} lists a {T5} and no tokenizer_3 for it. Use a whole copy, or leave T5 out (t5=False)."
        )
    if safety_checker and CHECKER not in classes:
        raise ValueError(f"{folder} ships no safety checker. Leave safety_checker out.")
    unchecked = safety_checker is False and CHECKER in classes
    if unchecked:
        away |= {CHECKER, "feature_extractor"} & set(listed)
    classes = {part: entry for part, entry in classes.items() if part not in away}
    return Listing(index, family, classes, tuple(sorted(away)), unchecked)


def check_configurations(
    found: Listing, configs: Mapping[str, Mapping[str, Any]], scheduler: Mapping[str, Any], where: str
) -> None:
    """Raise ValueError, which begins with `where`, for an unsupported configuration of a part or the scheduler."""
    try:
        for part, config in configs.items():
            check_part(part, found.classes[part][1], config, found.family)
        if found.family.drive is None:
            check_together(configs, found.index, found.family)
        else:
            check_part("scheduler", found.classes["scheduler"][1], scheduler, found.family)
        noise = {**scheduler, "_class_name": found.classes["scheduler"][1]}
        kind_of(noise), schedule_of(noise)  # each raises ValueError for an unknown configuration
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def refusal_of_pickles(parts: Sequence[str], files: Sequence[str], where: str) -> str:
    """The message that refuses pickled weights, with a workaround where only the safety checker is pickled."""
    around = ""
    if CHECKER in parts:
        others = [part for part in parts if part != CHECKER]
        around = ", or load without the safety checker (safety_checker=False)" if not others else ""
    return f"{', '.join(files)} of {where}: {REFUSED_PICKLES}{around}."


def read_index(folder: Path) -> dict[str, Any]:
    """A folder's model_index.json. Raises ValueError for a folder without one, and for one that is damaged."""
    path = folder / INDEX
    if not path.is_file():
        held = ", ".join(sorted(file.name for file in folder.iterdir())[:5]) or "nothing"
        raise ValueError(f"{folder} is not a pipeline: there is no {INDEX} in it (it holds {held}).")
    index = read_json(path)
    if not isinstance(index.get("_class_name"), str) or len(index["_class_name"]) > 100:
        raise ValueError(f"{path} does not name a pipeline class, so this is not a pipeline of diffusers.")
    return index


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; a byte-order mark at its beginning is allowed.

    Raises WeightsUnavailableError for a file that is missing, ValueError for one that is damaged or holds no object.
    """
    if not path.is_file():
        raise WeightsUnavailableError(f"{path} is missing: the model is not whole. Copy or download it again.")
    try:
        found = json.loads(read_bytes(path, "configuration").decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}. Copy or download it again.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: it should hold an object, {{...}}. Copy or download it again.")
    return found


def check_tokenizer_files(folder: Path, family: Family) -> None:
    """Raise an error for tokenizer files that are missing, damaged or not supported.

    transformers would make a tokenizer of them that splits texts differently. The configuration of a tokenizer that
    diffusers' own pipeline calls is left to the pipeline.
    """
    names = {file.name for file in folder.glob("*") if file.is_file()}
    whole = {"tokenizer.json"} <= names or {"vocab.json", "merges.txt"} <= names or {"spiece.model"} <= names
    if not whole and not (family.drive is not None and "tokenizer.model" in names):
        raise WeightsUnavailableError(
            f"{folder} is not whole: it needs a tokenizer.json, or a vocab.json with its merges.txt (for T5 a "
            "spiece.model). Copy or download it again."
        )
    for name in names & {"tokenizer.json", "vocab.json", "tokenizer_config.json", "special_tokens_map.json"}:
        found = read_json(folder / name)
        if name == "vocab.json" and not (found and all(isinstance(number, int) for number in found.values())):
            raise ValueError(f"{folder / name} is damaged: it should give a number to each piece. Copy it again.")
        if name in ("tokenizer_config.json", "special_tokens_map.json") and family.drive is None:
            try:
                check_tokenizer_file(name, found, folder.name)
            except ValueError as error:
                raise ValueError(f"{folder.parent}: {error}") from error
        model = found.get("model")
        if name == "tokenizer.json" and not (isinstance(model, dict) and model.get("vocab")):
            raise ValueError(f"{folder / name} is damaged: it has no model with a vocabulary. Copy it again.")
