"""Where a model's weights are: in a local folder, in the hub's cache, or not on this machine.

Nothing here imports diffusers, so the answer comes at once. Weights are safetensors; a pickled file could run code
when it is opened, so pickled files are never opened.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diffusion_explained.checks import typed_arguments
from diffusion_explained.extras import extra
from diffusion_explained.stable_diffusion.downloads import what_to_do
from diffusion_explained.stable_diffusion.families import MICRO, MICRO_FAMILY, MICRO_TITLE, MIRRORS, Family
from diffusion_explained.stable_diffusion.listing import (
    INDEX,
    PICKLED,
    T5,
    WeightsUnavailableError,
    check_configurations,
    check_tokenizer_files,
    listing_of,
    read_index,
    read_json,
    refusal_of_pickles,
)

STAND_IN = "STAND_IN.txt"  # lies in the folder of a pipeline whose weights are random, and says so
MICRO_CARD = "micro.json"  # lies in the folder of a Micro Stable Diffusion, and says how it was trained
MICRO_FOLDER = Path(__file__).parents[1] / "weights" / MICRO


@dataclass(frozen=True)
class Weights:
    """A complete pipeline in diffusers' format: its folder, its family, and which parts of it to load.

    name: the model's name, as given to `load`; classes: (library, class) of each part that holds weights; left_out:
    parts that are not loaded; unchecked: whether the model's safety checker is one of them.
    """

    name: str
    folder: Path
    family: Family
    pipeline: str
    classes: Mapping[str, tuple[str, str]]
    left_out: tuple[str, ...] = ()
    stand_in: bool = False
    unchecked: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that hold weights."""
        return tuple(self.classes)

    def wants_float16(self, float32: bool) -> bool:
        """Whether to load files named .fp16: a part offers them, and float32 is not asked for or not available."""
        offered = any(_whole(self.folder / part, half=True) for part in self.parts)
        needed = any(not _whole(self.folder / part, half=False) for part in self.parts)
        return offered and (not float32 or needed)

    def files(self, part: str, half: bool) -> list[Path]:
        """The safetensors of a part: those named .fp16 if `half` and offered, or if there are no others."""
        folder = self.folder / part
        half = _whole(folder, half=True) and (half or not _whole(folder, half=False))
        return _weight_files(folder, half)


@typed_arguments
def find_weights(
    model: str | os.PathLike[str], *, t5: bool | None = None, safety_checker: bool | None = None
) -> Weights:
    """Find the weights of a model on this machine, by its name on the hub or by its folder.

    Args:
        model: a repository ("stabilityai/stable-diffusion-xl-base-1.0"; its mirrors are searched too), a folder, or
            "micro", which is part of the package.
        t5: Stable Diffusion 3's largest text encoder: None uses it if it is there, True requires it, False leaves it
            out.
        safety_checker: None uses the model's safety checker if there is one, True requires it, False leaves it out.

    Raises:
        WeightsUnavailableError: when the weights are not on this machine, or some of them are missing.
        ValueError: for a folder that holds no pipeline, a model that is not supported, or pickled weights.
    """
    name = os.fspath(model)
    if not isinstance(name, str):
        raise ValueError(f"Give the name of a model or its folder as text; got {name!r}.")
    if not name.strip():
        raise ValueError("Give the name of a model on the Hugging Face hub, or a folder; got an empty name.")
    options = {"t5": t5, "safety_checker": safety_checker}
    if name == MICRO:
        if not (MICRO_FOLDER / INDEX).is_file():
            raise WeightsUnavailableError(
                f"The weights of micro should be part of the package, but {MICRO_FOLDER} holds none: install the "
                "package again, or train them (diffusion-explained micro --help) and give their folder."
            )
        return read_pipeline(MICRO_FOLDER, MICRO_TITLE, **options)
    try:
        path = Path(name).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except RuntimeError as error:  # of expanduser: no such user, or no home
        raise WeightsUnavailableError(f"There is no folder {name}: {error} Give the folder's whole path.") from error
    except OSError as error:
        raise WeightsUnavailableError(f"The folder {name} cannot be read: {error.strerror}.") from error
    if is_folder:
        return read_pipeline(path, name, **options)
    if is_file or path.suffix in (*PICKLED, ".safetensors"):
        raise ValueError(
            f"{name} is a single file, not a pipeline. Give the folder of a model in diffusers' format (with a "
            f"{INDEX}), or a model's name on the hub."
        )
    if not is_repository(name):
        raise WeightsUnavailableError(f"There is no folder {name}, and it is not a name on the hub (owner/model).")
    for repo in MIRRORS.get(name, (name,)):
        if (folder := cached_folder(repo)) is not None:
            return read_pipeline(folder, name, **options)
    raise WeightsUnavailableError(
        f"The weights of {name} are not on this machine. {what_to_do(name, t5=bool(t5), safety_checker=safety_checker)}"
    )


