"""Where a model's weights are: in a local folder, in the hub's cache, or not on this machine.

Nothing here imports diffusers, so the answer comes at once. Weights are safetensors; a pickled file could run code
when it is opened, so pickled files are never opened. Nothing is downloaded unless the caller asks for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_explained.data.hub import hub_is_reachable
from diffusion_explained.extras import extra
from diffusion_explained.files import read_bytes
from diffusion_explained.stable_diffusion.configurations import (
    check_part,
    check_pipeline,
    check_together,
    check_tokenizer_file,
)
from diffusion_explained.stable_diffusion.families import (
    CHECKERS_GB,
    MICRO,
    MICRO_FAMILY,
    MICRO_TITLE,
    MIRRORS,
    OFFER_FLOAT16,
    SIZES_GB,
    T5_GB,
    Family,
    family_of_pipeline,
)
from diffusion_explained.stable_diffusion.levels import kind_of, schedule_of

INDEX = "model_index.json"
STAND_IN = "STAND_IN.txt"  # lies in the folder of a pipeline whose weights are random, and says so
MICRO_CARD = "micro.json"  # lies in the folder of a Micro Stable Diffusion, and says how it was trained
MICRO_FOLDER = Path(__file__).parents[1] / "weights" / MICRO
T5 = "text_encoder_3"
CHECKER = "safety_checker"
HOLD_WEIGHTS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", T5, CHECKER)
# the parts that a pipeline of a family needs
NEEDED = {
    "sd": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
    "sdxl": ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"),
    "sd3": ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"),
}
UNUSED = ("image_encoder",)  # for image prompts, which this package does not use
LIBRARIES = ("diffusers", "transformers", "stable_diffusion", "stable_diffusion_xl", None)
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
REFUSED_PICKLES = (
    "pickled weights can run code when they are opened, so they are refused. Use a copy of the model with "
    ".safetensors files"
)


class WeightsUnavailableError(FileNotFoundError):
    """The weights are not on this machine, or not all of them; the message says what is missing and what to do."""


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
    if lacking := [part for part in NEEDED[family.name] if part not in classes]:
        raise ValueError(f"{folder} lists no {', '.join(lacking)} in its {INDEX}; {family.title} needs them.")
    known = {*HOLD_WEIGHTS, *UNUSED, *NEEDED[family.name], "tokenizer_3", "feature_extractor"}
    if foreign := [part for part in classes if part not in known]:
        raise ValueError(f"{folder} has a part that is not supported: {', '.join(foreign)}. Use diffusers itself.")
    away = {part for part in listed if part not in classes or part in UNUSED}
    if t5 is False and T5 in classes:
        away |= {T5, "tokenizer_3"}
    if t5 and T5 not in classes:
        raise ValueError(f"{folder} has no T5: it is a text encoder of Stable Diffusion 3. Leave t5 out.")
    if safety_checker and CHECKER not in classes:
        raise ValueError(f"{folder} ships no safety checker. Leave safety_checker out.")
    unchecked = safety_checker is False and CHECKER in classes
    if unchecked:
        away |= {CHECKER, "feature_extractor"} & set(listed)
    classes = {part: entry for part, entry in classes.items() if part not in away}
    return Listing(index, family, classes, tuple(sorted(away)), unchecked)


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
    configs = {part: read_json(folder / part / "config.json") for part in found.weighty if part != CHECKER}
    check_configurations(found, configs, read_json(folder / "scheduler" / "scheduler_config.json"), str(folder))
    for part in found.classes:
        if part.startswith("tokenizer"):
            _check_tokenizer(folder / part)
    classes = {part: found.classes[part] for part in found.weighty}
    stand_in = (folder / STAND_IN).is_file()
    family = MICRO_FAMILY if micro and found.family.name == MICRO_FAMILY.name else found.family
    return Weights(name, folder, family, str(index["_class_name"]), classes, found.left_out, stand_in, found.unchecked)


def check_configurations(
    found: Listing, configs: Mapping[str, Mapping[str, Any]], scheduler: Mapping[str, Any], where: str
) -> None:
    """Raise ValueError, which begins with `where`, for an unsupported configuration of a part or the scheduler."""
    try:
        for part, config in configs.items():
            check_part(part, found.classes[part][1], config, found.family)
        check_together(configs, found.index, found.family)
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


def _check_tokenizer(folder: Path) -> None:
    """Raise an error for tokenizer files that are missing, damaged or not supported.

    transformers would make a tokenizer of them that splits texts differently.
    """
    names = {file.name for file in _files(folder) if file.is_file()}
    whole = {"tokenizer.json"} <= names or {"vocab.json", "merges.txt"} <= names or {"spiece.model"} <= names
    if not whole:
        raise WeightsUnavailableError(
            f"{folder} is not whole: it needs a tokenizer.json, or a vocab.json with its merges.txt (for T5 a "
            "spiece.model). Copy or download it again."
        )
    for name in names & {"tokenizer.json", "vocab.json", "tokenizer_config.json", "special_tokens_map.json"}:
        found = read_json(folder / name)
        if name == "vocab.json" and not (found and all(isinstance(number, int) for number in found.values())):
            raise ValueError(f"{folder / name} is damaged: it should give a number to each piece. Copy it again.")
        if name in ("tokenizer_config.json", "special_tokens_map.json"):
            try:
                check_tokenizer_file(name, found, folder.name)
            except ValueError as error:
                raise ValueError(f"{folder.parent}: {error}") from error
        model = found.get("model")
        if name == "tokenizer.json" and not (isinstance(model, dict) and model.get("vocab")):
            raise ValueError(f"{folder / name} is damaged: it has no model with a vocabulary. Copy it again.")


# -- what would be downloaded -----------------------------------------------------------------------------


def chosen_files(names: Iterable[str], *, t5: bool = False, leave_out: Sequence[str] = ()) -> list[str]:
    """The files of a repository's pipeline: for each part the float16 safetensors if offered, else the full ones."""
    names, chosen = list(names), []
    leave_out = (*leave_out, *UNUSED, *(() if t5 else (T5, "tokenizer_3")))
    for name in names:
        part, _, rest = name.rpartition("/")
        if "/" in part or part in leave_out or (not part and rest != INDEX):
            continue
        if rest.endswith((".txt", ".model")) or (rest.endswith(".json") and ".index." not in rest):
            chosen.append(name)
    for part in HOLD_WEIGHTS:
        if part in leave_out:
            continue
        held = [n for n in names if n.startswith(f"{part}/") and ".safetensors" in n and ".non_ema" not in n]
        half = [n for n in held if ".fp16" in n]
        chosen += half or held
    return sorted(chosen)


