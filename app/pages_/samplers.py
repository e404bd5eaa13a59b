"""Samplers: a race from the same noise to the same image."""

import time
from functools import partial

import streamlit as st
from explorer import choices, controls, page, programs, sharing, spacings
from explorer.runs import finish, race_settings, rectified, reference, seconds, seconds_of, timed

from diffusion_explained import plots
from diffusion_explained.comparisons import Finish
from diffusion_explained.samplers import SAMPLERS

COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
LOOK = 1  # the index of the race's image that is shown
USUAL = {"digits": 24, "pictures": 12, "slow": 8}  # steps, at most
REDRAW = 3.0  # seconds between redrawings of the growing race

page.head(
    "Samplers: a race from the same noise",
    "Deterministic samplers all solve the same differential equation. Each starts from **the same noise** and uses the "
    "same network; the plots show how close it comes to the exact solution with how many network evaluations.",
    r"\text{Euler: error} \propto h",
    r"\text{Heun, DPM-Solver++: error} \propto h^2",
)
choice = choices.choose()
first, second = st.columns([2, 1], gap="medium")
racing = ["ddim", "euler", "heun", "dpm_solver_pp_2m", "euler_ancestral"]
chosen = controls.many(first, "Samplers", list(SAMPLERS), racing, key="samplers")
usual = choice.default("most", USUAL[choice.pace])
most = controls.steps(second, "Most steps", sharing.up_to(COUNTS[3:], sharing.STEPS), usual, key="most")
counts = [count for count in COUNTS if count <= most]
third, fourth, fifth, sixth = st.columns(4, gap="medium")
with third:
    choices.pick_network(choice)
with fourth:
    scale = choices.guidance_slider(choice, "race_w", 6.0, 1.0, rectified=rectified(choice.model))
spacing = spacings.choose(fifth, spacings.of_network(choice.model, *counts), key="spacing")
seed = controls.number(sixth, "Seed", 0, 99999, 0, key="seed")
sharing.say(f"a sampler has at most {sharing.STEPS} steps, and a race takes at most about {page.duration(page.LONG)}")
if not chosen:
    st.info("Choose at least one sampler above.", icon=":material/touch_app:")
    page.end()

settings = race_settings(choice.model, scale, seed)
evaluations = sum(counts) * sum(2 if name == "heun" else 1 for name in chosen)
images = len(settings.labels)
work = seconds_of(settings) + seconds(choice.model, evaluations, images, guided=scale != 1)
if not page.may_begin(work, (settings, most, spacing, *chosen)):
    page.end()
chart, clock = (column.empty() for column in st.columns(2, gap="medium"))
finishes: list[Finish] = []


def draw() -> None:
    by_name = {name: [one for one in finishes if one.sampler == name] for name in chosen}
    by_name = {name: ones for name, ones in by_name.items() if ones}
    with chart.container():
        points = {name: [(one.evaluations, one.distance) for one in ones] for name, ones in by_name.items()}
        title = "Distance to the exact solution"
        page.show((settings, *finished()), partial(plots.sampler_race, points, title=title))
    with clock.container():
        times = {
            name: [(1000 * timing.seconds * one.evaluations, one.distance) for one in ones]
            for name, ones in by_name.items()
        }
        title, xlabel = "The same, against time", "network time in milliseconds"
        drawn = partial(plots.sampler_race, times, title=title, xlabel=xlabel)
        page.show((settings, timing.seconds, *finished()), drawn)


def finished() -> list[tuple[str, int, str | None]]:
    return [(one.sampler, one.num_inference_steps, spacing) for one in finishes]


drawn = time.monotonic()
with page.progress("Timing the network") as tell:
    timing = timed(settings, tell)
with page.progress("Solving exactly") as tell:
    goal = reference(settings, tell)
with page.progress("Racing") as tell:
    for k, count in enumerate(counts):
        for name in chosen:
            tell(sum(counts[:k]) / sum(counts), f"{name}, {count} step{'s' if count > 1 else ''}")
            finishes.append(finish(settings, name, count, spacing, goal, tell))
        if time.monotonic() - drawn > REDRAW:
            draw()
            drawn = time.monotonic()
draw()
st.caption(
    f"{len(settings.labels)} {choice.noun}s at once. The exact solution is Heun's with {settings.num_inference_steps} "
    "steps. Distance is the root mean square difference of pixel values; from black to white is 2. Samplers that "
    "add noise (ddpm, euler_ancestral) end at another image by design: their distance does not go to 0."
)
st.caption(
    f"Time: one evaluation of the network took {1000 * timing.seconds:.3g} ms here, the median of "
    f"{timing.repeats} measurements from {1000 * timing.low:.3g} to {1000 * timing.high:.3g} ms after a warm-up; "
    "a run takes this time multiplied by its number of evaluations."
    + (" **Other work disturbed this measurement**, so it will be repeated." if timing.disturbed else "")
)

st.subheader("Where they end", anchor=False)
shown = [name for name in SAMPLERS if name in chosen]
rows = {"exact": [goal[LOOK]] * len(counts)}
rows |= {name: [one.x_0[LOOK] for one in finishes if one.sampler == name] for name in shown}
page.strip(rows, [str(count) for count in counts], "the final image, by number of steps")

programs.show(programs.racing(settings, chosen, counts, spacing))
with st.expander("What to look for", icon=":material/lightbulb:"):
    st.markdown(
        "- On log axes a method of order $p$ is a line of slope $-p$, once its steps are small: twice as many steps "
        "halve Euler's error and should quarter Heun's. A trained network is less smooth than the theory assumes; see "
        "how far the rule holds here.\n"
        "- Heun needs two network evaluations per step. DPM-Solver++ reaches second order with one, because it reuses "
        "the previous one.\n"
        "- ddim (at eta 0) and euler are one method on the straight path of flow matching: their curves coincide.\n"
        "- Raise the guidance scale: the path bends more, and every sampler needs more steps."
    )
