"""Schedules side by side: one picture under each at every time, and their curves with one cursor through all."""

from collections.abc import Mapping

from torch import Tensor

from diffusion_explained.charts import Chart, Curve, curves_chart
from diffusion_explained.film import Film, Lead, film, pixels, shown
from diffusion_explained.forward import add_noise
from diffusion_explained.schedules import Level, Schedule
from explorer.cache import named_cache, quiet
from explorer.names import WITH_YOURS, YOURS

FRAMES = 50  # levels of the film, without the clean one; fewer if a schedule has fewer timesteps
SERIES = {"linear": 0, "scaled_linear": 1, "cosine": 2, YOURS: 3, "flow": 4, "sigmoid": 5, "edm": 6}
ROLES = {name: f"series-{number}" for name, number in SERIES.items()}
X = "from data (0) to noise (1)"
QUANTITIES = {  # title -> its value at a level
    "log SNR": lambda level: level.log_snr,
    "ᾱ = α²": lambda level: level.alpha**2,
    "α, the factor on the image": lambda level: level.alpha,
    "σ, the factor on the noise": lambda level: level.sigma,
}
LARGE = 2.0  # a sigma beyond this needs a logarithmic axis


def levels_of(schedule: Schedule, count: int) -> list[Level]:
    """count + 1 levels along the schedule's path, from data to noise."""
    return [schedule.clean, *reversed(schedule.levels(count)[:-1])]


def states(schedule: Schedule, x_0: Tensor, eps: Tensor, count: int) -> list[Tensor]:
    """x_t [C, H, W] of one picture at those levels, as it is shown."""
    return [shown(add_noise(x_0, eps, level), level)[0] for level in levels_of(schedule, count)]


def frames_of(schedules: Mapping[str, Schedule]) -> int:
    """How many levels all of these schedules have."""
    return min(FRAMES, *(getattr(one, "num_train_timesteps", FRAMES) for one in schedules.values()))


def charts_of(schedules: Mapping[str, Schedule], quantities: Mapping[str, object] = QUANTITIES) -> list[Chart]:
    """The curves of the schedules, by name, with one cursor."""
    count = frames_of(schedules)
    places = tuple(k / count for k in range(count + 1))
    levels = {name: levels_of(one, count) for name, one in schedules.items()}
    charts = []
    for title, value in quantities.items():
        curves = [Curve(places, tuple(map(value, of)), ROLES[name], WITH_YOURS[name]) for name, of in levels.items()]
        log = "y" if any(max(curve.y) > LARGE for curve in curves) and title.startswith("σ") else ""
        charts.append(curves_chart(title, curves, X, cursor=places, log=log))
    return charts


def film_of_schedules(schedules: Mapping[str, Schedule], key: object, x_0: Tensor, eps: Tensor) -> Film:
    """The film of one picture under each of the schedules; key: what determines them and the picture."""

    def make(_: object) -> Film:
        count = frames_of(schedules)
        levels = {name: levels_of(one, count) for name, one in schedules.items()}
        panels = []
        for name, one in schedules.items():
            sheets = [pixels(x_t[None])[0] for x_t in states(one, x_0, eps, count)]
            panels.append((WITH_YOURS[name], "the picture with its noise at this time", sheets))
        captions = [
            f"{k / count:.0%} of the way to noise · ᾱ: "
            + " · ".join(f"{WITH_YOURS[name]} {of[k].alpha ** 2:.3f}" for name, of in levels.items())
            for k in range(count + 1)
        ]
        lead = Lead("row", ("data", "noise"))
        return film(panels, captions, rows=(len(panels),), charts=charts_of(schedules), lead=lead)

    return named_cache("schedules").get(key, make, quiet)
