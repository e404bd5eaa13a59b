"""The models on this machine: in the hub's cache, and in folders of diffusers, ComfyUI, A1111, or single files.

What a file is, is told by the names of its tensors, and what a folder is, by its model_index.json: never by the folder
that it lies in. Nothing is loaded, nothing is fetched, and of a file only the header is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusion_explained.checks import typed_arguments
from diffusion_explained.extras import extra
from diffusion_explained.messages import shortened
from diffusion_explained.stable_diffusion.downloads import fetch_command
from diffusion_explained.stable_diffusion.embeddings import is_embedding
from diffusion_explained.stable_diffusion.forecasts import Forecast, forecast_of
from diffusion_explained.stable_diffusion.headers import Header, read_header
from diffusion_explained.stable_diffusion.listing import INDEX, PICKLED, REFUSED_PICKLES, WeightsUnavailableError
from diffusion_explained.stable_diffusion.lora import is_lora, made_for
from diffusion_explained.stable_diffusion.preview_decoders import is_preview_decoder, kind_of
from diffusion_explained.stable_diffusion.single_files import AUTOENCODERS, PREDICTIONS, identify
from diffusion_explained.stable_diffusion.weights import Weights, cached_folder, find_weights, read_pipeline

MODEL, LORA, AUTOENCODER, EMBEDDING, OTHER = "model", "LoRA", "autoencoder", "textual inversion", "other"
PREVIEW = "preview decoder"
# where ComfyUI and A1111 keep models; of such a folder only these are searched
KEPT_IN = ("models/checkpoints", "models/diffusion_models", "models/unet", "models/loras", "models/vae",
           "models/embeddings", "models/diffusers", "models/Stable-diffusion", "models/Lora", "models/VAE",
           "models/vae_approx", "models/VAE-approx", "embeddings")  # fmt: skip
OF_PROGRAMS = ("models/checkpoints", "models/diffusion_models", "models/Stable-diffusion")  # by which both are known
PARTS = ("unet", "transformer", "vae", "text_encoder", "scheduler", "tokenizer")
OTHER_ADAPTERS = re.compile(r"\.(lokr|loha|hada)_")
DEEPEST, MOST = 5, 2000  # how deep below the folder that is named, and how many folders


@dataclass(frozen=True)
class OnDisk:
    """Something that was found: name is what `load`, `load_lora`, vae=, preview_decoder= or `load_embedding` takes.

    kind: MODEL, LORA, AUTOENCODER, PREVIEW, EMBEDDING or OTHER; title: its family, or what it was made for; size: of
    its files in bytes; why: why it cannot be used, or what it needs beside itself, empty for what is whole; forecast:
    of a model that is whole.
    """

    name: str
    kind: str
    title: str
    size: int
    why: str = ""
    forecast: Forecast | None = None

    @property
    def size_in_words(self) -> str:
        """Its size, in GB from 1 GB on and in MB below."""
        return f"{self.size / 1e9:.1f} GB" if self.size >= 1e9 else f"{self.size / 1e6:.1f} MB"


@typed_arguments
def models_on_disk(folders: Sequence[str | os.PathLike[str]] = ()) -> list[OnDisk]:
    """What is in these folders, or without folders in the hub's cache: models first, each kind by its name.

    A folder may be a pipeline of diffusers, a folder with pipelines and .safetensors files, or that of ComfyUI or
    A1111. Raises ValueError for one that does not exist.
    """
    found = [one for folder in folders for one in _in_folder(Path(folder).expanduser())] if folders else list(_cached())
    kinds = (MODEL, LORA, AUTOENCODER, PREVIEW, EMBEDDING, OTHER)
    return sorted(found, key=lambda one: (kinds.index(one.kind), bool(one.why), one.name))


# -- the hub's cache ----------------------------------------------------------------------------------------


def cache_home() -> Path:
    """The hub's cache, as `HF_HUB_CACHE` names it now."""
    with extra("sd"):
        from huggingface_hub.constants import HF_HUB_CACHE

    return Path(os.environ.get("HF_HUB_CACHE") or HF_HUB_CACHE)


def _cached() -> Iterator[OnDisk]:
    for home in sorted(cache_home().glob("models--*--*")):
        repo = "/".join(home.name.removeprefix("models--").split("--", 1))
        folder = cached_folder(repo)
        if folder is not None:
            yield _pipeline(folder, repo, f"Not all of it is here. To complete it: {fetch_command(repo)}")


# -- folders ------------------------------------------------------------------------------------------------


