"""What of a model would be downloaded from the hub, how large that is, and the download itself.

Nothing is downloaded unless the caller asks for it, and nothing pickled is. A model that is not supported is refused
after a few kilobytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from diffusion_explained.checks import typed_arguments
from diffusion_explained.data.hub import hub_is_reachable
from diffusion_explained.extras import extra
from diffusion_explained.stable_diffusion.families import CHECKERS_GB, OFFER_FLOAT16, SIZES_GB, T5_GB, names_of
from diffusion_explained.stable_diffusion.listing import (
    CHECKER,
    HOLD_WEIGHTS,
    INDEX,
    PICKLED,
    T5,
    UNUSED,
    WeightsUnavailableError,
    check_configurations,
    check_tokenizer_files,
    listing_of,
    read_index,
    read_json,
    refusal_of_pickles,
)

# repositories whose licence must be accepted on their page before the hub hands out a file
GATED = (
    "stabilityai/stable-diffusion-3-medium-diffusers",
    "stabilityai/stable-diffusion-3.5-medium",
    "stabilityai/stable-diffusion-3.5-large",
    "stabilityai/stable-diffusion-3.5-large-turbo",
    "black-forest-labs/FLUX.1-dev",
)
NO_ENTRY = (401, 403)  # what the hub answers then


def licence_page(repo: str) -> str:
    """The page on which the licence of a gated repository is accepted."""
    return f"https://huggingface.co/{repo}"


def how_to_enter(repo: str) -> str:
    """What to do, once, before the files of a gated repository can be fetched."""
    return (
        f"The licence of {repo} must be accepted first: open {licence_page(repo)} in a browser, log in, accept it, and "
        "run `hf auth login` on this machine."
    )


def chosen_files(names: Iterable[str], *, t5: bool = False, leave_out: Sequence[str] = ()) -> list[str]:
    """The files of a repository's pipeline: for each part the float16 safetensors if offered, else the full ones."""
    names, chosen = list(names), []
    leave_out = (*leave_out, *UNUSED, *(() if t5 else (T5, "tokenizer_3")))
    for name in names:
        part, _, rest = name.rpartition("/")
        if "/" in part or part in leave_out or (not part and rest != INDEX):
            continue
        if rest.endswith((".txt", ".model", ".jinja")) or (rest.endswith(".json") and ".index." not in rest):
            chosen.append(name)
    for part in HOLD_WEIGHTS:
        if part in leave_out:
            continue
        held = [n for n in names if n.startswith(f"{part}/") and ".safetensors" in n and ".non_ema" not in n]
        half = [n for n in held if ".fp16" in n]
        chosen += half or held
    return sorted(chosen)


@typed_arguments
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
    licence = f"\n{how_to_enter(model)}" if model in GATED else ""
    if not hub_is_reachable():
        return (
            f"They are {about}, and there is no network to fetch them (or HF_HUB_OFFLINE is set). Run once with a "
            f"network:\n    {command}\nor give the folder of a pipeline on this machine, or set HF_HUB_CACHE.{licence}"
        )
    return f"They are {about}. load(..., download=True) fetches them, and so does\n    {command}{licence}"


def fetch_command(model: str, *, t5: bool = False, safety_checker: bool | None = None) -> str:
    """The shell command that downloads what `load` needs: float16 where it is offered, and nothing pickled."""
    half = model in OFFER_FLOAT16  # none of these has a T5
    weights = "*.fp16.safetensors" if half else "*/*.safetensors"
    left_out = [T5] * (not t5 and not half) + [CHECKER] * (safety_checker is False)
    without = "".join(f' --exclude "{part}/*"' for part in left_out)
    return f'hf download {model} --include "*.json" "*.txt" "{weights}"{without}'


@typed_arguments
def fetch(model: str, *, t5: bool = False, safety_checker: bool | None = None) -> None:
    """Download a model into the hub's cache, from the first mirror that has it; files already there are kept.

    The model_index.json (1 kB), the list of files, each part's configuration and the tokenizers come first: a model
    that is not supported, or that has only pickled weights, is refused before anything large is downloaded.

    Raises:
        WeightsUnavailableError: when there is no network, or no mirror has the model.
        ValueError: for a model that `load` would refuse.
    """
    if not hub_is_reachable():
        raise WeightsUnavailableError(
            f"The weights of {model} cannot be fetched. {what_to_do(model, t5=t5, safety_checker=safety_checker)}"
        )
    failures, gated = [], []
    for repo in names_of(model):
        try:
            _fetch_from(repo, t5=t5, safety_checker=safety_checker)
            return
        except (Refused, MemoryError):
            raise
        except Exception as error:  # errors of the client, its HTTP library or the disk: all mean no weights
            failures.append(f"{repo}: {type(error).__name__}: {error}")
            gated += [repo] if _is_gated(repo, error) else []
    advice = " ".join(map(how_to_enter, gated)) or "Is the name right, and the network there?"
    raise WeightsUnavailableError(f"Downloading {model} failed. {advice}\n" + "\n".join(failures))


def _is_gated(repo: str, error: Exception) -> bool:
    """Whether the hub refused a file because a licence was not accepted, or nobody is logged in."""
    with extra("sd"):
        from huggingface_hub.errors import GatedRepoError

    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(error, GatedRepoError) or (repo in GATED and status in NO_ENTRY)


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
        configs = {part: read_json(get(f"{part}/config.json")) for part in parts}
        check_configurations(found, configs, read_json(get("scheduler/scheduler_config.json")), repo)
        for part in found.classes:
            if part.startswith("tokenizer") and (t5 or part != "tokenizer_3"):  # a few megabytes
                files = [get(name) for name in chosen if name.startswith(f"{part}/")]
                check_tokenizer_files(files[0].parent if files else Path(part), found.family)
    except (ValueError, WeightsUnavailableError) as error:
        raise Refused(f"{error} Nothing large was downloaded.") from error
    snapshot_download(repo, allow_patterns=chosen, cache_dir=os.environ.get("HF_HUB_CACHE"))


def _is_weight_of(part: str, name: str) -> bool:
    return name.startswith(f"{part}/") and name.endswith(".safetensors")
