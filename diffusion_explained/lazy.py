"""The modules of a package as its attributes: after `from diffusion_explained import micro`, `micro.emoji` is there."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from types import ModuleType


def modules_at_first_use(package: str, path: Iterable[str]) -> Callable[[str], ModuleType]:
    """A package's `__getattr__`: `micro.emoji` imports `diffusion_explained.micro.emoji` at its first use.

    package, path: the package's `__name__` and `__path__`. The function that it returns raises AttributeError for a
    name that is no module of the package.
    """
    names = {module.name for module in pkgutil.iter_modules(path)}

    def module(name: str) -> ModuleType:
        if name in names:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return module
