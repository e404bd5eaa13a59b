"""Check what runs on this machine: device, weights, data, Stable Diffusion; and say what to do if a part is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from diffusion_explained.extras import MissingExtraError, missing, require


@dataclass(frozen=True)
class Finding:
    """The result of one check. "missing" is something optional that can be installed; "broken" needs repair."""

    name: str
    status: Literal["ok", "missing", "broken"]
    text: str
    advice: str = ""


def examine() -> Iterator[Finding]:
    """Run all checks, and yield one finding per check; an error in a check is itself a finding."""
    for name, check in CHECKS.items():
        try:
            yield check(name)
        except MissingExtraError as error:
            yield Finding(name, "missing", "a package that it needs is not installed", str(error))
        except Exception as error:  # the other checks must still run
            yield Finding(name, "broken", f"{type(error).__name__}: {error}", "Install the package again.")


def _python(name: str) -> Finding:
    versions = ", ".join(f"{library} {_version(library)}" for library in ("torch", "streamlit", "jupyterlab"))
    return Finding(name, "ok", f"Python {platform.python_version()} on {platform.platform(terse=True)}; {versions}")


def _device(name: str) -> Finding:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = f"the CPU, {torch.get_num_threads()} threads on {cores} cores"
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        return Finding(name, "ok", f"{gpu.name} with {gpu.total_memory / 2**30:.0f} GiB (--device cuda), and {cpu}")
    if torch.backends.mps.is_available():
        return Finding(name, "ok", f"this Mac's GPU (--device mps), and {cpu}")
    return Finding(name, "ok", f"{cpu}; no GPU, but the course and the explorer need none")


def _weights(name: str) -> Finding:
    from diffusion_explained.pretrained import available, cifar10_folder, load_pretrained

    parameters = {}
    for model in available():
        network = load_pretrained(model).network  # reads every tensor, so a truncated file is detected
        parameters[model] = sum(p.numel() for p in network.parameters()) / 1e6
    if not parameters:
        return Finding(name, "broken", "no trained network is here", "Install the package again.")
    here = ", ".join(f"{model} ({millions:.1f} M)" for model, millions in parameters.items())
    if cifar10_folder() is None:
        return Finding(name, "missing", here, str(missing("cifar10", "diffusion-explained-cifar10")))
    return Finding(name, "ok", here)


def _speed(name: str) -> Finding:
    from diffusion_explained.pretrained import available, load_pretrained

    model = load_pretrained("mnist_unet_flow" if "mnist_unet_flow" in available() else available()[0])
    seconds = []
    for _ in range(2):  # the first run also warms up
        started = time.perf_counter()
        model.sample(batch_size=16, num_inference_steps=10)
        seconds.append(time.perf_counter() - started)
    return Finding(name, "ok", f"16 images of {model.name} in 10 steps take {min(seconds):.2f} s on this CPU")


def _server(package: str, extra: str) -> Callable[[str], Finding]:
    def check(name: str) -> Finding:
        require(extra, package)
        return Finding(name, "ok", f"{package} {_version(package)} is installed")

    return check


def _digits(name: str) -> Finding:
    from diffusion_explained.data import bundled_mnist

    return Finding(name, "ok", f"{bundled_mnist()}")


def _dataset(dataset: str, size: str) -> Callable[[str], Finding]:
    def check(name: str) -> Finding:
        from diffusion_explained.data import DataUnavailableError
        from diffusion_explained.data.hub import fetch_command, hub_file
        from diffusion_explained.data.hub_datasets import DATASETS
        from diffusion_explained.data.load import cache_folder

        known = DATASETS[dataset]
        absent = []
        for split, file in known.splits.items():
            if (cache_folder() / f"{dataset}-{split}.safetensors").is_file():
                continue
            try:
                hub_file(known.repo_id, file.filename, download=False)
            except DataUnavailableError:
                absent.append(file.filename)
        if not absent:
            return Finding(name, "ok", f"all of {dataset} is on this machine")
        commands = "\n".join(fetch_command(known.repo_id, filename) for filename in absent)
        return Finding(
            name, "missing", f"not on this machine ({size})", f"It is downloaded on first use, or by\n{commands}"
        )

    return check


def _micro(name: str) -> Finding:
    from diffusion_explained.stable_diffusion.families import MICRO
    from diffusion_explained.stable_diffusion.listing import WeightsUnavailableError
    from diffusion_explained.stable_diffusion.weights import find_weights

    try:
        weights = find_weights(MICRO)
    except WeightsUnavailableError as error:
        return Finding(name, "missing", "its weights are not here", str(error))
    size = sum(file.stat().st_size for file in weights.folder.rglob("*") if file.is_file()) / 1e6
    return Finding(name, "ok", f"{weights.name}, {size:.0f} MB, is here, and needs no GPU (--model {MICRO})")


def _stable_diffusion(name: str) -> Finding:
    import torch

    from diffusion_explained.stable_diffusion.downloads import fetch_command
    from diffusion_explained.stable_diffusion.families import DEFAULT_MODEL, SIZES_GB, names_of
    from diffusion_explained.stable_diffusion.weights import cached_folder, find_weights

    for library in ("diffusers", "transformers"):
        if not _version(library):
            return Finding(name, "missing", f"{library} is not installed", str(missing("sd", library)))
    here, partly = [], []
    for model in SIZES_GB:
        if not any(cached_folder(repo) for repo in names_of(model)):
            continue
        try:
            find_weights(model)
            here.append(model)
        except (OSError, ValueError) as error:
            partly.append(str(error))
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    speed = "" if gpu else "; without a GPU one picture takes minutes, with --device cpu"
    library = f"diffusers {_version('diffusers')} is installed"
    if here:
        return Finding(
            name, "ok", f"{library}, and the weights of {', '.join(here)} are here{speed}", "\n".join(partly)
        )
    absent = f"the weights of {DEFAULT_MODEL} are not on this machine (about {SIZES_GB[DEFAULT_MODEL]} GB)"
    advice = [*partly, f"With a network: {fetch_command(DEFAULT_MODEL)}"]
    advice.append("Without: everything about Stable Diffusion also runs with a stand-in, tiny and with random weights.")
    return Finding(name, "missing", f"{library}; {absent}{speed}", "\n".join(advice))


def _network(name: str) -> Finding:
    from diffusion_explained.data.hub import hub_is_reachable

    if hub_is_reachable():
        return Finding(name, "ok", "the Hugging Face hub answers")
    return Finding(
        name,
        "missing",
        "the Hugging Face hub does not answer, or HF_HUB_OFFLINE is set",
        "The course and the explorer need no network; only downloads do.",
    )


def _version(library: str) -> str:
    """The installed version of a library, "" if it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""


CHECKS: dict[str, Callable[[str], Finding]] = {
    "Python": _python,
    "Device": _device,
    "Weights": _weights,
    "Micro Stable Diffusion": _micro,
    "Speed": _speed,
    "Explorer": _server("streamlit", "app"),
    "Course": _server("jupyterlab", "course"),
    "Bundled digits": _digits,
    "MNIST": _dataset("mnist", "20 MB to download"),
    "CIFAR-10": _dataset("cifar10", "136 MB to download"),
    "Stable Diffusion": _stable_diffusion,
    "Network": _network,
}
