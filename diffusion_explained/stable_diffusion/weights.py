"""Where a model's weights are: in a local folder, in the hub's cache, or not on this machine.

Nothing here imports diffusers, so the answer comes at once. Weights are safetensors; a pickled file could run code
when it is opened, so pickled files are never opened.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffusion_explained.checks import typed_arguments
from diffusion_explained.extras import extra
from diffusion_explained.stable_diffusion.downloads import what_to_do
from diffusion_explained.stable_diffusion.families import (
    MICRO,
    MICRO_FAMILY,
    MICRO_TITLE,
    Family,
    family_of_pipeline,
    names_of,
)
from diffusion_explained.stable_diffusion.listing import (
    INDEX,
    PICKLED,
    REFUSED_PICKLES,
    T5,
    WeightsUnavailableError,
    check_configurations,
    check_tokenizer_files,
    listing_of,
    read_index,
    read_json,
    refusal_of_pickles,
)
from diffusion_explained.stable_diffusion.single_files import (
    Identity,
    check_vae_file,
    check_vae_fits,
    identify,
    index_of,
)

STAND_IN = "STAND_IN.txt"  # lies in the folder of a pipeline whose weights are random, and says so
MICRO_CARD = "micro.json"  # lies in the folder of a Micro Stable Diffusion, and says how it was trained
MICRO_FOLDER = Path(__file__).parents[1] / "weights" / MICRO


@dataclass(frozen=True)
class Weights:
    """A complete pipeline in diffusers' format: its folder, its family, and which parts of it to load.

    name: the model's name, as given to `load`; classes: (library, class) of each part that holds weights; left_out:
    parts that are not loaded; unchecked: whether the model's safety checker is one of them; vae: a file whose
    autoencoder replaces the model's own.
    """

    name: str
    folder: Path
    family: Family
    pipeline: str
    classes: Mapping[str, tuple[str, str]]
    left_out: tuple[str, ...] = ()
    stand_in: bool = False
    unchecked: bool = False
    vae: Path | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that hold weights."""
        return tuple(self.classes)

    def configuration(self, part: str) -> dict[str, Any]:
        """The configuration of a part; the scheduler's with its class as _class_name."""
        if part != "scheduler":
            return read_json(self.folder / part / "config.json")
        listed = read_index(self.folder)["scheduler"][1]
        return {**read_json(self.folder / "scheduler" / "scheduler_config.json"), "_class_name": listed}

    def index(self) -> dict[str, Any]:
        """The pipeline's model_index.json."""
        return read_index(self.folder)

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


@dataclass(frozen=True)
class FileWeights(Weights):
    """A model in a single file: `file`; which one it is; and the pipeline whose parts serve where the file has none."""

    file: Path = Path()
    identity: Identity | None = None
    others: Weights | None = None

    def configuration(self, part: str) -> dict[str, Any]:
        """The published configuration of a part that the file holds; otherwise that of the other pipeline's part."""
        assert self.identity is not None
        if part in self.identity.held or part == "scheduler" or self.others is None:
            return dict(self.identity.configs[part])
        return self.others.configuration(part)

    def index(self) -> dict[str, Any]:
        """The pipeline's model_index.json."""
        assert self.identity is not None
        return index_of(self.identity, t5=T5 in self.classes)


