"""Optional packages: the extras of this project that install them, and the error message if one is missing.

with extra("sd"):
    import diffusers
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

EXTRAS = {  # the purpose of each extra, for the message; pyproject.toml lists the packages of each
    "app": "the explorer",
    "cifar10": "the networks that were trained on CIFAR-10",
    "course": "the notebooks",
    "data": "downloading and reading data sets",
    "molecules": "naming molecules (RDKit)",
    "sd": "Stable Diffusion",
    "train": "training",
}


class MissingExtraError(OSError):
    """An optional package is not installed; the message contains the command that installs it."""


def missing(name: str, package: str) -> MissingExtraError:
    """Make the error for a package of the extra `name` that is not installed."""
    return MissingExtraError(
        f'{package} is not installed. It is needed for {EXTRAS[name]}: pip install "diffusion-explained[{name}]"'
    )


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import the optional packages of an extra inside this block.

    Raises MissingExtraError, with the command that installs the extra, if a package that it imports is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "diffusion_explained"):  # an error in this package, which no installation repairs
            raise
        raise missing(name, package) from error


def require(name: str, package: str) -> None:
    """Raise MissingExtraError unless a package of the extra `name` is installed; the package is not imported."""
    if importlib.util.find_spec(package) is None:
        raise missing(name, package)
