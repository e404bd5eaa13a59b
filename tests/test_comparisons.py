"""Races count and measure; a prediction across schedules equals that at the schedule's own level."""

import pytest
import torch

from diffusion_explained.comparisons import (
    Counted,
    branch,
    level_of_same_snr,
    levels_of_same_snr,
    one_shot,
    one_shots,
    race,
    rms_distance,
    time_evaluation,
)
from diffusion_explained.exact import ExactDenoiser
from diffusion_explained.forward import add_noise
from diffusion_explained.pretrained import load_pretrained
from diffusion_explained.samplers import SAMPLERS
from diffusion_explained.schedules import SCHEDULES as ALL_SCHEDULES
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule

SCHEDULES = [DDPMSchedule.linear(), DDPMSchedule.cosine(), FlowSchedule(), EDMSchedule()]


def test_rms_distance_is_in_pixel_values():
    white = torch.ones(2, 1, 3, 3)
    assert rms_distance(white, -white) == 2.0 and rms_distance(white, white) == 0.0
    with pytest.raises(ValueError, match="same shape"):
        rms_distance(white, white[:1])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("other", SCHEDULES, ids=lambda s: type(s).__name__)
def test_the_level_of_same_snr_is_as_noisy(schedule, other):
    ratios = [other_ratio(other, t) for t in range(1000)]
    for ratio in (0.05, 0.7, 1.0, 9.0):
        t = min(range(1000), key=lambda t: abs(ratios[t] - ratio))
        level = other.level(clock(other, t))
        own = level_of_same_snr(schedule, level)
        assert own.sigma / own.alpha == pytest.approx(level.sigma / level.alpha, rel=1e-6)


def clock(schedule, t):
    if isinstance(schedule, DDPMSchedule):
        return t
    if isinstance(schedule, FlowSchedule):
        return (t + 1) / 1001
    return 0.002 + 79 * (t / 999) ** 3


def other_ratio(schedule, t):
    level = schedule.level(clock(schedule, t))
    return level.sigma / level.alpha


