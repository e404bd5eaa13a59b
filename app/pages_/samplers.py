"""Samplers: a race from the same noise to the same image."""

import time

import streamlit as st
from explorer import chart_view, choices, controls, names, page, programs, sharing, spacings, tries
from explorer.chart_view import race_chart
from explorer.page_words import SAMPLERS
from explorer.runs import finish, race_settings, rectified, reference, seconds, seconds_of, timed

from diffusion_explained.comparisons import Finish

COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
LOOK = 1  # the index of the race's image that is shown
USUAL = {"digits": 24, "pictures": 12, "slow": 8}  # steps, at most

with page.top(SAMPLERS):
    choice = choices.choose()
seen, beside, controlling = page.bench()
with beside:
    tries.tries("samplers")
    tries.question("samplers")
with controlling:
    first, second = st.columns([2, 1], gap="medium")
    racing = ["ddim", "euler", "heun", "dpm_solver_pp_2m", "euler_ancestral"]
    every = list(names.SAMPLERS)
    chosen = controls.many(first, "Samplers", every, racing, key="samplers", format_func=names.SAMPLERS.get)
    usual = choice.default("most", USUAL[choice.pace])
    most = controls.steps(second, "Most steps", sharing.up_to(COUNTS[3:], sharing.STEPS), usual, key="most")
    third, fourth, fifth, sixth = st.columns(4, gap="medium")
    with third:
        choices.pick_network(choice)
    with fourth:
        scale = choices.guidance_slider(choice, "race_w", 6.0, 1.0, rectified=rectified(choice.model))
    sharing.say(
        f"a sampler has at most {sharing.STEPS} steps, and a race takes at most about {page.duration(page.LONG)}"
    )
counts = [count for count in COUNTS if count <= most]
with controlling:
    spacing = spacings.choose_or_own(fifth, choice.model, *counts, key="spacing")
    seed = controls.number(sixth, "Seed", 0, 99999, 0, key="seed")
if not chosen:
    seen.info("Choose at least one sampler below.", icon=":material/touch_app:")
    page.end()

settings = race_settings(choice.model, scale, seed)
evaluations = sum(counts) * sum(2 if name == "heun" else 1 for name in chosen)
images = len(settings.labels)
work = seconds_of(settings) + seconds(choice.model, evaluations, images, guided=scale != 1)
with seen:
    if not page.may_begin(work, (settings, most, spacing, *chosen)):
        page.end()
    place = st.empty()
finishes: list[Finish] = []


def draw() -> None:
    points = {name: [(one.evaluations, one.distance) for one in finishes if one.sampler == name] for name in chosen}
    times = {name: [(1000 * timing.seconds * cost, far) for cost, far in ones] for name, ones in points.items()}
    charts = (
        race_chart("Distance to the exact solution", points, "network evaluations"),
        race_chart("The same, against time", times, "network time in milliseconds"),
    )
    with place.container():
        chart_view.show(charts, key=f"race-{len(finishes)}")


with seen:
    drawn = time.monotonic()
    with page.progress("Timing the network") as tell:
        timing = timed(settings, tell)
    with page.progress("Solving exactly") as tell:
        goal = reference(settings, tell)
    with page.progress("Racing") as tell:
        for k, count in enumerate(counts):
            for name in chosen:
                tell(sum(counts[:k]) / sum(counts), f"{names.SAMPLERS[name]}, {count} step{'s' if count > 1 else ''}")
                finishes.append(finish(settings, name, count, spacing, goal, tell))
            if time.monotonic() - drawn > page.REDRAW and count != counts[-1]:
                draw()
                drawn = time.monotonic()
    draw()
    st.caption(
        f"{len(settings.labels)} {choice.noun}s at once. The exact solution is Heun's with "
        f"{settings.num_inference_steps} steps. Distance is the root mean square difference of pixel values; from "
        "black to white is 2. Samplers that add noise (DDPM, Euler ancestral) end at another image by design: their "
        "distance does not go to 0."
    )
    st.caption(
        f"Time: one evaluation of the network took {1000 * timing.seconds:.3g} ms here, the median of "
        f"{timing.repeats} measurements from {1000 * timing.low:.3g} to {1000 * timing.high:.3g} ms after a warm-up; "
        "a run takes this time multiplied by its number of evaluations."
        + (" **Other work disturbed this measurement**, so it will be repeated." if timing.disturbed else "")
    )

    st.header("Where they end", anchor=False)
    shown = [name for name in names.SAMPLERS if name in chosen]
    rows = {"exact": [goal[LOOK]] * len(counts)}
    rows |= {name: [one.x_0[LOOK] for one in finishes if one.sampler == name] for name in shown}
    page.strip(rows, [str(count) for count in counts], "the final image, by number of steps", names.SAMPLERS)

page.below(SAMPLERS)
programs.show(
    programs.racing(settings, chosen, counts, spacing),
    f"mosaic(pixels(torch.stack([one.x_0[{LOOK}] for one in finishes])), {len(counts)})",
    lambda: {"exact": goal, **{f"{one.sampler}, {one.num_inference_steps} steps": one.x_0 for one in finishes}},
)
tries.next_page("samplers")
