"""How a figure appears in a notebook: as a PNG with its alt text, in every environment of the reader.

The alt text stands in the output's metadata (`image/png`, `alt`), where nbconvert and MyST read it, and below the image
as a folded text, because JupyterLab and GitHub read no metadata of an image.
"""

import html
import sys

import matplotlib
from matplotlib.backends import backend_registry
from matplotlib.figure import Figure

from diffusion_explained.extras import extra

SUMMARY = "The figure in words"


class DescribedFigure(Figure):
    """A Figure that a notebook displays together with its alt text, which is the figure's label."""

    def _ipython_display_(self) -> None:
        with extra("course"):
            from IPython.core.pylabtools import print_figure
            from IPython.display import display

        words = " ".join(str(self.get_label()).split())
        image = {"image/png": print_figure(self, "png", base64=True), "text/plain": repr(self)}
        display(image, raw=True, metadata={"image/png": {"alt": words}})
        folded = f"<details><summary>{SUMMARY}</summary>{html.escape(words)}</details>"
        display({"text/html": folded, "text/plain": f"{SUMMARY}: {words}"}, raw=True)


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