def test_beyond_its_ends_a_schedule_gives_its_ends():
    linear, flow = DDPMSchedule.linear(), FlowSchedule()
    assert level_of_same_snr(linear, flow.level(1.0)).t == 999
    assert level_of_same_snr(linear, flow.level(1e-6)).t == 0


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_one_shot_sees_the_same_on_every_path(schedule):
    g = torch.Generator().manual_seed(0)
    data, eps = torch.randn(5, 1, 2, 2, generator=g), torch.randn(3, 1, 2, 2, generator=g)
    denoise = ExactDenoiser(data)
    level = DDPMSchedule.cosine().level(400)
    x_t = add_noise(data[:3], eps, level)
    here, there = denoise(x_t, level), one_shot(denoise, schedule, x_t, level)
    torch.testing.assert_close(there.x_0, here.x_0, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(there.eps, here.eps, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["mnist_unet_flow", "mnist_unet_eps", "mnist_dit_flow"])
def test_a_batch_at_many_levels_is_what_each_image_gives_alone(name):
    model, schedule = load_pretrained(name), DDPMSchedule.cosine()
    levels = schedule.levels(6)[:-1]
    x_0, eps = torch.randn(2, 6, *model.image_shape, generator=torch.Generator().manual_seed(0))
    x_t = torch.cat([add_noise(x_0[k : k + 1], eps[k : k + 1], level) for k, level in enumerate(levels)])
    together = one_shots(model.denoiser([3] * 6, guidance_scale=1.0), model.schedule, x_t, levels)
    assert levels_of_same_snr(model.schedule, levels) == [level_of_same_snr(model.schedule, one) for one in levels]
    for k, level in enumerate(levels):
        alone = one_shot(model.denoiser([3], guidance_scale=1.0), model.schedule, x_t[k : k + 1], level)
        torch.testing.assert_close(together.x_0[k : k + 1], alone.x_0, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(together.eps[k : k + 1], alone.eps, atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="guidance_scale=1"):
        one_shots(model.denoiser([3] * 6, guidance_scale=2.0), model.schedule, x_t, levels)
    with pytest.raises(ValueError, match="one level per image"):
        one_shots(model.denoiser([3] * 6, guidance_scale=1.0), model.schedule, x_t, levels[1:])


def test_a_race_counts_looks_and_starts_everyone_from_the_same_noise():
    model = load_pretrained("mnist_unet_flow")
    denoise = model.denoiser([3])
    reference = model.sample([3], num_inference_steps=16, sampler="heun")
    finishes = list(race(model, denoise, reference, ["euler", "ddim", "heun"], [1, 4]))
    assert [(f.sampler, f.num_inference_steps, f.evaluations) for f in finishes] == [
        ("euler", 1, 1),
        ("euler", 4, 4),
        ("ddim", 1, 1),
        ("ddim", 4, 4),
        ("heun", 1, 1),
        ("heun", 4, 7),
    ]
    by_name = {(f.sampler, f.num_inference_steps): f for f in finishes}
    torch.testing.assert_close(by_name["euler", 4].x_0, by_name["ddim", 4].x_0, atol=1e-4, rtol=0)
    assert by_name["heun", 4].distance < by_name["euler", 4].distance < by_name["euler", 1].distance


def test_counting_leaves_the_prediction_alone():
    denoise = ExactDenoiser(torch.zeros(1, 1, 2, 2))
    counted, level, x_t = Counted(denoise), FlowSchedule().level(0.5), torch.ones(1, 1, 2, 2)
    assert torch.equal(counted(x_t, level).eps, denoise(x_t, level).eps)
    assert counted.evaluations == 1


class Ticking:
    """A clock that says how long each evaluation took, and the denoiser that is timed by it."""

    def __init__(self, seconds):
        self.seconds, self.now, self.asked = iter(seconds), 0.0, 0
        self.denoise = ExactDenoiser(torch.zeros(1, 1, 2, 2))

    def clock(self):
        return self.now

    def __call__(self, x_t, level):
        self.now, self.asked = self.now + next(self.seconds), self.asked + 1
        return self.denoise(x_t, level)


def test_a_timing_is_warmed_repeated_and_says_its_spread():
    slow_at_first = Ticking([5.0, 3.0, 1.0, 1.1, 0.9, 1.0, 1.2])
    x_t, level = torch.ones(1, 1, 2, 2), FlowSchedule().level(0.5)
    timing = time_evaluation(slow_at_first, x_t, level, repeats=5, clock=slow_at_first.clock)
    assert slow_at_first.asked == 7 and timing.repeats == 5 and not timing.disturbed
    assert (timing.seconds, timing.low, timing.high) == pytest.approx((1.0, 0.9, 1.2))
    noisy = Ticking([1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0])
    assert time_evaluation(noisy, x_t, level, repeats=5, clock=noisy.clock).disturbed
    with pytest.raises(ValueError, match="repeats must be a whole number, 3 or more; got 1"):
        time_evaluation(noisy, x_t, level, repeats=1)


def bisected(schedule, noisy, clean, level):
    """The time between noisy and clean of the same signal-to-noise ratio, found by halving."""
    if not noisy.sigma * level.alpha > level.sigma * noisy.alpha:
        return noisy.t
    if not level.sigma * clean.alpha > clean.sigma * level.alpha:
        return clean.t
    for _ in range(60):
        middle = schedule.level((noisy.t + clean.t) / 2)
        if middle.sigma * level.alpha > level.sigma * middle.alpha:
            noisy = middle
        else:
            clean = middle
    return (noisy.t + clean.t) / 2


@pytest.mark.parametrize("name", ALL_SCHEDULES)
def test_the_closed_form_finds_what_halving_found(name):
    schedule, others = ALL_SCHEDULES[name](), (FlowSchedule(), DDPMSchedule.cosine(), EDMSchedule())
    noisy, *_, clean, _ = schedule.levels(min(1000, getattr(schedule, "num_train_timesteps", 1000)))
    for other in others:
        for level in [*other.levels(12)[:-1], *other.levels(3)[:-1]]:
            halved = bisected(schedule, noisy, clean, level)
            assert level_of_same_snr(schedule, level).t == pytest.approx(halved, abs=1e-6, rel=1e-6)


OF_RANDOM = {"ddim": {"eta": 0.5}}  # deterministic by default
SECOND = {"heun": 2}  # evaluations of a step that is not the last


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_branch_computes_only_what_follows_and_unchanged_it_is_the_run(sampler):
    model = load_pretrained("mnist_unet_flow")
    levels, denoise, options = model.levels(4), model.denoiser([3, 7], 2.0), OF_RANDOM.get(sampler, {})
    steps = list(model.steps(denoise, 2, 4, sampler=sampler, seed=5, **options))
    for i in (0, 2, 3):
        counted = Counted(denoise)
        again = list(branch(counted, steps[i].x_t, levels, i, sampler=sampler, seed=5, **options))
        assert [step.i for step in again] == list(range(i, 4))
        assert counted.evaluations == (4 - i - 1) * SECOND.get(sampler, 1) + 1
        if sampler != "dpm_solver_pp_2m" or i in (0, 3):  # which has no earlier prediction; the last step needs none
            assert torch.equal(again[-1].x_next, steps[-1].x_next)
    other = list(branch(model.denoiser([8, 8], 2.0), steps[2].x_t, levels, 2, sampler=sampler, seed=5, **options))
    assert torch.equal(other[0].x_t, steps[2].x_t) and rms_distance(other[-1].x_next, steps[-1].x_next) > 0.02
    if sampler in ("ddpm", "euler_ancestral", "ddim"):
        noisier = list(branch(denoise, steps[2].x_t, levels, 2, sampler=sampler, seed=6, **options))
        assert not torch.equal(noisier[-1].x_next, steps[-1].x_next)


@pytest.mark.parametrize("i", [-1, 4, 1.5, True, "1"])
def test_a_branch_begins_at_a_step_of_its_run(i):
    model = load_pretrained("mnist_unet_flow")
    with pytest.raises(ValueError, match="i must be"):
        branch(model.denoiser([3]), model.noise(1), model.levels(4), i)
