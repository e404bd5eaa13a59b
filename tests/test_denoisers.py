"""Guidance, clipping and the network adapter."""

import inspect
import math
import types

import numpy as np
import pytest
import torch
from torch import nn

from diffusion_explained.denoisers import NetworkDenoiser, Prediction, clip_x_0
from diffusion_explained.forward import add_noise
from diffusion_explained.guidance import guide, rescale_guided
from diffusion_explained.noise import generators
from diffusion_explained.predictions import to_x0_eps
from diffusion_explained.samplers import SAMPLERS, final
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule

DDPM, FLOW = DDPMSchedule.linear(), FlowSchedule()


class Counting:
    """A network that remembers the batches it was given."""

    image_shape = (3, 8, 8)

    def __init__(self, network):
        self.network, self.batches, self.times, self.labels = network, [], [], []

    def __call__(self, x, t, labels=None):
        self.batches.append(len(x))
        self.times.append(t)
        self.labels.append(labels)
        return self.network(x, t, labels)


LABELS, NULL = torch.tensor([3, 7]), torch.tensor([10])


def test_scale_1_costs_one_pass_and_guidance_one_batch_of_2b(toy_network, x_T):
    network = Counting(toy_network)
    pred = NetworkDenoiser(network, FLOW, "flow", cond=LABELS, uncond=NULL)(x_T, FLOW.level(0.5))
    assert network.batches == [2] and pred.eps_uncond is None
    pred = NetworkDenoiser(network, FLOW, "flow", cond=LABELS, uncond=NULL, guidance_scale=2.0)(x_T, FLOW.level(0.5))
    assert network.batches == [2, 4] and pred.eps_uncond is not None
    assert network.labels[1].tolist() == [10, 10, 3, 7]
    assert network.times[1].tolist() == [500.0] * 4


def test_a_network_that_shares_the_sides_gets_x_once(toy_network, x_T):
    class Sharing(Counting):
        shares_sides = True

        def __call__(self, x, t, labels):
            self.batches.append((len(x), len(t), len(labels)))
            count = len(labels) // len(x)
            return self.network(torch.cat([x] * count), torch.cat([t] * count), labels)

    network, options = Sharing(toy_network), {"cond": LABELS, "uncond": NULL, "guidance_scale": 2.0}
    got = NetworkDenoiser(network, FLOW, "flow", **options)(x_T, FLOW.level(0.5))
    expected = NetworkDenoiser(toy_network, FLOW, "flow", **options)(x_T, FLOW.level(0.5))
    torch.testing.assert_close(got.x_0, expected.x_0)
    torch.testing.assert_close(got.eps_uncond, expected.eps_uncond)
    NetworkDenoiser(network, FLOW, "flow", cond=LABELS)(x_T, FLOW.level(0.5))
    assert network.batches == [(2, 2, 4), (2, 2, 2)], "the conditions of both sides, or with guidance off of one"


def test_the_convention_of_guidance_scale(toy_network, x_T):
    """0 is the unconditional side, 1 the conditional one, 3 goes three times the way: uncond + w (cond - uncond)."""
    level = DDPM.level(400)

    def eps(scale, **sides):
        return NetworkDenoiser(toy_network, DDPM, "eps", guidance_scale=scale, **sides)(x_T, level).eps

    cond = eps(1.0, cond=LABELS)
    uncond = eps(1.0, cond=NULL.expand(2))
    sides = {"cond": LABELS, "uncond": NULL}
    torch.testing.assert_close(eps(0.0, **sides), uncond)
    torch.testing.assert_close(eps(1.0, **sides), cond)
    torch.testing.assert_close(eps(3.0, **sides), uncond + 3 * (cond - uncond))
    w_of_the_first_paper = 3.0 - 1
    torch.testing.assert_close(eps(3.0, **sides), (1 + w_of_the_first_paper) * cond - w_of_the_first_paper * uncond)