def is_repository(name: str) -> bool:
    """Whether a name has the form of a hub repository, owner/model, and is not a local folder."""
    path = Path(name)
    return not (path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1 or path.is_dir())


def cached_folder(repo: str) -> Path | None:
    """The newest snapshot of a repository in the hub's local cache, None if there is none.

    Raises ValueError for a name that the hub does not allow.
    """
    with extra("sd"):
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

    try:
        # HF_HUB_CACHE is read here, so that a notebook may set it after huggingface_hub was imported
        found = try_to_load_from_cache(repo, INDEX, cache_dir=os.environ.get("HF_HUB_CACHE"))
    except HFValidationError as error:
        raise ValueError(
            f"{repo!r} is neither a name on the Hugging Face hub (owner/model) nor a folder here."
        ) from error
    return Path(found).parent if isinstance(found, str) else None


def read_pipeline(folder: Path, name: str, *, t5: bool | None = None, safety_checker: bool | None = None) -> Weights:
    """Read what a folder in diffusers' format holds, and check every part. Errors as for `find_weights`."""
    try:
        return _read_pipeline(folder, name, t5, safety_checker)
    except PermissionError as error:
        raise PermissionError(f"{error.filename or folder} cannot be read: permission denied. Allow it, or copy the "
                              "model to a folder of yours.") from error  # fmt: skip


def _read_pipeline(folder: Path, name: str, t5: bool | None, safety_checker: bool | None) -> Weights:
    index = read_index(folder)
    micro = (folder / MICRO_CARD).is_file()
    if t5 is None and not _whole(folder / T5):  # None: T5 is used if it is there
        t5 = False
    found = listing_of(index, name, t5=t5, safety_checker=safety_checker)
    missing = [part for part in found.weighty if not _whole(folder / part)]
    pickled = [file for part in missing for file in _files(folder / part) if file.suffix in PICKLED]
    if pickled:
        raise ValueError(refusal_of_pickles(missing, [str(file.relative_to(folder)) for file in pickled], str(folder)))
    if missing:
        raise WeightsUnavailableError(
            f"{name} is on this machine ({folder}), but not all of it: there are no whole .safetensors weights for "
            f"{', '.join(missing)}. {what_to_do(name, t5=bool(t5), safety_checker=safety_checker)}"
        )
    configs = {part: read_json(folder / part / "config.json") for part in found.weighty}
    check_configurations(found, configs, read_json(folder / "scheduler" / "scheduler_config.json"), str(folder))
    for part in found.classes:
        if part.startswith("tokenizer"):
            check_tokenizer_files(folder / part, found.family)
    classes = {part: found.classes[part] for part in found.weighty}
    stand_in = (folder / STAND_IN).is_file()
    family = MICRO_FAMILY if micro and found.family.name == MICRO_FAMILY.name else found.family
    return Weights(name, folder, family, str(index["_class_name"]), classes, found.left_out, stand_in, found.unchecked)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _weight_files(folder: Path, half: bool) -> list[Path]:
    """The safetensors files of a part, float16 (`half`) or full precision; an empty list if a shard is missing.

    Raises ValueError for a shard index that is damaged, or that names a file outside the part's folder.
    """
    files = [file for file in _files(folder) if (".fp16" in file.name) == half and ".non_ema" not in file.name]
    for index in (file for file in files if ".safetensors.index." in file.name and file.suffix == ".json"):
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ValueError(f"{index} is damaged: it has no weight_map, from tensors to files. Copy it again.")
        names = set(map(str, shards.values()))
        for name in names:
            if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
                raise ValueError(f"{index} names {name[:80]!r}: only .safetensors files beside it are read.")
        paths = [folder / name for name in sorted(names)]
        return paths if all(path.is_file() for path in paths) else []
    return [file for file in files if file.suffix == ".safetensors" and file.is_file()]


def _whole(folder: Path, half: bool | None = None) -> bool:
    """Whether a part's safetensors are complete: the float16 ones (half=True), the others (False), or either (None)."""
    if half is None:
        return _whole(folder, half=False) or _whole(folder, half=True)
    return bool(_weight_files(folder, half))
