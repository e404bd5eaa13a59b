"""A sampling run as a film of small images, which the scrubber shows in a browser and from which a GIF is made.

A `Film` is rendered once, by NumPy and Pillow, with one film pixel per image pixel; the program that shows it scales it
up. Titles and captions stay text, so that a browser sets them in its own font and a screen reader can read them.
"""

import base64
import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffusion_explained.charts import Chart, Triangle
from diffusion_explained.checks import all_of, check_finite, check_some, float_data, number, typed_arguments, whole
from diffusion_explained.forward import add_noise
from diffusion_explained.palette import LIGHT, diverging, rgb
from diffusion_explained.samplers import Step
from diffusion_explained.schedules import Level

# for Pillow's default font, which lacks these characters
ASCII = str.maketrans({"ₜ": "_t", "₀": "_0", "ε": "eps", "α": "alpha", "σ": "sigma"})
GIF_WIDTH = 640  # pixels
STRIP_SHADES = 16  # noise does not compress, and executed notebooks store their strips
_HERE = Path(__file__).parent
_SCRIPTS = {
    "scrubber": ("canvas", "lead", "branch", "parts", "scrubber"),
    "plane": ("canvas", "pen", "plane"),
    "pipeline": ("canvas", "lead", "pipeline_boxes", "pipeline"),
    "charts": ("canvas", "charts"),
    "curve": ("canvas", "curve"),
}  # the parts of each
EPS_SHADES = 2.2  # standard deviations from grey to black, or white, where noise is shown as an image
EPS_RANGE = 3.0  # the colours of noise panels range from -3 to 3 standard deviations


def script(name: str) -> str:
    """The JavaScript module that shows a film: "scrubber" one of images, "plane" one of points, "pipeline" whole runs.

    "charts" shows charts without a film, and "curve" a schedule that is dragged.

    Notebooks and explorer use the same scripts. A script is one module without imports, so that it needs no server.
    """
    return "\n".join((_HERE / f"{part}.js").read_text("utf-8") for part in _SCRIPTS[name])


def style(name: str) -> str:
    """The style sheet of "scrubber", "plane" or "pipeline"."""
    return (_HERE / f"{name}.css").read_text("utf-8")


@dataclass(frozen=True)
class Lead:
    """The first panel of a film, of which one image is shown large; the slider stands below it.

    beside: what stands at its side: "panels", the other panels; "charts"; "step", the sampler's step as arithmetic:
    the images of panels 1 and 2 (x_0 and eps), and the next state, which is their weighted sum; "pair", another run:
    panels 0 and 1 are x_t and x_0 of the run, 2 and 3 those of its branch; or "row": all panels are equally large.
    ends: the colours of the slider's ends, "data" or "noise"; none for a slider that is not time.
    height, width, columns, gap: of an image in the panel's mosaic, in pixels; names: one per image; pick: the image
    that is shown at first. weights: for "step", (alpha, sigma) of each frame; rests: for "step", by how much each next
    state differs from the weighted sum (root mean square), because the sampler adds noise or a correction.
    sides: for "pair", what the run and its branch are called; fork: for "pair", the frame at which the branch begins.
    """

    beside: str
    ends: tuple[str, str] | None = None
    height: int = 0
    width: int = 0
    columns: int = 1
    gap: int = 2
    names: tuple[str, ...] = ("",)
    pick: int = 0
    weights: tuple[tuple[float, float], ...] = ()
    rests: tuple[float, ...] = ()
    sides: tuple[str, ...] = ()
    fork: int = 0


@dataclass(frozen=True)
class Film:
    """Frames of equal size, each with all panels one above the other.

    frames: one PNG per frame, (len(titles) * height) x width pixels, RGBA.
    titles: one per panel; captions: one per frame; alts: one per panel, its alt text.
    height, width: of one panel, in pixels; rows: the number of panels in each row when the film is shown.
    columns: the number of panels that fill a row; None for as many as the row has.
    lead: how the first panel is shown large; None for a film whose panels are all equally large.
    """

    frames: tuple[bytes, ...]
    captions: tuple[str, ...]
    titles: tuple[str, ...]
    alts: tuple[str, ...]
    height: int
    width: int
    rows: tuple[int, ...]
    charts: tuple[Chart | Triangle, ...] = ()
    columns: int | None = None
    lead: Lead | None = None

    @property
    def key(self) -> str:
        """A digest of the film's content, by which a browser recognizes a film that it already has."""
        words = repr((self.captions, self.titles, self.rows, self.charts, self.lead)).encode()
        return hashlib.sha256(b"".join((words, *self.frames))).hexdigest()[:16]

    def to_message(self) -> dict[str, Any]:
        """The message for scrubber.js, as plain JSON; the frames are in base64."""
        return {**asdict(self), "frames": [base64.b64encode(frame).decode() for frame in self.frames], "key": self.key}