@typed_arguments
def find_weights(
    model: str | os.PathLike[str],
    *,
    t5: bool | None = None,
    safety_checker: bool | None = None,
    parts_from: str | os.PathLike[str] | None = None,
    vae: str | os.PathLike[str] | None = None,
    prediction: str | None = None,
) -> Weights:
    """Find the weights of a model on this machine, by its name on the hub, or by its folder or single file.

    Args:
        model: a repository ("stabilityai/stable-diffusion-xl-base-1.0"; its mirrors are searched too), a folder, a
            .safetensors file (`single_files`), or "micro", which is part of the package.
        t5: Stable Diffusion 3's largest text encoder: None uses it if it is there, True requires it, False leaves it
            out.
        safety_checker: None uses the model's safety checker if there is one, True requires it, False leaves it out.
        parts_from: for a single file, a folder or a name on the hub: its parts are used where the file has none.
        vae: a .safetensors file with another autoencoder for the same family.
        prediction: for a single file that does not say what its network predicts, "eps" or "v".

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
    own_vae = None if vae is None else single_file(os.fspath(vae), "autoencoder")
    if own_vae is not None:
        check_vae_file(own_vae)
    if name == MICRO:
        if not (MICRO_FOLDER / INDEX).is_file():
            raise WeightsUnavailableError(
                f"The weights of micro should be part of the package, but {MICRO_FOLDER} holds none: install the "
                "package again, or train them (diffusion-explained micro --help) and give their folder."
            )
        return _with_vae(read_pipeline(MICRO_FOLDER, MICRO_TITLE, **options), own_vae)
    try:
        path = Path(name).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except RuntimeError as error:  # of expanduser: no such user, or no home
        raise WeightsUnavailableError(f"There is no folder {name}: {error} Give the folder's whole path.") from error
    except OSError as error:
        raise WeightsUnavailableError(f"The folder {name} cannot be read: {error.strerror}.") from error
    if is_file or path.suffix in (*PICKLED, ".safetensors"):
        path = single_file(name, "model")
        return _read_file(path, name, t5, safety_checker, parts_from, prediction, own_vae)
    if parts_from is not None or prediction is not None:
        raise ValueError(f"parts_from and prediction are for a single .safetensors file, and {name} is none.")
    if is_folder:
        return _with_vae(read_pipeline(path, name, **options), own_vae)
    if not is_repository(name):
        raise WeightsUnavailableError(f"There is no folder {name}, and it is not a name on the hub (owner/model).")
    for repo in names_of(name):
        if (folder := cached_folder(repo)) is not None:
            return _with_vae(read_pipeline(folder, name, **options), own_vae)
    raise WeightsUnavailableError(
        f"The weights of {name} are not on this machine. {what_to_do(name, t5=bool(t5), safety_checker=safety_checker)}"
    )


def single_file(name: str, what: str) -> Path:
    """The path of a .safetensors file that holds a `what`.

    Raises ValueError for a pickled or another file, WeightsUnavailableError for one that does not exist.
    """
    path = Path(name).expanduser()
    if path.suffix in PICKLED:
        raise ValueError(f"{name}: {REFUSED_PICKLES.replace('.safetensors files', 'a .safetensors file')}.")
    if path.suffix != ".safetensors":
        raise ValueError(f"{name} is no .safetensors file: a single file with a {what} is read from one only.")
    if not path.is_file():
        raise WeightsUnavailableError(f"There is no file {name}. Give its whole path.")
    return path


def _check_vae(found: Weights, vae: Path) -> None:
    channels = found.configuration("vae").get("latent_channels", 4)
    check_vae_fits(vae, found.family.name, found.family.title, channels)


def _with_vae(found: Weights, vae: Path | None) -> Weights:
    if vae is not None and found.classes["vae"][1] != "AutoencoderKL":
        kind = found.classes["vae"][1]
        raise ValueError(f"{found.name} has an {kind}, which no single file replaces: leave vae out.")
    if vae is not None:
        _check_vae(found, vae)
    return found if vae is None else replace(found, vae=vae)


def _read_file(
    path: Path,
    name: str,
    t5: bool | None,
    safety_checker: bool | None,
    parts_from: str | os.PathLike[str] | None,
    prediction: str | None,
    vae: Path | None,
) -> FileWeights:
    """Read what a single file holds, and where the parts that it has not are. Errors as for `find_weights`."""
    if safety_checker:
        raise ValueError(f"{name} ships no safety checker, as every single file. Leave safety_checker out.")
    identity = identify(path, prediction)
    family = family_of_pipeline(str(identity.configs[INDEX]["_class_name"]))
    others = None if parts_from is None else find_weights(parts_from, t5=t5, safety_checker=False)
    if others is not None and others.family.name != family.name:
        kinds = f"{name} is {identity.title}, and parts_from is {others.family.title}"
        raise ValueError(f"{kinds}: give one of its own kind.")
    with_t5 = others is not None and T5 in others.classes  # its tokenizer is in no single file
    if t5 and family.name == "sd3" and not with_t5:
        raise ValueError(f"{name} has no tokenizer for T5: give a folder that has T5 as parts_from, or leave t5 out.")
    index = index_of(identity, t5=with_t5)
    listing = listing_of(index, name, t5=t5 if family.name != "sd3" or with_t5 else None)
    there = {*identity.held, *(others.classes if others is not None else ()), *(["vae"] if vae is not None else [])}
    missing = [part for part in listing.weighty if part not in there]
    if others is None and family.drive is not None:
        missing = [part for part in listing.classes if part not in there and part != "scheduler"]
    if missing:
        alone = ", or its autoencoder as vae=" if missing == ["vae"] else ""
        raise WeightsUnavailableError(
            f"{name} holds {identity.title}, but no {', '.join(missing)}. Give the folder or the name of a whole "
            f"{family.title} in diffusers' format as parts_from=, whose parts are used where the file has none{alone}."
        )
    classes = {part: listing.classes[part] for part in listing.weighty}
    found = FileWeights(
        name, path.parent, family, str(index["_class_name"]), classes, listing.left_out, vae=vae, file=path,
        identity=identity, others=others,
    )  # fmt: skip
    if vae is not None:
        _check_vae(found, vae)
    configs = {part: found.configuration(part) for part in found.parts}
    check_configurations(listing, configs, found.configuration("scheduler"), name)
    return found


def is_repository(name: str) -> bool:
    """Whether a name has the form of a hub repository, owner/model, and is not a local folder."""
    path = Path(name)
    return not (path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1 or path.is_dir())


def cached_folder(repo: str, holding: str = INDEX) -> Path | None:
    """The newest snapshot of a repository in the hub's local cache, None if there is none with the file `holding`.

    Raises ValueError for a name that the hub does not allow.
    """
    with extra("sd"):
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

    try:
        # HF_HUB_CACHE is read here, so that a notebook may set it after huggingface_hub was imported
        found = try_to_load_from_cache(repo, holding, cache_dir=os.environ.get("HF_HUB_CACHE"))
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
        if is_repository(name):
            what = what_to_do(name, t5=bool(t5), safety_checker=safety_checker)
        else:
            what = "Copy these folders again, each whole: its config.json, and all of its .safetensors files."
        raise WeightsUnavailableError(
            f"{name} is on this machine ({folder}), but not all of it: there are no whole .safetensors weights for "
            f"{', '.join(missing)}. {what}"
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
