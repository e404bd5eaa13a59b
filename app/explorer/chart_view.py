"""Charts without a film, drawn on canvas like all others: the same script that the films use."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import streamlit as st

from diffusion_explained.charts import Chart, Curve, curves_chart
from diffusion_explained.film import script, style
from explorer import names


def show(charts: Sequence[Chart], *, key: str) -> None:
    """Show charts side by side; charts that grow while the page runs need a key of their own each time."""
    component = st.components.v2.component("diffusion_explained_charts", js=script("charts"), css=style("scrubber"))
    component(data={"charts": [asdict(chart) for chart in charts]}, key=key)


def race_chart(title: str, points: Mapping[str, Sequence[tuple[float, float]]], x_label: str) -> Chart:
    """A chart of (cost, distance) per sampler, on logarithmic axes; a sampler has one colour on every page."""
    numbers = {name: k for k, name in enumerate(names.SAMPLERS)}
    curves = [
        Curve(*zip(*some, strict=True), f"series-{numbers[name]}", names.SAMPLERS[name], dots=True)
        for name, some in points.items()
        if some
    ]
    return curves_chart(title, curves, x_label, log="xy")
