"""The newer rules of guidance against diffusers' own and against their limits, and the denoisers that apply them."""

import pytest
import torch
from diffusers.guiders.adaptive_projected_guidance import normalized_guidance
from diffusers.guiders.classifier_free_zero_star_guidance import cfg_zero_star_scale

from diffusion_explained.denoisers import GradientGuidedDenoiser, GuidedDenoiser, NetworkDenoiser
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.forward import add_noise
from diffusion_explained.guidance import guide, projected_guide, zero_star_guide
from diffusion_explained.schedules import EDMSchedule, FlowSchedule

COND, UNCOND = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
FLOW = FlowSchedule()
MIXTURE = GaussianMixture(torch.tensor([[-1.0, 0.2], [1.0, -0.3], [0.3, 1.0]]), 0.5, classes=torch.arange(3))
POINTS = torch.randn(20, 2, generator=torch.Generator().manual_seed(2))
OF_0 = torch.zeros(20, dtype=torch.int64)
LEVELS = [FLOW.level(0.5), EDMSchedule().level(1.5)]


@pytest.mark.parametrize(("eta", "r"), [(0.0, None), (0.0, 2.0), (0.5, 3.0), (1.0, 100.0)])
def test_projected_guidance_equals_diffusers(eta, r):
    theirs = normalized_guidance(COND, UNCOND, 4.0, None, eta, r or 0.0)
    theirs = theirs + COND - UNCOND - (theirs - UNCOND) / 4.0  # their scale counts from uncond, the paper's from cond
    ours = projected_guide(COND, UNCOND, 4.0, parallel=eta, most_norm=r)
    original = normalized_guidance(COND, UNCOND, 3.0, None, eta, r or 0.0, use_original_formulation=True)
    torch.testing.assert_close(ours, original, **CLOSE)
    torch.testing.assert_close(theirs, original, **CLOSE)


def test_zero_star_guidance_equals_diffusers():
    s = cfg_zero_star_scale(COND.flatten(1), UNCOND.flatten(1)).reshape(3, 1, 1, 1)
    torch.testing.assert_close(zero_star_guide(COND, UNCOND, 3.0), s * UNCOND + 3.0 * (COND - s * UNCOND), **CLOSE)


@pytest.mark.parametrize("rule", [guide, projected_guide, zero_star_guide])
def test_scale_1_is_the_conditional_output_and_images_are_separate(rule):
    torch.testing.assert_close(rule(COND, UNCOND, 1.0), COND, **CLOSE)
    torch.testing.assert_close(rule(COND, UNCOND, 3.0)[1:2], rule(COND[1:2], UNCOND[1:2], 3.0), **CLOSE)
    assert bool(rule(torch.zeros(2, 3), torch.zeros(2, 3), 3.0).isfinite().all())
    for cond, scale, words in ((COND[:1], 3.0, "same shape"), (COND, -1.0, "guidance_scale")):
        with pytest.raises(ValueError, match=words):
            rule(cond, UNCOND, scale)


def test_projected_guidance_leaves_the_component_along_cond():
    change = projected_guide(COND, UNCOND, 5.0) - COND
    torch.testing.assert_close((change * COND).flatten(1).sum(1), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(projected_guide(COND, UNCOND, 5.0, parallel=1.0), guide(COND, UNCOND, 5.0), **CLOSE)
    short = projected_guide(COND, UNCOND, 2.0, parallel=1.0, most_norm=0.5) - COND
    torch.testing.assert_close(short.flatten(1).norm(dim=1), torch.full((3,), 0.5), **CLOSE)
    for options, words in (({"parallel": 2}, "parallel"), ({"most_norm": -1}, "most_norm")):
        with pytest.raises(ValueError, match=words):
            projected_guide(COND, UNCOND, 2.0, **options)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["x_0", "eps", "flow", "v"])
