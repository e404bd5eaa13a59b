"""At how much noise an image is lost: the visitor's guess beside a classifier, which was measured once."""

from dataclasses import replace

import numpy as np

from diffusion_explained.charts import Chart, Curve
from diffusion_explained.measured import rows_of
from explorer.runs import Noising

STUDY = "recognised"


def shares(data: str, log_snr: float) -> tuple[float, float]:
    """The shares of images that the classifier recognises at this log SNR: in x_t, and in the network's prediction."""
    rows = sorted(rows_of(STUDY, data), key=lambda row: row["log_snr"])
    at = [row["log_snr"] for row in rows]
    in_x_t, in_x_0 = (float(np.interp(log_snr, at, [row[what] for row in rows])) for what in ("x_t", "predicted"))
    return in_x_t, in_x_0


def with_chart(kept: Noising, data: str, lost: int) -> Noising:
    """The film with a chart more: what a classifier recognises at each of its levels, and where the visitor stopped."""
    count = len(kept.levels) - 1
    places = tuple(round(k / count, 5) for k in range(count + 1))
    found = [shares(data, level.log_snr) for level in kept.levels]
    in_x_t, in_x_0 = (tuple(round(share, 4) for share in one) for one in zip(*found, strict=True))
    here = lost / count
    chart = Chart(
        "recognised by a classifier",
        f"the share of images that a classifier recognises in x_t and in the prediction; you stopped at {here:.2f}",
        "from data (0) to noise (1)",
        (0.0, 1.0),
        (0.0, 1.06),
        (
            Curve(places, in_x_0, "data", "in predicted x₀"),
            Curve(places, in_x_t, "noise", "in xₜ"),
            Curve((here, here), (1.06, 0.0), "muted", "you"),
        ),
        markers=tuple(zip(places, in_x_0, strict=True)),
    )
    return replace(kept, film=replace(kept.film, charts=(chart, *kept.film.charts)))


def words(kept: Noising, data: str, lost: int, noun: str) -> str:
    """The guess compared with the classifier, in words."""
    count = rows_of(STUDY, data)[0]["n"]
    in_x_t, in_x_0 = shares(data, kept.levels[lost].log_snr)
    return (
        f"You lost the {noun} at **{lost / (len(kept.levels) - 1):.0%}** of the way. A classifier that was trained on "
        f"clean images recognises {in_x_t:.0%} of {count} test {noun}s there, and **{in_x_0:.0%}** of what the network "
        "predicts from them without the class: the image is hidden, not yet gone."
    )
