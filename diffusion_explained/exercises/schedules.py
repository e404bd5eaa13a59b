"""The exercises of notebook 02, Schedules."""

import math

from diffusion_explained.exercises.grading import Given, exercise
from diffusion_explained.schedules import DDPMSchedule, FlowSchedule


@exercise("02.1", "Translate")
def is_the_same_picture(answer: object, given: Given) -> None:
    """The time of the flow path, within 0.001, at which the SNR is that of t = 700 of the linear schedule."""
    t = given.number(answer)
    assert 0 < t < 1, "the time of the flow path runs from 0 (data) to 1 (noise)"
    right = float(FlowSchedule().time_of_snr(DDPMSchedule.linear().level(700).snr))
    compared = "less" if t < right else "more"
    assert abs(t - right) < 1e-3, f"there the signal is under {compared} noise than at DDPM's t = 700: equate both σ/α"


@exercise("02.2", "A schedule of your own", minutes=15)
def ends_like_ddpm(answer: object, given: Given) -> None:
    """A DDPMSchedule of 100 equal steps with the terminal SNR of the linear schedule, within 5%."""
    assert isinstance(answer, DDPMSchedule), "the answer is a schedule: DDPMSchedule(betas), with a tensor of 100 β"
    steps = answer.num_train_timesteps
    assert steps == 100, f"the schedule has 100 steps, not {steps}"
    assert float(answer.betas.std() / answer.betas.mean()) < 1e-5, "all β are the same"
    quotient = answer.terminal_snr / DDPMSchedule.linear().terminal_snr
    direction = "larger" if quotient > 1 else "smaller"
    assert 0.95 < quotient < 1.05, f"its terminal SNR is {quotient:.3g} times that of DDPM: a {direction} β"


@exercise("02.3", "Shift for a larger picture", minutes=5)
def moves_by_log_4(answer: object, given: Given) -> None:
    """The shift, within 0.01, that moves each log SNR by -log 4."""
    shift = given.number(answer)
    assert 0.01 < shift < 100, "a shift is a positive factor on σ/α, and 1 is no shift"
    middle, plain = (schedule.levels(2)[1].log_snr for schedule in (FlowSchedule(shift=shift), FlowSchedule()))
    right = -math.log(4)
    assert abs(middle - plain - right) < 0.01, (
        f"this shift moves the log SNR by {middle - plain:+.3f} instead of {right:+.3f}"
    )
