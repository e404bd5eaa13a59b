"""Samplers: a race from the same noise to the same image."""

import time

import streamlit as st
from explorer import chart_view, choices, controls, labels, names, page, programs, sharing, spacings, tries
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
    chosen = controls.many(first, labels.SAMPLERS, every, racing, key="samplers", format_func=names.SAMPLERS.get)
    usual = choice.default("most", USUAL[choice.pace])
    most = controls.steps(second, labels.Samplers.most, sharing.up_to(COUNTS[3:], sharing.STEPS), usual, key="most")
    third, fourth, fifth, sixth = st.columns(4, gap="medium")
    with third:
        choices.pick_network(choice)
    with fourth:
        scale = choices.guidance_slider(choice, "race_w", 6.0, 1.0, rectified=rectified(choice.model))
    sharing.say(labels.Samplers.bounds.format(steps=sharing.STEPS, duration=page.duration(page.LONG)))
counts = [count for count in COUNTS if count <= most]
with controlling:
    spacing = spacings.choose_or_own(fifth, choice.model, *counts, key="spacing")
    seed = controls.number(sixth, labels.SEED, 0, 99999, 0, key="seed")
if not chosen:
    seen.info(labels.Samplers.choose, icon=":material/touch_app:")
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
        race_chart(labels.Samplers.distances, points, labels.Samplers.evaluations),
        race_chart(labels.Samplers.against_time, times, labels.Samplers.milliseconds),
    )
    with place.container():
        chart_view.show(charts, key=f"race-{len(finishes)}")


with seen:
    drawn = time.monotonic()
    with page.progress(labels.Samplers.timing) as tell:
        timing = timed(settings, tell)
    with page.progress(labels.Samplers.solving) as tell:
        goal = reference(settings, tell)
    with page.progress(labels.Samplers.racing) as tell:
        for k, count in enumerate(counts):
            for name in chosen:
                tell(
                    sum(counts[:k]) / sum(counts),
                    labels.Samplers.progress.format(
                        sampler=names.SAMPLERS[name], count=count, plural="s" if count > 1 else ""
                    ),
                )
                finishes.append(finish(settings, name, count, spacing, goal, tell))
            if time.monotonic() - drawn > page.REDRAW and count != counts[-1]:
                draw()
                drawn = time.monotonic()
    draw()
    st.caption(
        labels.Samplers.distance.format(
            images=len(settings.labels), noun=choice.noun, num_inference_steps=settings.num_inference_steps
        )
    )
    st.caption(
        labels.Samplers.time.format(
            median=1000 * timing.seconds, repeats=timing.repeats, low=1000 * timing.low, high=1000 * timing.high
        )
        + (labels.Samplers.disturbed if timing.disturbed else "")
    )

    st.header(labels.Samplers.ends, anchor=False)
    shown = [name for name in names.SAMPLERS if name in chosen]
    rows = {"exact": [goal[LOOK]] * len(counts)}
    rows |= {name: [one.x_0[LOOK] for one in finishes if one.sampler == name] for name in shown}
    page.strip(rows, [str(count) for count in counts], labels.Samplers.strip, names.SAMPLERS)

page.below(SAMPLERS)
programs.show(
    programs.racing(settings, chosen, counts, spacing),
    f"mosaic(pixels(torch.stack([one.x_0[{LOOK}] for one in finishes])), {len(counts)})",
    lambda: {"exact": goal, **{f"{one.sampler}, {one.num_inference_steps} steps": one.x_0 for one in finishes}},
)
tries.next_page("samplers")
