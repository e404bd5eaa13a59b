"""What is imported only where it is needed: optional packages, with the error message if one is missing, and modules.

with extra("sd"):
    import diffusers
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType

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


def modules_at_first_use(package: str, path: Iterable[str]) -> Callable[[str], ModuleType]:
    """A package's `__getattr__`: after `from diffusion_explained import micro`, `micro.emoji` imports that module.

    package, path: the package's `__name__` and `__path__`. The function that it returns raises AttributeError for a
    name that is no module of the package.
    """
    names = {module.name for module in pkgutil.iter_modules(path)}

    def module(name: str) -> ModuleType:
        if name in names:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return module
