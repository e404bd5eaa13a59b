"""Below the picture of the whole: a walk through noise or between prompts, and a grid of seeds and scales."""

from dataclasses import dataclass, replace

import streamlit as st
from torch import Tensor

from diffusion_explained.charts import Chart, Curve
from diffusion_explained.film import Film, Lead, film, one_value, pixels
from explorer import controls, drawings, page, part_labels, programs, sharing, stable
from explorer.cache import named_cache
from explorer.scrubber import scrubber
from explorer.stable import Ask, RunStart
from explorer.turns import HEAVY, Tell, held

VIEWS = {"seeds": "Other seeds", "walk": "A walk", "grid": "Seeds and scales"}
KINDS = {"around": "Around a circle of noise", "prompts": "From prompt to prompt", "seeds": "From noise to noise"}
PLACES = 9  # pictures of a walk
SCALES = (1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Walk:
    """A walk from a run's prompt and first seed: kind, of KINDS, with its second end."""

    kind: str
    to_prompt: str | None
    to_seed: int | None
    count: int

    def options(self) -> dict[str, object]:
        """The options of `walks.walk` that are the walk's own."""
        ends = {"to_prompt": self.to_prompt, "to_seed": self.to_seed}
        return {**ends, "around": self.kind == "around", "count": self.count}

    def marks(self) -> list[str]:
        """The place of each picture: degrees around the circle, or the share of the second end."""
        if self.kind == "around":
            return [f"{round(360 * k / self.count)}°" for k in range(self.count)]
        return [f"{round(100 * k / (self.count - 1))}%" for k in range(self.count)]

    def captions(self, ask: Ask) -> list[str]:
        """What each picture of the walk is."""
        if self.kind == "around":
            return [f"{mark} around the circle" for mark in self.marks()]
        last = self.count - 1
        ends = (f"“{ask.prompt}”", f"“{self.to_prompt}”"), (f"seed {ask.seeds[0]}", f"seed {self.to_seed}")
        a, b = ends[self.kind == "seeds"]
        return [f"{round(100 * (1 - k / last))}% {a}, {round(100 * k / last)}% {b}" for k in range(self.count)]


def choose(other_prompt: str, most_seed: int) -> Walk:
    """The controls of a walk."""
    kind = controls.pills(st, part_labels.Variations.walk, list(KINDS), "around", key="t2i_walk", format_func=KINDS.get)
    count = sharing.most(PLACES, sharing.PICTURES)
    if kind == "prompts":
        return Walk(kind, controls.text(st, part_labels.Variations.to, other_prompt, key="t2i_to_prompt"), None, count)
    words = "Seed of the second noise"
    return Walk(kind, None, controls.number(st, words, 0, most_seed, 7, key="t2i_to_seed"), count)


def show_walk(name: str, ask: Ask, walk: Walk) -> None:
    """Show a walk as a film, with how much each picture differs from the next."""
    with page.progress(part_labels.Variations.walking) as tell:
        pictures = _walked(name, ask, walk, tell)
    shown = film_of_walk(pictures, walk.captions(ask), closed=walk.kind == "around")
    page.strip({"walk": list(pictures)}, walk.marks(), part_labels.Variations.whole_walk)
    scrubber(shown, key="t2i_walk_film", name="walk_frame", frame=0)
    st.caption(part_labels.Variations.jumps)


def _walked(name: str, ask: Ask, walk: Walk, tell: Tell) -> Tensor:
    """The pictures of a walk [count, 3, H, W]."""

    def make(tell: Tell) -> Tensor:
        from diffusion_explained.stable_diffusion.walks import walk as walked

        here = stable.load(stable.models(), name, tell)
        with held(here.turn, tell, stable.BUSY), HEAVY.turn(tell):
            return walked(here.model, ask.prompt, **options_of(ask), **walk.options())

    return named_cache("walks", 16).get((name, ask, walk), make, tell)


def options_of(ask: Ask) -> dict[str, object]:
    """The options of a run that a walk takes too; it walks from the run's first seed, and from pure noise."""
    options = {**replace(ask, resamplings=None).options(), "seed": ask.seeds[0]}
    del options["prompt"]
    return options


def film_of_walk(pictures: Tensor, captions: list[str], *, closed: bool) -> Film:
    """A film of pictures [n, 3, H, W], with the change to the next one.

    closed: the first picture follows the last.
    """
    differences = pictures.roll(-1, 0) - pictures
    if not closed:
        differences[-1] = 0.0  # nothing follows the last picture
    change = [round(float(one), 4) for one in differences.square().mean((1, 2, 3)).sqrt()]
    change = change if closed else change[:-1]
    places = tuple(float(k + 1) for k in range(len(change)))
    markers = tuple((places[min(k, len(places) - 1)], change[min(k, len(places) - 1)]) for k in range(len(pictures)))
    chart = Chart(
        "change to the next picture", "the root mean square change of the pixels from each picture to the next",
        "picture", (1.0, float(len(pictures))), (0.0, 1.1 * max(*change, 0.01)), (Curve(places, tuple(change)),),
        markers=markers,
    )  # fmt: skip
    height, width = pictures.shape[-2:]
    steps = one_value(differences)[:, None]
    limit = float(steps.abs().max().clamp_min(0.01))
    panels = [
        ("picture", "the picture at each place of the walk", list(pixels(pictures))),
        ("where the next one differs", "the next picture minus this one: blue is darker, red is lighter",
         list(pixels(steps, limit))),
    ]  # fmt: skip
    return film(panels, captions, charts=[chart], lead=Lead("panels", None, height, width))


def show_grid(name: str, ask: Ask, start: RunStart, tell: Tell) -> None:
    """Show a row of pictures per guidance scale, a column per seed; each column starts from one noise."""
    rows = {}
    for scale in SCALES:
        rows[f"w = {scale:g}"] = list(drawings.draw(name, replace(ask, guidance_scale=scale), start, tell).pictures)
    page.strip(rows, [part_labels.Variations.seed.format(seed=seed) for seed in ask.seeds], part_labels.Variations.grid)
    st.caption(part_labels.Variations.grid_note)


def pictures_of(view: str, ask: Ask, walk: Walk | None) -> int:
    """How many pictures a view draws beside those of the run."""
    return {"walk": walk.count if walk else 0, "grid": len(SCALES) * len(ask.seeds)}.get(view, 0)


def program(view: str, ask: Ask, start: RunStart, walk: Walk | None) -> str:
    """The lines that make the walk or the grid, after those that load the model."""
    if walk is not None:
        given = {**options_of(ask), **walk.options()}
        body = "\n    ".join(f"{key}={value!r}," for key, value in given.items())
        return f"""

from diffusion_explained.stable_diffusion.walks import walk

walked = walk(
    model,
    {ask.prompt!r},
    {body}
)"""
    if view == "grid":
        body = "\n        ".join(programs.run_options(ask, start, without="guidance_scale"))
        return f"""

grid = {{}}
for scale in {SCALES!r}:
    grid[scale] = model.sample(
        {ask.prompt!r},
        guidance_scale=scale,
        {body}
    )"""
    return ""