@typed_arguments
def pixels(images: Tensor, limit: float | None = None) -> np.ndarray:
    """Convert images [B, C, H, W] to RGBA bytes [B, H, W, 4].

    Without a limit they are images in [-1, 1], grey or RGB, and values beyond are clipped. With a limit they are signed
    fields (noise, differences): one value per pixel (`one_value`), on the diverging colour map from -limit to limit.
    Raises ValueError for another shape, for bytes, for NaN or infinity, and for a limit that is no number, 0 or more.
    """
    if float_data("images", images).ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"Images must be [B, 1 or 3, H, W], got a tensor of shape {tuple(images.shape)}.")
    check_finite(images, "images")
    if limit is None:
        array = images.detach().float().cpu().numpy()
        coloured = ((np.clip(array, -1, 1) + 1) * 127.5).round().astype(np.uint8).transpose(0, 2, 3, 1)
        coloured = np.broadcast_to(coloured, (*coloured.shape[:3], 3))
    else:
        limit = number("limit", limit, "a number, 0 or more, or None for images", 0)
        coloured = diverging(one_value(images).cpu().numpy() / (limit or 1.0))
    return np.concatenate([coloured, np.full((*coloured.shape[:3], 1), 255, np.uint8)], axis=-1)


def one_value(field: Tensor) -> Tensor:
    """A signed field [B, C, H, W] as one value per pixel [B, H, W]: the sum over channels / sqrt(C).

    So noise that is N(0, 1) in each channel of a colour image stays N(0, 1). Raises ValueError for another shape.
    """
    if float_data("field", field).ndim != 4:
        raise ValueError(f"field must be [B, C, H, W]; got {list(field.shape)}.")
    return field.detach().float().sum(dim=1) / field.shape[1] ** 0.5


def default_columns(count: int) -> int:
    """The number of columns for a mosaic of `count` images: one row up to 4, then about twice as wide as high."""
    count = whole("count", count, 1)
    return count if count <= 4 else int(np.ceil(np.sqrt(2 * count) if count > 8 else count / 2))


@typed_arguments
def mosaic(tiles: np.ndarray, columns: int | None = None, gap: int = 2) -> np.ndarray:
    """Arrange tiles [B, H, W, 4] in rows of `columns`, with transparent gaps: bytes [H', W', 4].

    Raises ValueError for tiles that are no bytes [B, H, W, 4], as `pixels` makes them.
    """
    if tiles.ndim != 4 or tiles.shape[3] != 4 or len(tiles) == 0 or tiles.dtype != np.uint8:
        raise ValueError(
            f"tiles must be bytes [B, H, W, 4], as film.pixels makes them; got {list(tiles.shape)} of {tiles.dtype}."
        )
    columns, gap = None if columns is None else whole("columns", columns, 1), whole("gap", gap, 0)
    count, height, width, _ = tiles.shape
    columns = columns or default_columns(count)
    rows = -(-count // columns)
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8)
    for k, tile in enumerate(tiles):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet


@typed_arguments
def png(sheet: np.ndarray) -> bytes:
    """Bytes [H, W, 3 or 4] as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


@typed_arguments
def film(
    panels: Sequence[tuple[str, str, Sequence[np.ndarray]]],
    captions: Sequence[str],
    *,
    rows: Sequence[int] = (),
    charts: Sequence[Chart | Triangle] = (),
    columns: int | None = None,
    lead: Lead | None = None,
) -> Film:
    """Make a film of panels (title, alt text, one mosaic per frame); all mosaics have the same shape [H, W, 4].

    rows: the number of panels in each row; by default up to four are in one row, and five in rows of two and three.
    columns: the number of columns of every row, even if a row has fewer panels, so that all are drawn equally large.
    lead: how the first panel is shown large.
    Raises ValueError if a panel's number of frames is not that of captions, if rows do not add up to the panels, and
    for mosaics of different shapes.
    """
    check_some("panels", panels)
    check_some("captions", captions)
    rows = tuple(rows) or ((len(panels),) if len(panels) < 5 else (2, len(panels) - 2))
    if sum(rows) != len(panels):
        raise ValueError(f"rows {rows} hold {sum(rows)} panels, but there are {len(panels)}.")
    for title, _, sheets in panels:
        if len(sheets) != len(captions):
            raise ValueError(f"Panel {title!r} has {len(sheets)} frames, but there are {len(captions)} captions.")
    if len(shapes := {sheet.shape for _, _, sheets in panels for sheet in sheets}) != 1:
        raise ValueError(f"All mosaics of a film must have the same shape; got {sorted(shapes)}.")
    frames = tuple(png(np.concatenate([sheets[k] for _, _, sheets in panels])) for k in range(len(captions)))
    height, width = panels[0][2][0].shape[:2]
    titles, alts = tuple(title for title, _, _ in panels), tuple(alt for _, alt, _ in panels)
    return Film(frames, tuple(captions), titles, alts, height, width, rows, tuple(charts), columns, lead)


@typed_arguments
def shown(x_t: Tensor, level: Level) -> Tensor:
    """x_t scaled for display: divided by its standard deviation if that exceeds 1 (EDM's x_t reaches 80).

    x_t [B, ...] -> [B, ...].
    """
    return x_t / max(1.0, (level.alpha**2 + level.sigma**2) ** 0.5)


@typed_arguments
def difference(step: Step) -> Tensor:
    """The difference eps_cond - eps_uncond, which guidance amplifies, [B, ...]; zero where guidance is off."""
    if step.pred.eps_uncond is None:
        return torch.zeros_like(step.x_t)
    return step.pred.eps_cond - step.pred.eps_uncond


@typed_arguments
def difference_range(steps: Sequence[Step]) -> float:
    """The largest |eps_cond - eps_uncond| of a guided run (99.5th percentile, so that single pixels do not decide)."""
    parts = [one_value(difference(step)).abs().flatten() for step in steps]
    return max((float(part.quantile(0.995)) for part in parts), default=1.0) or 1.0


@typed_arguments
def step_fields(steps: Sequence[Step]) -> list[tuple[str, str, Callable[[Step], Tensor], float | None]]:
    """The fields to show of a run: (title, alt text, function from step to field, limit of the colour map or None).

    Without guidance there is no unconditional prediction and no difference: both are omitted if guidance is off at
    every step, and blank at single steps where it is off (`NetworkDenoiser`'s guidance_interval).
    """
    fields: list[tuple[str, str, Callable[[Step], Tensor], float | None]] = [
        ("xₜ", "the noisy images", lambda s: shown(s.x_t, s.level), None),
        ("predicted x₀", "the clean images that the network predicts", lambda s: s.pred.x_0, None),
        ("ε conditional", "the noise predicted with the class", lambda s: s.pred.eps_cond, EPS_RANGE),
    ]
    off = [s.pred.eps_uncond is None for s in steps]
    if not all(off):
        limit, where = difference_range(steps), "; blank where guidance is off" if any(off) else ""

        def uncond(step: Step) -> Tensor:
            return torch.zeros_like(step.x_t) if step.pred.eps_uncond is None else step.pred.eps_uncond

        fields += [
            ("ε unconditional", f"the noise predicted without the class{where}", uncond, EPS_RANGE),
            (f"difference (±{limit:.2g})", f"conditional minus unconditional noise{where}", difference, limit),
        ]
    return fields


@typed_arguments
def caption(step: Step, count: int) -> str:
    """The caption of a step in one line: its number, its time, its signal and its noise."""
    return level_caption(step.i, step.level, count)


@typed_arguments
def level_caption(i: int, level: Level, count: int) -> str:
    """The caption of step i at a level, for a run that is kept without its `Step`s."""
    return f"step {i + 1} of {count} · t = {level.t:.4g} · α = {level.alpha:.3f} · σ = {level.sigma:.3g}"


def film_of(
    steps: Iterable[Step],
    columns: int | None = None,
    *,
    count: int | None = None,
    panels: int | None = None,
    rows: Sequence[int] = (),
    large: Sequence[str] = (),
    pick: int = 0,
) -> Film:
    """The film of a sampler's steps and the final image: x_t, predicted x_0, eps with and without class, difference.

    In the last frame x_t is the final sample, beside the last prediction. Raises ValueError if there are no steps.

    Args:
        steps: the steps to show.
        columns: the number of columns of each panel's mosaic of images.
        count: the number of steps of the whole run, if its last ones were not kept; by default the last step ends it.
        panels: show only the first `panels` panels. rows: the number of panels in each row.
        large: the names of the images, to show one of them (at first number `pick`) large, with its step as arithmetic
            (unless `panels` leaves eps out); a third panel then shows eps as an image, grey where it is 0.
    """
    steps = all_of("steps", steps, Step)
    if not steps:
        raise ValueError("There are no steps to show: a sampler yields at least one.")
    panels = None if panels is None else whole("panels", panels, 1)
    shown_panels = []
    fields = step_fields(steps)
    if large:
        as_image = ("predicted ε", "the noise that the sampler uses", lambda s: s.pred.eps / EPS_SHADES, None)
        fields.insert(2, as_image)
    for k, (title, alt, field, limit) in enumerate(fields[:panels]):
        shown_panels.append((title, alt, _sheets(steps, field, limit, columns, ends=k == 0)))
    captions = _captions(steps, count)
    lead = None
    if large:
        height, width = steps[0].x_t.shape[-2:]
        columns = default_columns(len(steps[0].x_t)) if columns is None else columns
        step = len(shown_panels) > 2  # with eps, of which the step is a sum
        weights, rests = arithmetic(steps) if step else ((), ())
        beside, ends = "step" if step else "panels", ("noise", "data")
        lead = Lead(beside, ends, height, width, columns, 2, tuple(large), pick, weights, rests)
    return film(shown_panels, captions, rows=rows, lead=lead)


@typed_arguments
def branch_film(
    run: Iterable[Step],
    branch: Iterable[Step],
    columns: int | None = None,
    *,
    sides: Sequence[str] = ("the run", "its branch"),
    count: int | None = None,
    large: Sequence[str] = ("",),
    pick: int = 0,
) -> Film:
    """The film of a run and of its branch (`comparisons.branch`) at the same steps: x_t and predicted x_0 of both.

    Before the branch begins, both are the run. In the last frame both x_t are the final samples.

    Args:
        run, branch: the steps of both; if only some of a run's steps were kept, the same ones of the branch.
        sides: what the run and its branch are called.
        columns, count, large, pick: as for `film_of`.

    Raises ValueError unless the branch has the steps of the run from one of them on.
    """
    run, branch = all_of("run", run, Step), all_of("branch", branch, Step)
    fork = len(run) - len(branch)
    if not branch or fork < 0 or [step.i for step in branch] != [step.i for step in run[fork:]]:
        raise ValueError(
            f"A branch must have the steps of its run from one of them on; got the steps {[s.i for s in branch]} of a "
            f"branch and {[s.i for s in run]} of a run."
        )
    if len(sides := tuple(sides)) != 2:
        raise ValueError(f"sides must be two names, of the run and of its branch; got {list(sides)}.")
    panels = []
    for side, steps in zip(sides, (run, [*run[:fork], *branch]), strict=True):
        for k, (title, alt, field, limit) in enumerate(step_fields(steps)[:2]):
            panels.append((f"{title} · {side}", f"{alt}, {side}", _sheets(steps, field, limit, columns, ends=k == 0)))
    height, width = run[0].x_t.shape[-2:]
    columns = default_columns(len(run[0].x_t)) if columns is None else columns
    lead = Lead("pair", ("noise", "data"), height, width, columns, 2, tuple(large), pick, sides=sides, fork=fork)
    return film(panels, _captions(run, count), lead=lead)


def _sheets(
    steps: Sequence[Step],
    field: Callable[[Step], Tensor],
    limit: float | None,
    columns: int | None,
    *,
    ends: bool,
) -> list[np.ndarray]:
    """One mosaic per step, and one after the last: of its result if the panel `ends` in it, else of the last step."""
    sheets = [mosaic(pixels(field(step), limit), columns) for step in steps]
    return [*sheets, mosaic(pixels(steps[-1].x_next), columns) if ends else sheets[-1]]


def _captions(steps: Sequence[Step], count: int | None) -> list[str]:
    """One caption per step, and that of the final image."""
    count = steps[-1].i + 1 if count is None else whole("count", count, 1)
    last = f"final image after {count} step{'s' if count > 1 else ''}"
    return [*(caption(step, count) for step in steps), last]


def arithmetic(steps: Sequence[Step]) -> tuple[tuple[tuple[float, float], ...], tuple[float, ...]]:
    """(alpha, sigma) of each step's state and of the last result; and how far each next state is from the weighted sum.

    The weighted sum is alpha_next x_0 + sigma_next eps (DDIM, Song et al. 2021, Eq. 12, with eta = 0). The next
    state is that of the next of `steps`: of a run of which only some steps are kept, the one after the steps between.
    """
    levels = [*(step.level for step in steps), steps[-1].next_level]
    states = [*(step.x_t for step in steps[1:]), steps[-1].x_next]
    rests = []
    for step, level, state in zip(steps, levels[1:], states, strict=True):
        rest = state - add_noise(step.pred.x_0, step.pred.eps, level)
        rests.append(round(float(rest.square().mean().sqrt()), 4))
    return tuple((round(level.alpha, 4), round(level.sigma, 4)) for level in levels), tuple(rests)


@typed_arguments
def evenly_spaced(count: int, most: int) -> list[int]:
    """The indices of at most `most` of `count` steps or frames, evenly spaced from the first to the last.

    Raises ValueError for a number below 1.
    """
    count, most = whole("count", count, 1), whole("most", most, 1)
    spaced = torch.linspace(0, count - 1, min(count, most), dtype=torch.float64, device="cpu")
    return spaced.round().int().tolist()


@typed_arguments
def strip(film: Film, frames: Sequence[int], panels: int = 2) -> bytes:
    """Some frames of a film one below the other, with their captions and the first `panels` panels: one small PNG.

    It is what a page shows that cannot play the film. Raises ValueError for a frame that the film does not have.
    """
    check_some("frames", frames)
    frames = [whole("each of the frames", frame, 0, len(film.frames) - 1) for frame in frames]
    shown, gap, bar, font = min(whole("panels", panels, 1), len(film.titles)), 12, 18, ImageFont.load_default(12)
    width = max(shown * (film.width + gap) - gap, 420)  # a caption needs 420 pixels
    sheet = Image.new("RGB", (width, bar + len(frames) * (film.height + bar + 4)), rgb(LIGHT.background))
    draw = ImageDraw.Draw(sheet)
    for panel, title in enumerate(film.titles[:shown]):
        draw.text((panel * (film.width + gap), 2), title.translate(ASCII), fill=rgb(LIGHT.text), font=font)
    for k, frame in enumerate(frames):
        top, source = bar + k * (film.height + bar + 4), Image.open(io.BytesIO(film.frames[frame]))
        draw.text((0, top + 2), film.captions[frame].translate(ASCII), fill=rgb(LIGHT.text), font=font)
        for panel in range(shown):
            tile = source.crop((0, panel * film.height, film.width, (panel + 1) * film.height))
            sheet.paste(tile, (panel * (film.width + gap), top + bar), tile)
    buffer = io.BytesIO()
    few = sheet.quantize(STRIP_SHADES, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


@typed_arguments
def gif(
    film: Film, panels: Sequence[int] = (0, 1), scale: int | None = None, seconds: float = 3.0, hold: float = 1.5
) -> bytes:
    """The film as an animated GIF of the chosen panels side by side, with their titles.

    scale: screen pixels per image pixel, by default as many as fit GIF_WIDTH; seconds: for all frames; hold: additional
    seconds for the last frame. Grey images get 32 shades, coloured ones 128, because noise does not compress well and
    every shade makes the file larger. Raises ValueError for a panel that the film does not have.
    """
    check_some("panels", panels)
    panels = [whole("each of the panels", panel, 0, len(film.titles) - 1) for panel in panels]
    seconds, hold = (number(what, value, "a number of seconds from 0 to 600", 0, 600)
                     for what, value in (("seconds", seconds), ("hold", hold)))  # fmt: skip
    fitting = max(1, min(8, GIF_WIDTH // (len(panels) * film.width)))
    scale = fitting if scale is None else whole("scale", scale, 1, 64)
    font, bar, gap = ImageFont.load_default(13), 22, 12
    width, height = film.width * scale, film.height * scale
    background, ink = rgb(LIGHT.background), rgb(LIGHT.text)
    stills, colourful = [], False
    for frame in film.frames:
        source = Image.open(io.BytesIO(frame))
        still = Image.new("RGB", (len(panels) * (width + gap) + gap, height + bar + gap), background)
        for k, panel in enumerate(panels):
            tile = source.crop((0, panel * film.height, film.width, (panel + 1) * film.height))
            colourful |= bool(np.ptp(np.asarray(tile)[..., :3], axis=-1).any())
            tile = tile.resize((width, height), Image.Resampling.NEAREST)
            left = gap + k * (width + gap)
            still.paste(tile, (left, bar), tile)
            ImageDraw.Draw(still).text((left, 4), film.titles[panel].translate(ASCII), fill=ink, font=font)
        stills.append(still)
    shades = 128 if colourful else 32
    stills = [still.quantize(shades, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE) for still in stills]
    # a GIF's durations are in hundredths of a second, and browsers slow down frames shorter than two of them
    each = max(20, round(1000 * seconds / len(stills) / 10) * 10)
    durations = [each] * (len(stills) - 1) + [each + round(hold * 1000)]
    buffer = io.BytesIO()
    stills[0].save(buffer, "GIF", save_all=True, append_images=stills[1:], duration=durations, loop=0, optimize=False)
    return buffer.getvalue()
