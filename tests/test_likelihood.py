"""The log-likelihood by the flow's divergence against closed forms, and bits per dimension against known codes."""

import math

import pytest
import torch

from diffusion_explained.denoisers import NetworkDenoiser, Prediction
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.likelihood import bits_per_dimension, dequantise, log_likelihood
from diffusion_explained.noise import generators, stream
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule

MIXTURE = GaussianMixture(
    torch.tensor([[-0.6, 0.4], [0.8, 0.1], [0.0, -0.7]]), std=torch.tensor([0.3, 0.4, 0.2]), weights=[1.0, 2.0, 1.0]
)
EXACT = ExactDenoiser(MIXTURE)
POINTS = MIXTURE.sample(12, torch.Generator().manual_seed(0))[0].double()
FLOW = FlowSchedule()
SCHEDULES = {
    "flow": FLOW,  # begins at alpha = 0
    "shifted flow": FlowSchedule(shift=3.0),
    "EDM": EDMSchedule(),
    "linear": DDPMSchedule.linear(),
    "cosine": DDPMSchedule.cosine(),
    "zero terminal SNR": DDPMSchedule.linear(rescale_zero_terminal_snr=True),
}
PATHS = {name: schedule.levels(150) for name, schedule in SCHEDULES.items()}
PATHS["linear, down to t = 60"] = [SCHEDULES["linear"].level(t) for t in range(999, 59, -6)]
PATHS["flow, down to t = 0.2"] = [FLOW.level(t / 100) for t in range(100, 19, -1)]


def exact_log_p(levels, points=POINTS, denoise=EXACT):
    return log_likelihood(denoise, points, levels, divergence="exact")


@pytest.mark.parametrize("name", PATHS)
def test_it_is_the_closed_form_on_every_schedule_at_clean_and_noisy_ends(name):
    levels = PATHS[name]
    # EDM's noise has the variance 80^2, and the data's mean and variance are neglected beside it
    torch.testing.assert_close(exact_log_p(levels), MIXTURE.log_density(POINTS, levels[-1]), rtol=0, atol=0.03)


def test_the_solver_is_of_second_order():
    truth = MIXTURE.log_density(POINTS, FLOW.clean)
    errors = [float((exact_log_p(FLOW.levels(n)) - truth).abs().mean()) for n in (20, 40, 80)]
    assert 3 < errors[0] / errors[1] < 6 and 3 < errors[1] / errors[2] < 6


def test_random_vectors_estimate_the_exact_divergence():
    levels, one = FLOW.levels(20), POINTS[:1]
    drawn = log_likelihood(ExactDenoiser(MIXTURE), one.expand(2000, 2), levels, generator=stream(1))
    error = float(drawn.std()) / len(drawn) ** 0.5
    assert 0 < error < 0.1 and abs(float(drawn.mean() - exact_log_p(levels, one))) < 4 * error


def test_the_change_of_variables_holds_for_any_denoiser(toy_network):
    """The density at x is that of the solver's own map: its log determinant, by the Jacobian of the whole map."""
    denoise = NetworkDenoiser(toy_network, FLOW, "flow")
    levels, x = FLOW.levels(400)[:-1], torch.tensor([[0.3, -0.2], [0.1, 0.9]], dtype=torch.float64)

    def towards_noise(x):  # Euler's small steps backwards, as a check that shares no code
        for here, there in zip(reversed(levels[1:]), reversed(levels[:-1]), strict=True):
            middle = FLOW.level((here.t + there.t) / 2)
            half = denoise(x, here)
            half = denoise(x + (there.t - here.t) / 2 * (half.eps - half.x_0), middle)
            x = x + (there.t - here.t) * (half.eps - half.x_0)
        return x

    x_T = towards_noise(x)
    rows = torch.autograd.functional.jacobian(lambda x: towards_noise(x).sum(0), x)  # [2, B, 2]
    expected = torch.linalg.slogdet(rows.transpose(0, 1)).logabsdet
    expected = expected - x_T.square().sum(1) / 2 - math.log(2 * math.pi)
    torch.testing.assert_close(exact_log_p(levels, x, denoise), expected, rtol=0, atol=1e-3)