def test_a_guided_denoiser_is_classifier_free_guidance(kind, level):
    strong, weak = ExactDenoiser(MIXTURE, OF_0), ExactDenoiser(MIXTURE)
    pred = GuidedDenoiser(strong, weak, lambda c, u: guide(c, u, 3.0), kind)(POINTS, level)
    expected = ExactDenoiser(MIXTURE, OF_0, guidance_scale=3.0)(POINTS, level)
    for one in ("x_0", "eps", "eps_cond", "eps_uncond"):
        torch.testing.assert_close(getattr(pred, one), getattr(expected, one), rtol=1e-4, atol=1e-4)


def test_a_guided_denoiser_at_pure_noise(toy_network):
    labels, null = torch.tensor([1, 2, 3]), torch.tensor([0, 0, 0])
    strong, weak = (NetworkDenoiser(toy_network, FLOW, "flow", cond=of) for of in (labels, null))
    expected = NetworkDenoiser(toy_network, FLOW, "flow", cond=labels, uncond=null, guidance_scale=2.0)(
        COND, FLOW.level(1.0)
    )
    for kind in ("x_0", "eps", "flow"):
        pred = GuidedDenoiser(strong, weak, lambda c, u: guide(c, u, 2.0), kind)(COND, FLOW.level(1.0))
        torch.testing.assert_close(pred.x_0, expected.x_0, **CLOSE)
        torch.testing.assert_close(add_noise(pred.x_0, pred.eps, FLOW.level(1.0)), COND, **CLOSE)


def log_0(x_t, pred, level):
    return MIXTURE.class_probabilities(x_t, level)[:, 0].log().to(x_t.dtype)


@pytest.mark.parametrize("level", LEVELS)
def test_the_exact_classifiers_gradient_is_classifier_free_guidance(level):
    pred = GradientGuidedDenoiser(ExactDenoiser(MIXTURE), log_0, 2.5)(POINTS, level)
    expected = ExactDenoiser(MIXTURE, OF_0, guidance_scale=2.5)(POINTS, level)
    torch.testing.assert_close(pred.eps, expected.eps, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(pred.x_0, expected.x_0, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(add_noise(pred.x_0, pred.eps, level), POINTS, **CLOSE)
    off = GradientGuidedDenoiser(ExactDenoiser(MIXTURE), log_0, 0)(POINTS, level)
    torch.testing.assert_close(off.eps, ExactDenoiser(MIXTURE)(POINTS, level).eps)


def test_the_gradient_may_go_through_the_prediction_and_is_off_at_pure_noise():
    denoise = ExactDenoiser(MIXTURE)
    guided = GradientGuidedDenoiser(denoise, lambda x_t, pred, level: -pred.x_0.square().sum(1))
    assert not torch.allclose(guided(POINTS, LEVELS[0]).eps, denoise(POINTS, LEVELS[0]).eps)
    torch.testing.assert_close(guided(POINTS, FLOW.level(1.0)).x_0, denoise(POINTS, FLOW.level(1.0)).x_0)
    with torch.no_grad():
        assert not guided(POINTS, LEVELS[0]).x_0.requires_grad


def test_what_the_guided_denoisers_refuse():
    exact = ExactDenoiser(MIXTURE)
    for make, words in (
        (lambda: GuidedDenoiser(exact, 3, guide), "weak"),
        (lambda: GuidedDenoiser(exact, exact, guide, "score"), "kind of guided prediction"),
        (lambda: GuidedDenoiser(exact, exact, lambda c, u: c[:1])(POINTS, LEVELS[0]), "same shape"),
        (lambda: GuidedDenoiser(exact, exact, lambda c, u: c)(POINTS, FLOW.clean), "sigma = 0"),
        (lambda: GradientGuidedDenoiser(exact, log_0, -1), "scale"),
        (lambda: GradientGuidedDenoiser(exact, None), "log_p"),
        (lambda: GradientGuidedDenoiser(exact, lambda *_: torch.zeros(20))(POINTS, LEVELS[0]), "one number per image"),
        (lambda: GradientGuidedDenoiser(exact, lambda x, *_: x)(POINTS, LEVELS[0]), "one number per image"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
