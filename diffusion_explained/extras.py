"""Optional packages: which extra of this project brings each of them, and the one sentence where one is missing.

with extra("sd"):
    import diffusers
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

EXTRAS = {  # what each is for, as the message says it; pyproject.toml lists what each brings
    "app": "the explorer",
    "cifar10": "the networks that were trained on CIFAR-10",
    "course": "the notebooks",
    "data": "downloading and reading data sets",
    "sd": "Stable Diffusion",
    "train": "training",
}


class MissingExtraError(OSError):
    """An optional package is not installed; the message is the line that installs it."""


def missing(name: str, package: str) -> MissingExtraError:
    """The error for a package of the extra `name` that is not installed."""
    return MissingExtraError(
        f'{package} is not installed. It is needed for {EXTRAS[name]}: pip install "diffusion-explained[{name}]"'
    )


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import the optional packages of an extra inside this block.

    Raises MissingExtraError, with the line that installs the extra, if a package that it imports is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "diffusion_explained"):  # a mistake of ours, which no installation mends
            raise
        raise missing(name, package) from error


def require(name: str, package: str) -> None:
    """Raise MissingExtraError unless a package of the extra `name` is installed; nothing is imported."""
    if importlib.util.find_spec(package) is None:
        raise missing(name, package)