def download_size(repo: str, *, t5: bool = False, safety_checker: bool | None = None) -> float | None:
    """Gigabytes to download, from the hub if it answers, else from the table `SIZES_GB`; None if neither knows.

    safety_checker: False leaves the safety checker out of the sum, as `load` leaves it out of the download.
    """
    leave_out = (CHECKER, "feature_extractor") if safety_checker is False else ()
    if hub_is_reachable():
        with extra("sd"):
            from huggingface_hub import HfApi

        try:
            files = HfApi().model_info(repo, files_metadata=True).siblings or []
            sizes = {file.rfilename: file.size for file in files}
            return sum(sizes[name] or 0 for name in chosen_files(sizes, t5=t5, leave_out=leave_out)) / 1e9
        except Exception:  # gated, renamed or deleted, or an error of the client or its HTTP library: use the table
            pass
    return _size_in_table(repo, t5=t5, safety_checker=safety_checker)


def _size_in_table(model: str, *, t5: bool, safety_checker: bool | None) -> float | None:
    size = SIZES_GB.get(model)
    if size is None:
        return None
    return size + (T5_GB if t5 else 0) - (CHECKERS_GB.get(model, 0) if safety_checker is False else 0)


def what_to_do(model: str, *, t5: bool = False, safety_checker: bool | None = None) -> str:
    """The part of a message that says how to get a model's weights, with their size, or that there is no network."""
    size = _size_in_table(model, t5=t5, safety_checker=safety_checker)
    about = "several GB" if size is None else f"about {size:.1f} GB"
    command = fetch_command(model, t5=t5, safety_checker=safety_checker)
    if not hub_is_reachable():
        return (
            f"They are {about}, and there is no network to fetch them (or HF_HUB_OFFLINE is set). Run once with a "
            f"network:\n    {command}\nor give the folder of a pipeline on this machine, or set HF_HUB_CACHE."
        )
    return f"They are {about}. load(..., download=True) fetches them, and so does\n    {command}"