@pytest.mark.parametrize("kind", ["eps", "v", "flow", "x_0"])
def test_guiding_outputs_then_converting_equals_guiding_eps(kind, toy_network, x_T):
    level = DDPM.level(400)
    pred = NetworkDenoiser(toy_network, DDPM, kind, cond=LABELS, uncond=NULL, guidance_scale=4.0)(x_T, level)
    torch.testing.assert_close(pred.eps, guide(pred.eps_cond, pred.eps_uncond, 4.0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(add_noise(pred.x_0, pred.eps, level), x_T, rtol=1e-4, atol=1e-4)


def test_a_negative_class_stands_on_the_unconditional_side(toy_network, x_T):
    level = FLOW.level(0.7)
    negative = torch.tensor([5, 5])
    pred = NetworkDenoiser(toy_network, FLOW, "flow", cond=LABELS, uncond=negative, guidance_scale=2.0)(x_T, level)
    of_negative = NetworkDenoiser(toy_network, FLOW, "flow", cond=negative)(x_T, level)
    torch.testing.assert_close(pred.eps_uncond, of_negative.eps)


def test_a_condition_of_several_tensors_is_batched_tensor_by_tensor(toy_network, x_T):
    """As a prompt's, which is its embeddings and one pooled vector: uncond first, one for all images if it is one."""
    seen = []

    def network(x, t, cond):
        seen.append(cond)
        return toy_network(x, t, cond[0])

    level, pooled = FLOW.level(0.7), torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    sides = {"cond": (LABELS, pooled), "uncond": (NULL, torch.zeros(1, 5))}
    pred = NetworkDenoiser(network, FLOW, "flow", guidance_scale=2.0, **sides)(x_T, level)
    alone = NetworkDenoiser(toy_network, FLOW, "flow", cond=LABELS, uncond=NULL, guidance_scale=2.0)(x_T, level)
    assert torch.equal(pred.eps, alone.eps)
    listed = NetworkDenoiser(network, FLOW, "flow", guidance_scale=2.0, **{k: list(one) for k, one in sides.items()})
    assert torch.equal(listed(x_T, level).eps, pred.eps), "a list of tensors is a tuple of them"
    for labels, vectors in seen:
        assert labels.tolist() == [10, 10, 3, 7] and torch.equal(vectors, torch.cat([torch.zeros(2, 5), pooled]))


def test_guidance_interval_is_measured_in_sigma_over_alpha(toy_network, x_T):
    options = {"cond": LABELS, "uncond": NULL, "guidance_scale": 2.0, "guidance_interval": (0.5, 2.0)}
    network = Counting(toy_network)
    denoise = NetworkDenoiser(network, FLOW, "flow", **options)
    for t, guided in [(1.0, False), (0.8, False), (0.6, True), (0.4, True), (0.3, False)]:
        assert denoise.guides_at(FLOW.level(t)) is guided
        assert (denoise(x_T, FLOW.level(t)).eps_uncond is not None) is guided
    assert network.batches == [2, 2, 4, 4, 2]
    unbounded = NetworkDenoiser(toy_network, FLOW, "flow", **options | {"guidance_interval": (0.0, math.inf)})
    assert unbounded.guides_at(FLOW.level(1.0))


def test_rescale_equals_diffusers():
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    g = torch.Generator().manual_seed(0)
    cond, uncond = torch.randn(2, 3, 4, 8, 8, generator=g)
    guided = guide(cond, uncond, 7.5)
    torch.testing.assert_close(rescale_guided(guided, cond, 0.7), rescale_noise_cfg(guided, cond, guidance_rescale=0.7))
    full = rescale_guided(guided, cond, 1.0)
    torch.testing.assert_close(full.std((1, 2, 3)), cond.std((1, 2, 3)))


def test_rescale_acts_in_the_denoiser(toy_network, x_T):
    options = {"cond": LABELS, "uncond": NULL, "guidance_scale": 7.5}
    level = DDPM.level(400)
    pred = NetworkDenoiser(toy_network, DDPM, "eps", guidance_rescale=0.7, **options)(x_T, level)
    expected = rescale_guided(guide(pred.eps_cond, pred.eps_uncond, 7.5), pred.eps_cond, 0.7)
    torch.testing.assert_close(pred.eps, expected)


def test_clipping_derives_eps_again():
    """The known bug: clamp x_0 and go on with the old eps; x_t is then no longer alpha * x_0 + sigma * eps."""
    level = DDPM.level(700)
    x_t = 2 * torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    x_0, eps = to_x0_eps("eps", torch.zeros_like(x_t), x_t, level.alpha, level.sigma)
    clipped = clip_x_0(Prediction(x_0, eps, eps), x_t, level, 1.0)
    assert float(x_0.abs().max()) > 1 and float(clipped.x_0.abs().max()) <= 1
    torch.testing.assert_close(add_noise(clipped.x_0, clipped.eps, level), x_t)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(add_noise(clipped.x_0, eps, level), x_t)


def test_clipping_equals_diffusers_step(toy_network, x_T):
    from diffusers import DDIMScheduler

    from diffusion_explained.samplers import ddim, final

    scheduler = DDIMScheduler(timestep_spacing="trailing", clip_sample=True)
    scheduler.set_timesteps(10)
    x = 1.5 * x_T
    for t in scheduler.timesteps:
        # use_clipped_model_output is diffusers' name for deriving eps again
        x = scheduler.step(toy_network(x, t[None].float()), t, x, use_clipped_model_output=True).prev_sample
    denoise = NetworkDenoiser(toy_network, DDPM, "eps", clip=1.0)
    torch.testing.assert_close(final(ddim(denoise, 1.5 * x_T, DDPM.levels(10))), x, rtol=1e-5, atol=1e-5)


def test_edm_networks_see_a_scaled_input(toy_network, x_T):
    schedule = EDMSchedule()
    seen = []

    def network(x, t, labels=None):
        seen.append((x, t))
        return toy_network(x, t, labels)

    pred = NetworkDenoiser(network, schedule, "edm")(80 * x_T, schedule.level(80.0))
    torch.testing.assert_close(seen[0][0], x_T * 80 / (80**2 + 0.25) ** 0.5)
    assert float(seen[0][1][0]) == pytest.approx(250 * math.log(80), rel=1e-6)
    torch.testing.assert_close(add_noise(pred.x_0, pred.eps, schedule.level(80.0)), 80 * x_T, rtol=1e-4, atol=1e-3)


def test_bad_input(toy_network, x_T):
    def make(**options):
        return NetworkDenoiser(toy_network, FLOW, options.pop("kind", "flow"), **options)

    for options, message in [
        ({"kind": "noise"}, "unknown kind of prediction"),
        ({"guidance_scale": math.nan, "cond": LABELS, "uncond": NULL}, "finite"),
        ({"guidance_scale": math.inf, "cond": LABELS, "uncond": NULL}, "finite"),
        ({"guidance_scale": -1.0, "cond": LABELS, "uncond": NULL}, "from 0 to 100"),
        ({"guidance_scale": 2.0}, "cond and uncond"),
        ({"guidance_scale": 2.0, "cond": LABELS}, "cond and uncond"),
        ({"cond": torch.zeros(2, 4), "uncond": torch.zeros(2, 5)}, "must be as cond"),
        ({"cond": (LABELS, torch.zeros(2, 4)), "uncond": (NULL, torch.zeros(1, 5))}, "must be as cond"),
        ({"cond": (LABELS, torch.zeros(2, 4)), "uncond": (NULL,)}, "2 tensors and uncond of 1"),
        ({"guidance_interval": (3.0, 1.0)}, "low < high"),
        ({"guidance_interval": (0.2,)}, "low < high"),
        ({"guidance_interval": (0.2, 1.0, 3.0)}, "low < high"),
        ({"guidance_rescale": 1.5}, "guidance_rescale"),
        ({"clip": 0.0}, "clip"),
    ]:
        with pytest.raises(ValueError, match=message):
            make(**options)
    with pytest.raises(ValueError, match="3 images but there are 2 conditions"):
        make(cond=LABELS)(torch.zeros(3, 3, 8, 8), FLOW.level(0.5))
    network = Counting(toy_network)
    with pytest.raises(ValueError, match=r"takes \[B, \*\(3, 8, 8\)\]"):
        NetworkDenoiser(network, FLOW, "flow")(torch.zeros(2, 1, 8, 8), FLOW.level(0.5))
    assert network.batches == []


# -- a network of the user's own --------------------------------------------------------------------------


def drawn(network, name="euler"):
    x_T = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    streams = {"generator": generators(2)} if "generator" in inspect.signature(SAMPLERS[name]).parameters else {}
    return final(SAMPLERS[name](NetworkDenoiser(network, FLOW, "flow", cond=LABELS), x_T, FLOW.levels(4), **streams))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_network_that_changes_its_inputs_in_place_draws_the_same(name):
    def plain(x, t, cond):
        return torch.tanh(x) + t.reshape(-1, 1, 1, 1) / 1000

    def in_place(x, t, cond):
        cond.zero_()
        return x.tanh_().add_(t.div_(1000).reshape(-1, 1, 1, 1))

    assert torch.equal(drawn(in_place, name), drawn(plain, name))
    assert LABELS.tolist() == [3, 7]


def test_a_denoiser_that_changes_x_t_in_place_draws_the_same():
    def denoise(x_t, level):
        x_0 = x_t.mul_(0.5)
        return Prediction(x_0, 0 * x_0, 0 * x_0)

    x_T = torch.ones(1, 2)
    assert final(SAMPLERS["euler"](denoise, x_T, FLOW.levels(2))).tolist() == [[1.25**2, 1.25**2]]
    assert x_T.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm2d(1)])
