"""How far samples are from the data, by the number of network evaluations: a curve per sampler that grows."""

from dataclasses import replace
from statistics import mean

import streamlit as st

from diffusion_explained.comparisons import Counted
from diffusion_explained.metrics import sliced_wasserstein
from diffusion_explained.noise import stream
from explorer import chart_view, names, page, part_labels
from explorer.cache import named_cache
from explorer.plane import Movement, steps_of
from explorer.plane_films import FRESH
from explorer.turns import HEAVY, Tell

COUNTS = (1, 2, 4, 8, 16, 32)
DRAWS, SAMPLES = 2, 1000  # draws of noise for each point of a curve


def curve(movement: Movement) -> None:
    """Show the curves of all samplers with the exact denoiser; they are drawn anew as they grow."""
    place = st.empty()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names.SAMPLERS}

    def draw() -> None:
        title = "Distance to the data (sliced Wasserstein)"
        with place.container():
            chart = chart_view.race_chart(title, found, "network evaluations")
            chart_view.show([chart], key=f"quality-{sum(map(len, found.values()))}")

    with page.progress(part_labels.PlaneQuality.measuring) as tell:
        for k, count in enumerate(COUNTS):
            for sampler, words in names.SAMPLERS.items():
                tell(
                    sum(COUNTS[:k]) / sum(COUNTS),
                    part_labels.PlaneQuality.progress.format(
                        words=words, count=count, plural="" if count == 1 else "s"
                    ),
                )
                found[sampler].append(_point(replace(movement, sampler=sampler, steps=count, points=SAMPLES), tell))
            draw()
    st.caption(part_labels.PlaneQuality.spread.format(samples=SAMPLES, draws=DRAWS, floor=_floor(movement)))


def _point(movement: Movement, tell: Tell) -> tuple[float, float]:
    """Evaluations, and the mean distance between samples and fresh data."""

    def make(tell: Tell) -> tuple[float, float]:
        with HEAVY.turn(tell):
            distances, evaluations = [], 0
            for draw in range(DRAWS):
                one = replace(movement, seed=movement.seed + draw)
                denoise = Counted(one.exact(SAMPLES))
                fresh, _ = one.data.mixture.sample(SAMPLES, stream(FRESH + draw))
                distances.append(sliced_wasserstein(steps_of(one, denoise)[-1].x_next, fresh))
                evaluations = denoise.evaluations
            return float(evaluations), mean(distances)

    return named_cache("plane quality", 500).get(movement, make, tell)


def _floor(movement: Movement) -> float:
    """The mean distance between two draws of the data."""
    draws = [movement.data.mixture.sample(SAMPLES, stream(FRESH + 10 + k))[0] for k in range(2 * DRAWS)]
    return mean(sliced_wasserstein(draws[k], draws[k + 1]) for k in range(0, 2 * DRAWS, 2))