def _in_folder(folder: Path) -> Iterator[OnDisk]:
    if folder.is_file():
        yield of_file(folder)
        return
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}. Give the whole path of one that holds models.")
    kept = [folder / place for place in KEPT_IN if (folder / place).is_dir()]
    of_program = any((folder / place).is_dir() for place in OF_PROGRAMS)
    seen: set[Path] = set()
    for top in kept if of_program else [folder]:
        yield from _below(top, DEEPEST, seen)


def _below(folder: Path, deep: int, seen: set[Path]) -> Iterator[OnDisk]:
    """What a folder holds; seen: the folders that were read already, because links may lead back to them."""
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    if len(seen) > MOST:
        raise ValueError(f"More than {MOST} folders lie below the one that is named: name one that holds models.")
    if (folder / INDEX).is_file():
        yield _pipeline(folder, str(folder), "")
        return
    try:
        inside = sorted(folder.iterdir(), key=lambda path: path.name)
    except PermissionError:
        yield OnDisk(str(folder), OTHER, "a folder", 0, "It cannot be read: permission denied.")
        return
    parts = [path for path in inside if path.name in PARTS and any(path.glob("*config.json"))]
    if len(parts) >= 2:  # a pipeline's folder, without the file that says so
        why = f"There is no {INDEX} in it, so it is not whole: copy or download the folder again."
        yield OnDisk(str(folder), OTHER, "a part of a pipeline", _size(folder.rglob("*.safetensors")), why)
        return
    for path in inside:
        if path.is_dir() and deep > 0 and not path.name.startswith("."):
            yield from _below(path, deep - 1, seen)
        elif path.is_file() and path.suffix in (".safetensors", *PICKLED):
            yield of_file(path)


def _size(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())


def _pipeline(folder: Path, name: str, incomplete: str) -> OnDisk:
    """A folder in diffusers' format; incomplete: what to do if a part of it is missing, if not what its error says."""
    size = _size(folder.rglob("*.safetensors"))
    try:
        return _whole(read_pipeline(folder, str(folder)), name, size)
    except WeightsUnavailableError as error:
        return OnDisk(name, MODEL, "a pipeline", size, incomplete or _without(error, folder))
    except (OSError, ValueError) as error:
        return OnDisk(name, OTHER, "a pipeline", size, _without(error, folder))


def _whole(weights: Weights, name: str, size: int) -> OnDisk:
    found = forecast_of(weights)
    return OnDisk(name, MODEL, weights.family.title, size, forecast=found)


def of_file(file: Path) -> OnDisk:
    """What a single file holds, by the names of its tensors."""
    size = file.stat().st_size
    if file.suffix in PICKLED:
        return OnDisk(str(file), OTHER, "a pickled file", size, f"{REFUSED_PICKLES[0].upper()}{REFUSED_PICKLES[1:]}.")
    try:
        header = read_header(file)
        if is_preview_decoder(header):
            return OnDisk(str(file), PREVIEW, kind_of(file), size)
        if (known := _kind(header)) is not None:
            return OnDisk(str(file), known[0], known[1], size, known[2])
        return _whole(find_weights(file), str(file), size)
    except (OSError, ValueError) as error:
        if title := _title_of_model(file):  # it needs something beside its file
            return OnDisk(str(file), MODEL, title, size, _without(error, file))
        return OnDisk(str(file), OTHER, "", size, _without(error, file))


def _kind(header: Header) -> tuple[str, str, str] | None:
    """(kind, title, why it cannot be used) of a file that holds no model."""
    if any(OTHER_ADAPTERS.search(name) for name in header.shapes):
        return OTHER, "an adapter", "This is a LoHa or LoKr, which is not supported; LoRAs are."
    if is_lora(header):
        return LORA, f"for {made_for(header)}", ""
    if is_embedding(header):
        return EMBEDDING, "", ""
    networks = ("model.diffusion_model.", "double_blocks.")
    if any(map(header.begins, AUTOENCODERS)) and not any(map(header.begins, networks)):
        return AUTOENCODER, "", ""
    return None


def _title_of_model(file: Path) -> str:
    """The model that a file holds, though it may say not all of itself; empty if it holds none that is supported."""
    for prediction in (None, *PREDICTIONS):
        try:
            return identify(file, prediction).title
        except (OSError, ValueError):
            continue
    return ""


def _without(error: Exception, path: Path) -> str:
    """An error's message without the path that it begins with, because the path stands beside it."""
    said = str(error).strip()
    for beginning in (f"{path}: ", f"{path} "):
        if said.startswith(beginning):
            said = said.removeprefix(beginning)
            return f"This {said}" if beginning.endswith(f"{path} ") else said[0].upper() + said[1:]
    return shortened(said, 400)[1:-1] if len(said) > 400 else said
