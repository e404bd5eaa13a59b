"""Widgets for notebooks: the scrubber over a stored run, figures that the kernel draws when a slider moves, sounds.

None uses `interact` or an Output widget: their content is the widget's own state, so a committed notebook stays
small, and nbval does not compare content that changes.
"""

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from diffusion_explained.checks import check_some, typed_arguments
from diffusion_explained.extras import extra
from diffusion_explained.film import Film, evenly_spaced, film_of, script, strip, style
from diffusion_explained.plots import alt_text, png
from diffusion_explained.plots.point_films import LAYERS, PlaneFilm
from diffusion_explained.samplers import Step
from diffusion_explained.stable_diffusion.pipeline_films import PipelineRun, to_message

with extra("course"):
    import anywidget
    import ipywidgets
    import traitlets

STRIP_FRAMES = 5  # of a scrubber, where no kernel runs


class Scrubber(anywidget.AnyWidget):
    """A film with a slider: all frames are sent once, and the browser draws the frame at every move of the slider.

    frame: the slider's position; set it from Python to move the slider, or observe it to follow the reader (it is
    reported when the slider is released, and when playing stops).
    """

    _esm = script("scrubber")
    _css = style("scrubber")
    film = traitlets.Dict().tag(sync=True)
    frame = traitlets.Int(0).tag(sync=True)

    def __init__(self, film: Film, frame: int = 0) -> None:
        super().__init__(film=film.to_message(), frame=frame)

        frames = evenly_spaced(len(film.frames), STRIP_FRAMES)
        captions = "; ".join(film.captions[frame] for frame in frames)
        self._still = strip(film, frames)
        self._words = f"{len(frames)} of {len(film.captions)} frames of {', '.join(film.alts)}: {captions}"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        """The widget, and beside it a strip of frames for pages that run no kernel (GitHub, nbviewer)."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        still = {"image/png": base64.b64encode(self._still).decode()}
        return {**data, **still}, {**metadata, "image/png": {"alt": self._words}}

    def __repr__(self) -> str:
        return f"Scrubber({len(self.film['captions'])} frames of {', '.join(self.film['titles'])})"

    @traitlets.validate("frame")
    def _frame_exists(self, proposal: dict) -> int:
        return _frame_of(self.film, proposal["value"])


def _frame_of(film: Mapping[str, Any], frame: int) -> int:
    count = len(film.get("captions", ()))
    if count and not 0 <= frame < count:
        raise traitlets.TraitError(f"frame must be 0 .. {count - 1} for this film, got {frame}.")
    return frame


@typed_arguments
def scrub(steps: Sequence[Step] | Film, *, columns: int | None = None, frame: int = -1) -> Scrubber:
    """The scrubber over a sampler's steps (or over any film); a negative frame counts from the end.

    It shows x_t, predicted x_0 and, with guidance, both predictions of the noise and their difference, step by step.
    """
    kept = steps if isinstance(steps, Film) else film_of(list(steps), columns)
    return Scrubber(kept, frame if frame >= 0 else len(kept.captions) + frame)


class Plane(anywidget.AnyWidget):
    """A film of points in the plane: all frames are sent once, and the browser draws every move of the slider.

    at: the slider's place in thousandths, 0 for noise and 1000 for data; set or observe it as a `Scrubber`'s frame.
    layers: what is drawn beside the points at first, of `plots.point_films.LAYERS`.
    """

    _esm = script("plane")
    _css = style("plane")
    film = traitlets.Dict().tag(sync=True)
    at = traitlets.Int(1000).tag(sync=True)
    layers = traitlets.List(traitlets.Enum(LAYERS)).tag(sync=True)

    def __init__(self, film: PlaneFilm, at: int = 1000, layers: Sequence[str] = ("density", "paths")) -> None:
        super().__init__(film=film.to_message(), at=at, layers=list(layers))

    def __repr__(self) -> str:
        titles = ", ".join(panel["title"] for panel in self.film["panels"])
        return f"Plane({len(self.film['captions'])} frames of {titles})"

    @traitlets.validate("at")
    def _place_exists(self, proposal: dict) -> int:
        if not 0 <= proposal["value"] <= 1000:
            raise traitlets.TraitError(f"at must be 0 .. 1000, from noise to data; got {proposal['value']}.")
        return proposal["value"]


class Pipeline(anywidget.AnyWidget):
    """One run of text to image, or two on one timeline, as the picture of the whole, from the words to the picture.

    frame: the slider's position, as a `Scrubber`'s.
    """

    _esm = script("pipeline")
    _css = style("pipeline")
    film = traitlets.Dict().tag(sync=True)
    frame = traitlets.Int(0).tag(sync=True)

    def __init__(self, runs: Sequence[PipelineRun], apart: Sequence[float] = ()) -> None:
        """runs, apart: of `stable_diffusion.pipeline_films`. The slider begins at the end of the run."""
        message = to_message(runs, apart)
        super().__init__(film=message, frame=len(message["captions"]) - 1)

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(run['name'] for run in self.film['runs'])})"

    @traitlets.validate("frame")
    def _frame_exists(self, proposal: dict) -> int:
        return _frame_of(self.film, proposal["value"])


@typed_arguments
def explore(draw: Callable[..., Figure], **sliders: ipywidgets.Widget) -> ipywidgets.VBox:
    """Sliders above a figure that the kernel draws again at every change: draw(**values) -> Figure.

    explore(lambda t: plots.pixel_histogram(x_at(t)), t=ipywidgets.IntSlider(500, 0, 999, description="t"))

    An error in `draw` is raised where the slider was changed, and is not suppressed.
    """
    picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%"))

    def redraw(_: object = None) -> None:
        fig = draw(**{name: slider.value for name, slider in sliders.items()})
        picture.tooltip = alt_text(fig)
        picture.value = png(fig, dpi=90)

    for slider in sliders.values():
        slider.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*sliders.values(), picture])


class Sounds:
    """Sounds, each with a player of the browser beside its words; they play where no kernel runs, too.

    sounds: words -> the content of a WAV file. The words say what is heard, for those who do not hear it.

    Raises ValueError for no sounds.
    """

    @typed_arguments
    def __init__(self, sounds: Mapping[str, bytes]) -> None:
        check_some("sounds", sounds)
        self.sounds = dict(sounds)

    def __repr__(self) -> str:
        return f"The sounds in words: {'; '.join(self.sounds)}"

    def _repr_html_(self) -> str:
        """A table of players: one row per sound."""
        rows = []
        for words, content in self.sounds.items():
            said, encoded = html.escape(words), base64.b64encode(content).decode()
            player = (
                f'<audio controls preload="metadata" aria-label="{said}" src="data:audio/wav;base64,{encoded}"></audio>'
            )
            rows.append(f'<tr><td style="text-align: left">{said}</td><td>{player}</td></tr>')
        return f"<table>{''.join(rows)}</table>"