def test_a_network_in_training_mode_draws_in_evaluation_mode_and_is_left_as_it_was(layer):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.frozen = layer, nn.Dropout(0.5).eval()

        def forward(self, x, t, cond):
            return self.frozen(self.layer(x))

    network = Own()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert torch.equal(drawn(network), drawn(network))
    assert network.training and layer.training and not network.frozen.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda x, t, cond: (x,), "must return a tensor, of the shape of x; got a tuple"),
        (lambda x, t, cond: types.SimpleNamespace(sample=x), r"got a SimpleNamespace\. Return its \.sample"),
        (lambda x, t, cond: None, "got a NoneType"),
        (lambda x, t, cond: (127 * x).to(torch.uint8), "must hold floats"),
        (lambda x, t, cond: x + 0j, "must hold floats"),
        (lambda x, t, cond: x.to_sparse(), r"dense.*to_dense"),
        (lambda x, t: x, r"called as network\(x, t, cond\).*too many positional"),
        (nn.Sequential(), r"called as network\(x, t, cond\)"),
        (nn.Identity, "got <class"),
    ],
)
def test_what_a_network_must_take_and_return_is_said(network, words):
    with pytest.raises(ValueError, match=words):
        drawn(network)


@pytest.mark.parametrize("wrong", [None, torch.ones(1, 2, dtype=torch.int64), torch.ones(1, 2) > 0, np.ones((1, 2))])
def test_what_a_denoiser_must_return_is_said(wrong):
    good = torch.ones(1, 2)
    for pred in (Prediction(wrong, good, good), Prediction(good, wrong, good)):
        with pytest.raises(ValueError, match=r"The denoiser's (x_0|eps) must (be a tensor|hold floats)"):
            final(SAMPLERS["euler"](lambda x_t, level, pred=pred: pred, good, FLOW.levels(2)))
