"""The prediction table, read in both directions, at the end points too."""

import pytest
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler

from diffusion_explained.forward import add_noise
from diffusion_explained.predictions import KINDS, SIGMA_DATA, coefficients, input_scale, target, to_x0_eps
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule, Level

SCHEDULES = {"ddpm": DDPMSchedule.linear(), "edm": EDMSchedule(), "flow": FlowSchedule()}
PURE, CLEAN = Level(1.0, 0.0, 1.0), Level(0.0, 1.0, 0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", SCHEDULES)
def test_target_and_its_inverse_round_trip(kind, family):
    x_0, eps = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for level in SCHEDULES[family].levels(6)[:-1]:
        if level.alpha == 0 and kind in ("eps", "score"):
            continue  # its own test, below
        x_t = add_noise(x_0, eps, level)
        output = target(kind, x_0, eps, level.alpha, level.sigma)
        back = to_x0_eps(kind, output, x_t, level.alpha, level.sigma)
        torch.testing.assert_close(back[0], x_0, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(back[1], eps, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_one_level_an_image(kind):
    g = torch.Generator().manual_seed(1)
    x_0, eps = torch.randn(2, 4, 2, 3, 3, generator=g)
    t = torch.tensor([1.0, 200.0, 500.0, 900.0])
    alpha, sigma = SCHEDULES["ddpm"].alpha(t), SCHEDULES["ddpm"].sigma(t)
    together = target(kind, x_0, eps, alpha, sigma)
    assert together.dtype == torch.float32
    for i in range(4):
        alone = target(kind, x_0[i : i + 1], eps[i : i + 1], float(alpha[i]), float(sigma[i]))
        torch.testing.assert_close(together[i : i + 1], alone)
    x_t = add_noise(x_0, eps, (t, alpha, sigma))
    torch.testing.assert_close(to_x0_eps(kind, together, x_t, alpha, sigma)[0], x_0, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("kind", "theirs"), [("eps", "epsilon"), ("x_0", "sample"), ("v", "v_prediction")])
@pytest.mark.parametrize("t", [0, 1, 500, 999])
def test_predicted_x_0_equals_diffusers(kind, theirs, t):
    scheduler = DDPMScheduler(prediction_type=theirs, clip_sample=False)
    output, x_t = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = scheduler.step(output, t, x_t).pred_original_sample
    level = SCHEDULES["ddpm"].level(t)
    x_0, eps = to_x0_eps(kind, output, x_t, level.alpha, level.sigma)
    torch.testing.assert_close(x_0, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(add_noise(x_0, eps, level), x_t, rtol=1e-4, atol=1e-4)


def test_v_target_equals_diffusers_velocity():
    x_0, eps = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0, 10, 500, 999])
    schedule = SCHEDULES["ddpm"]
    torch.testing.assert_close(
        target("v", x_0, eps, schedule.alpha(t), schedule.sigma(t)),
        DDPMScheduler().get_velocity(x_0, eps, t), rtol=1e-5, atol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_edm_is_karras_preconditioning(sigma):
    """D = c_skip * x + c_out * F and the input c_in * x, as diffusers' EDM scheduler computes them."""
    scheduler = EDMEulerScheduler(sigma_data=SIGMA_DATA)
    x_t, output = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    x_0, _ = to_x0_eps("edm", output, x_t, 1.0, sigma)
    torch.testing.assert_close(
        x_0, scheduler.precondition_outputs(x_t, output, torch.tensor(sigma)), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        x_t * input_scale("edm", 1.0, sigma), scheduler.precondition_inputs(x_t, torch.tensor(sigma)),
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip
    assert input_scale("v", 0.5, 0.5) == 1


def test_edm_input_and_target_have_unit_variance():
    """What the preconditioning is for (EDM, App. B.6): data of std sigma_data gives inputs and targets of std 1."""
    g = torch.Generator().manual_seed(0)
    x_0 = SIGMA_DATA * torch.randn(200_000, generator=g)
    eps = torch.randn(200_000, generator=g)
    for sigma in (0.01, 0.5, 10.0):
        level = Level(sigma, 1.0, sigma)
        assert float(target("edm", x_0, eps, 1.0, sigma).std()) == pytest.approx(1, abs=0.01)
        assert float((input_scale("edm", 1.0, sigma) * add_noise(x_0, eps, level)).std()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_the_row_is_solved_by_its_determinant(kind):
    """The determinants that the module's table lists, at a level of each family."""
    for alpha, sigma in [(0.8, 0.6), (1.0, 3.0), (0.3, 0.7)]:
        r = (sigma**2 + (SIGMA_DATA * alpha) ** 2) ** 0.5
        listed = {
            "eps": alpha, "x_0": -sigma, "v": alpha**2 + sigma**2, "flow": alpha + sigma,
            "score": -alpha / sigma, "edm": -r / SIGMA_DATA,
        }  # fmt: skip
        a, b = coefficients(kind, alpha, sigma)
        assert alpha * b - sigma * a == pytest.approx(listed[kind], rel=1e-9)


WELL_POSED = [(PURE, kind) for kind in ("x_0", "v", "flow", "edm")] + [
    (CLEAN, kind) for kind in ("eps", "v", "flow", "edm")
]


@pytest.mark.parametrize(("end", "kind"), WELL_POSED)
def test_an_end_is_no_problem_where_the_table_says_so(end, kind):
    x_0, eps = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(0))
    output = target(kind, x_0, eps, end.alpha, end.sigma)
    back = to_x0_eps(kind, output, add_noise(x_0, eps, end), end.alpha, end.sigma)
    torch.testing.assert_close(back, (x_0, eps))


def test_ill_posed_ends_are_errors_not_nan():
    x = torch.zeros(1, 2)
    for kind, level, where in [
        ("eps", PURE, "pure noise"),
        ("score", PURE, "pure noise"),
        ("eps", Level(1.0, 1e-7, 1.0), "pure noise"),  # x_0 would be the rounding of float32, ten million times larger
        ("x_0", CLEAN, "clean data"),
        ("score", CLEAN, "clean data"),
    ]:
        with pytest.raises(ValueError, match=where):
            to_x0_eps(kind, x, x, level.alpha, level.sigma)
    with pytest.raises(ValueError, match=r"unknown kind of prediction .* eps, flow, score, v, x_0"):
        target("noise", x, x, 0.5, 0.5)