def fetch_command(model: str, *, t5: bool = False, safety_checker: bool | None = None) -> str:
    """The shell command that downloads what `load` needs: float16 where it is offered, and nothing pickled."""
    half = model in OFFER_FLOAT16  # none of these has a T5
    weights = "*.fp16.safetensors" if half else "*/*.safetensors"
    left_out = [T5] * (not t5 and not half) + [CHECKER] * (safety_checker is False)
    without = "".join(f' --exclude "{part}/*"' for part in left_out)
    return f'hf download {model} --include "*.json" "*.txt" "{weights}"{without}'


def fetch(model: str, *, t5: bool = False, safety_checker: bool | None = None) -> None:
    """Download a model into the hub's cache, from the first mirror that has it; files already there are kept.

    The model_index.json (1 kB), the list of files and the configuration of each part come first: a model that is not
    supported, or that has only pickled weights, is refused before anything large is downloaded.

    Raises:
        WeightsUnavailableError: when there is no network, or no mirror has the model.
        ValueError: for a model that `load` would refuse.
    """
    if not hub_is_reachable():
        raise WeightsUnavailableError(
            f"The weights of {model} cannot be fetched. {what_to_do(model, t5=t5, safety_checker=safety_checker)}"
        )
    failures = []
    for repo in MIRRORS.get(model, (model,)):
        try:
            _fetch_from(repo, t5=t5, safety_checker=safety_checker)
            return
        except (Refused, MemoryError):
            raise
        except Exception as error:  # errors of the client, its HTTP library or the disk: all mean no weights
            failures.append(f"{repo}: {type(error).__name__}: {error}")
    raise WeightsUnavailableError(
        f"Downloading {model} failed. If the model's licence must be accepted, accept it on the model's page and run "
        "`hf auth login`.\n" + "\n".join(failures)
    )


class Refused(ValueError):
    """A model on the hub is not supported, and therefore not downloaded."""


def _fetch_from(repo: str, *, t5: bool, safety_checker: bool | None) -> None:
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    def get(name: str) -> Path:
        return Path(hf_hub_download(repo, name, cache_dir=os.environ.get("HF_HUB_CACHE")))

    names = list(HfApi().list_repo_files(repo))
    if INDEX not in names:
        raise Refused(
            f"{repo} is not a pipeline in diffusers' format: there is no {INDEX} among its {len(names)} files."
        )
    try:
        index = read_index(get(INDEX).parent)
        found = listing_of(index, repo, t5=t5, safety_checker=safety_checker)
        chosen = chosen_files(names, t5=t5, leave_out=found.left_out)
        parts = [part for part in found.weighty if part != T5 or t5]
        lacking = [part for part in parts if not any(_is_weight_of(part, name) for name in chosen)]
        pickled = [n for n in names if n.rpartition("/")[0] in lacking and Path(n).suffix in PICKLED]
        if pickled:
            raise ValueError(refusal_of_pickles(lacking, pickled, repo))
        if lacking:
            raise ValueError(f"{repo} has no .safetensors weights for {', '.join(lacking)}. Use another copy of it.")
        configs = {part: read_json(get(f"{part}/config.json")) for part in parts if part != CHECKER}
        check_configurations(found, configs, read_json(get("scheduler/scheduler_config.json")), repo)
    except ValueError as error:
        raise Refused(f"{error} Nothing large was downloaded.") from error
    snapshot_download(repo, allow_patterns=chosen, cache_dir=os.environ.get("HF_HUB_CACHE"))


def _is_weight_of(part: str, name: str) -> bool:
    return name.startswith(f"{part}/") and name.endswith(".safetensors")
