"""How a figure appears in a notebook: with its alt text, in every environment of the reader."""

import sys
from typing import Any

import matplotlib
from matplotlib.backends import backend_registry
from matplotlib.figure import Figure


class DescribedFigure(Figure):
    """A Figure whose image in a notebook's output has an alt text, the figure's label.

    The text is in the output's metadata (`image/png`, `alt`), where nbconvert and MyST read it.
    """

    def __repr__(self) -> str:
        return super().__repr__().replace(type(self).__name__, "Figure", 1)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        words = " ".join(str(self.get_label()).split())
        return {}, {"image/png": {"alt": words}} if words else {}


def ignore_environment() -> None:
    """In a Jupyter kernel: draw with matplotlib's defaults, inline; elsewhere nothing is changed.

    The variable MPLBACKEND and a matplotlibrc of the reader would otherwise decide whether the course's figures appear,
    and how they look. A style that is set afterwards stays.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return
    matplotlib.rcdefaults()
    backend = matplotlib.rcParams["backend"]
    if isinstance(backend, str) and backend.lower() in set(backend_registry.list_builtin()) - {"nbagg"}:
        shell.run_line_magic("matplotlib", "inline")
