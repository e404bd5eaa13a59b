"""The exercises of notebook 09, Inside Stable Diffusion."""

from diffusion_explained.exercises.grading import Given, exercise
from diffusion_explained.forward import add_noise
from diffusion_explained.schedules import DDPMSchedule, FlowSchedule


@exercise("09.1", "The cost of a larger picture", "my_work(convolutions, products, attention, factor)", minutes=15)
def predicts_the_work(answer: object, given: Given) -> None:
    """The FLOPs of the U-Net for a picture with a longer or shorter side, to 1%."""
    for factor in (2.0, 1.5, 0.5, 3.0):
        work = (1 + 9 * given.rand(3)).tolist()
        for kind, power, hint in (
            (0, 2, "the work of convolutions is proportional to the number of positions"),
            (1, 2, "the work of products is proportional to the number of positions"),
            (2, 4, "attention compares all positions with all: its work is proportional to the number of pairs"),
        ):
            alone = [one if k == kind else 0.0 for k, one in enumerate(work)]
            given.returns(answer, *alone, factor, expected=factor**power * work[kind], hint=hint, close=0.01)
        expected = factor**2 * (work[0] + work[1]) + factor**4 * work[2]
        given.returns(answer, *work, factor, expected=expected, hint="the three kinds of work are added", close=0.01)


@exercise("09.2", "Which levels?", "my_levels(levels, strength)")
def visits_the_levels(answer: object, given: Given) -> None:
    """The levels that image to image visits: int(n * strength) steps, and the last level."""
    for schedule in (DDPMSchedule.linear(), FlowSchedule()):
        for n in (10, 30, 7):
            levels = schedule.levels(n)
            for strength in (1.0, 0.2, 0.35, 0.5, 0.99):
                taken = int(n * strength)
                found = given.call(answer, levels, strength)
                assert isinstance(found, list | tuple), "the answer is a list of levels, a part of the given one"
                assert list(found) == levels[n - taken :], (
                    f"strength {strength:g} of {n} steps takes the last {taken} steps, which visit the last "
                    f"{taken + 1} levels"
                )


@exercise("09.3", "The picture in the noise", "my_latents(x_a, level_a, x_b, level_b)", minutes=15)
def finds_the_latents(answer: object, given: Given) -> None:
    """The clean latents, to 0.1%, from two noisy versions with the same noise, of any schedule."""
    for schedule, times in ((DDPMSchedule.linear(), ((200, 700), (900, 400))), (FlowSchedule(), ((0.3, 0.8),))):
        for time_a, time_b in times:
            level_a, level_b = schedule.level(time_a), schedule.level(time_b)
            z, eps = given.randn(2, 4, 8, 8), given.randn(2, 4, 8, 8)
            x_a, x_b = add_noise(z, eps, level_a), add_noise(z, eps, level_b)
            arguments = (x_a, level_a, x_b, level_b)
            determinant = level_a.alpha * level_b.sigma - level_b.alpha * level_a.sigma
            mistakes = (
                (x_a / level_a.alpha, "this ignores the noise in x_a: these are not the clean latents"),
                (
                    (x_a - x_b) / (level_a.alpha - level_b.alpha),
                    "the noise has another σ in x_b, so a difference keeps some",
                ),
                (-z, "these are the clean latents with the wrong sign: check the order of the difference"),
                (determinant * z, "the noise is gone, but the factor of z is not 1: divide by it"),
                ((x_a / level_a.alpha + x_b / level_b.alpha) / 2, "a mean keeps the noise, which is the same in both"),
            )
            hint = "these are not the clean latents: combine the two equations so that the noise cancels"
            given.returns(answer, *arguments, expected=z, hint=hint, close=1e-3, mistakes=mistakes)