def test_an_image_does_not_depend_on_its_batch():
    levels, denoise = FLOW.levels(5), ExactDenoiser(MIXTURE)
    together = log_likelihood(denoise, POINTS[:4], levels, generator=generators(4, seed=7))
    alone = log_likelihood(denoise, POINTS[2:3], levels, generator=generators(1, seed=9))
    torch.testing.assert_close(together[2:3], alone, rtol=1e-9, atol=1e-9)


def test_a_prediction_is_differentiable_only_where_x_t_asks_for_it(toy_network):
    network = torch.nn.Linear(2, 2)
    for denoise in (ExactDenoiser(MIXTURE), NetworkDenoiser(lambda x, t, cond: network(x), FLOW, "flow")):
        x_t = POINTS.float()
        assert not denoise(x_t, FLOW.level(0.5)).x_0.requires_grad
        assert denoise(x_t.requires_grad_(), FLOW.level(0.5)).x_0.requires_grad
        with torch.no_grad():
            assert not denoise(x_t, FLOW.level(0.5)).x_0.requires_grad


def broken(x_t, level):
    return Prediction(x_t * torch.nan, x_t * torch.nan, eps_cond=x_t)


def detached(x_t, level):
    return ExactDenoiser(MIXTURE)(x_t.detach(), level)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"levels": [FLOW.level(0.5), FLOW.level(0.1)]}, "must begin in noise.* 1, and 0.01 is the most"),
        ({"levels": FLOW.levels(4)[::-1]}, "decrease"),
        ({"x": torch.zeros(2)}, r"\[B, ...\]"),
        ({"x": torch.full((1, 2), torch.nan)}, "NaN or infinity; give finite data"),
        ({"divergence": "approximate"}, "approximate.*exact, hutchinson"),
        ({"denoise": broken}, "broken on the way"),
        ({"denoise": detached}, "not differentiable"),
        ({"denoise": lambda x_t, level: x_t}, "must return a Prediction"),
        ({"generator": generators(2)}, "2 generators for a batch of 12"),
    ],
)
def test_what_it_refuses(given, words):
    options = {"denoise": ExactDenoiser(MIXTURE), "x": POINTS, "levels": FLOW.levels(4), **given}
    with pytest.raises(ValueError, match=words):
        log_likelihood(**options)


def test_bytes_stay_in_their_bins_and_fill_them():
    images = torch.arange(256, dtype=torch.uint8).repeat(64).reshape(4, 1, 64, 64)
    x = dequantise(images, generators(4, seed=3))
    inside = (x + 1) * 127.5 + 0.5 - images  # from 0 to 1
    assert 0 <= inside.min() < 0.01 and 0.99 < inside.max() <= 1 + 1e-4
    assert abs(float(inside.mean()) - 0.5) < 0.01 and abs(float(inside.var()) - 1 / 12) < 0.003
    torch.testing.assert_close(x[1:2], dequantise(images[1:2], generators(1, seed=4)))
    with pytest.raises(ValueError, match="Only bytes"):
        dequantise(x)


def test_an_even_distribution_over_256_bytes_has_8_bits():
    D = 12
    even = torch.tensor([-D * math.log(512 / 255)])  # 256 bins of 2/255
    torch.testing.assert_close(bits_per_dimension(even, D), torch.tensor([8.0], dtype=torch.float64))
    twice = bits_per_dimension(even - D * math.log(2), D)  # half the probability of every value is one bit more
    torch.testing.assert_close(twice, torch.tensor([9.0], dtype=torch.float64))
    for given, words in (({"dimensions": 0}, "dimensions"), ({"dimensions": D, "bin_width": 0}, "bin_width")):
        with pytest.raises(ValueError, match=words):
            bits_per_dimension(even, **given)
