"""Painting with a picture given: RePaint in latents, outpainting, regional prompts; with exact denoisers if possible.

Micro and the stand-ins of Stable Diffusion take the same calls; the stand-in's weights are random.
"""

from dataclasses import replace

import pytest
import torch

from diffusion_explained import inverse, samplers
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.noise import randn, stream, streams_of
from diffusion_explained.samplers import final
from diffusion_explained.schedules import FlowSchedule
from diffusion_explained.stable_diffusion import load, stand_in
from diffusion_explained.stable_diffusion.inpainting import KnownRegion, repainted
from diffusion_explained.stable_diffusion.latents import Known, Start
from diffusion_explained.stable_diffusion.outpainting import outpaint, zoomed_out
from diffusion_explained.stable_diffusion.region_films import RecordedRegions, region_film
from diffusion_explained.stable_diffusion.regions import RegionalDenoiser, regional

SIDE = 64
SHORT = {"num_inference_steps": 3, "guidance_scale": 3.0}


@pytest.fixture(scope="module")
def sd():
    return stand_in(device="cpu")


@pytest.fixture(scope="module")
def micro():
    return load("micro")


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3)) * 2 - 1


def half(side: int) -> torch.Tensor:
    mask = torch.zeros(side, side)
    mask[:, side // 2 :] = 1
    return mask


# -- RePaint ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 3])
def test_resamplings_are_repaint_in_latents(sd, image, times):
    """`steps` is `inverse.repaint` (tested against the paper's algorithm) with the plain denoiser and the latents."""
    begun = sd.prepare(seed=[4], image=image, mask=half(SIDE), levels=sd.levels(3, "ddpm"), sampler="ddpm")
    streams = streams_of([4], None)
    for _ in range(2):  # the start has drawn the encoder's noise and its own
        randn(begun.x_t.shape, streams)
    plain = sd.denoiser(sd.encode_text("a cat"), 3.0, start=replace(begun, known=None))
    expected = final(
        inverse.repaint(
            plain, begun.x_t, begun.levels, known=begun.known.image_latents, mask=begun.known.mask, resamplings=times,
            generator=streams,
        )
    )  # fmt: skip
    ours = list(sd.steps("a cat", image=image, mask=half(SIDE), seed=[4], resamplings=times, **SHORT))
    torch.testing.assert_close(ours[-1].x_next, expected)
    assert torch.equal(ours[-1].x_next[..., : SIDE // 16], begun.known.image_latents[..., : SIDE // 16])


def test_with_an_exact_denoiser_resampling_leaves_nothing_where_the_posterior_has_none():
    """Two coordinates, three modes: where the first is 0.5, the second lies at 1 or at -1, within 0.3 of it."""
    means, levels, count = torch.tensor([[0.5, 1.0], [0.5, -1.0], [-0.5, 0.0]]), FlowSchedule().levels(12), 2000
    denoise, streams = ExactDenoiser(GaussianMixture(means, 0.1)), stream(0)
    eps = randn((count, 2), streams)
    known = Known(torch.tensor([0.5, 0.0]).expand(count, 2), eps, torch.tensor([0.0, 1.0]).expand(count, 2), levels[0])
    begun = Start(eps, levels, streams, known)

    def between(x_0):
        return float(((x_0[:, 1].abs() - 1).abs() > 0.3).float().mean())

    assert between(final(samplers.euler(KnownRegion(denoise, known), eps, levels))) > 0.05
    assert between(final(repainted(KnownRegion(denoise, known), begun, 8))) < 0.005


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resamplings": 2}, "need a picture with a known part"),
        ({"resamplings": 2, "sampler": "euler"}, "leave sampler out, or give sampler='ddpm'; got 'euler'"),
        ({"resamplings": 0, "image": "image"}, "resamplings must be"),
        ({"resamplings": 2, "image": "image", "variance": "large"}, "variance"),
    ],
)
def test_what_resamplings_refuse(sd, image, options, words):
    if "image" in options:
        options = {**options, "image": image, "mask": half(SIDE)}
    with pytest.raises(ValueError, match=words):
        final(
            sd.steps("a cat", **SHORT, **({"height": SIDE, "width": SIDE} if "image" not in options else {}), **options)
        )


def test_a_network_that_was_trained_to_inpaint_needs_no_resamplings(image):
    model = stand_in(in_channels=9, device="cpu")
    with pytest.raises(ValueError, match="not trained to inpaint"):
        model.steps("a cat", image=image, mask=half(SIDE), resamplings=2, **SHORT)


# -- outpainting --------------------------------------------------------------------------------------------


def test_a_picture_is_zoomed_out_on_a_grid_of_latents():
    image = torch.linspace(-1, 1, 3 * 64 * 128).reshape(1, 3, 64, 128)
    canvas, mask = zoomed_out(image, 2.0)
    assert canvas.shape == image.shape and mask.shape == (64, 128)
    known = mask == 0
    assert known[16:48, 32:96].all() and int(known.sum()) == 32 * 64
    torch.testing.assert_close(
        canvas[:, :, 16:48, 32:96].mean((2, 3)), image.mean((2, 3)), atol=0.01, rtol=0
    )  # fmt: skip
    assert torch.equal(canvas[:, :, 0, 32:96], canvas[:, :, 16, 32:96])  # its edge goes on around it
    assert zoomed_out(image[0], 4.0)[0].shape == image.shape


@pytest.mark.parametrize("bad", [1.0, 0.5, 9.0, float("nan"), 1.05])
def test_zooms_that_leave_nothing_are_refused(bad):
    with pytest.raises(ValueError, match="zoom"):
        zoomed_out(torch.zeros(1, 3, 64, 64), bad)
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        zoomed_out(torch.full((1, 3, 64, 64), 255.0))


def test_outpainting_keeps_the_smaller_picture_on_micro_and_on_stable_diffusion(sd, micro, image):
    for model, given in ((sd, image), (micro, torch.nn.functional.interpolate(image, size=(128, 128)))):
        canvas, mask = zoomed_out(given, 2.0)
        for times in (None, 2):
            drawn = outpaint(model, "a cat", given, seed=0, resamplings=times, **SHORT)
            steps = model.steps("a cat", image=canvas, mask=mask, seed=0, resamplings=times, **SHORT)
            assert torch.equal(drawn, model.decode(final(steps)))


# -- regional prompts ---------------------------------------------------------------------------------------


def test_with_exact_denoisers_regions_that_do_not_depend_on_each_other_are_exact():
    """Each prompt's data are Gaussians with independent coordinates: the mixture's samples are those of the product."""
    schedule = FlowSchedule()
    levels, x_T = schedule.levels(60), randn((400, 2), [stream(i) for i in range(400)])
    one, other = (ExactDenoiser(GaussianMixture(torch.tensor([mean]), std))
                  for mean, std in (([2.0, 2.0], 0.1), ([-1.0, -1.0], 0.3)))  # fmt: skip
    denoise = RegionalDenoiser((one, other), torch.tensor([[1.0, 0.0], [0.0, 1.0]])[:, None])
    x_0 = final(samplers.euler(denoise, x_T, levels))
    torch.testing.assert_close(x_0.mean(0), torch.tensor([2.0, -1.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(x_0.std(0), torch.tensor([0.1, 0.3]), atol=0.03, rtol=0)


def test_one_prompt_everywhere_is_that_prompt_and_masks_choose_between_two(sd):
    begun = sd.prepare(seed=[0, 1], height=SIDE, width=SIDE, levels=sd.levels(3))
    x, level = begun.x_t, begun.levels[1]
    left, right = 1 - half(SIDE), half(SIDE)
    cat, dog = (sd.denoiser(sd.encode_text(text), 3.0, start=begun)(x, level) for text in ("a cat", "a dog"))
    same = regional(sd, ["a cat", "a cat"], [left, right], 3.0, start=begun)(x, level)
    torch.testing.assert_close(same.x_0, cat.x_0)
    mixed = regional(sd, ["a cat", "a dog"], [left, right], 3.0, start=begun)(x, level)
    for name in ("x_0", "eps", "eps_cond", "eps_uncond"):
        edge = SIDE // 16
        assert torch.equal(getattr(mixed, name)[..., :edge], getattr(cat, name)[..., :edge])
        assert torch.equal(getattr(mixed, name)[..., edge:], getattr(dog, name)[..., edge:])
    torch.testing.assert_close(x, level.alpha * mixed.x_0 + level.sigma * mixed.eps, atol=1e-4, rtol=1e-4)
    both = regional(sd, ["a cat", "a dog"], [left, torch.ones(SIDE, SIDE)], 3.0, start=begun)(x, level)
    torch.testing.assert_close(both.x_0[..., 0], (cat.x_0[..., 0] + dog.x_0[..., 0]) / 2)  # they overlap there


def test_regions_draw_and_inpaint_with_the_calls_of_a_prompt(micro):
    left, right = 1 - half(128), half(128)
    begun = micro.prepare(seed=[0], levels=micro.levels(3))
    denoise = regional(micro, ["a cat on the left", "a dog on the right"], [left, right], start=begun)
    assert micro.sample(denoise, num_inference_steps=3, seed=[0]).shape == (1, 3, 128, 128)
    options = {"image": torch.zeros(1, 3, 128, 128), "mask": right}
    begun = micro.prepare(seed=[0], levels=micro.levels(3), **options)
    denoise = regional(micro, ["a cat", "a dog"], [left, right], start=begun)
    assert isinstance(denoise, KnownRegion)
    drawn = final(micro.steps(denoise, num_inference_steps=3, seed=[0], **options))
    assert torch.equal(drawn[..., :8], begun.known.image_latents[..., :8])


def test_what_each_prompt_predicts_is_kept_and_changes_nothing(micro):
    """The mixture is the parts' by their masks at every step, and equal prompts are no distance apart."""
    left, right = 1 - half(128), half(128)
    begun, short = micro.prepare(seed=[0], levels=micro.levels(2)), {"num_inference_steps": 2, "seed": [0]}
    denoise = regional(micro, ["a cat", "a dog"], [left, right], start=begun)
    recorded, steps = RecordedRegions(denoise), []
    with pytest.raises(ValueError, match="call after"):
        recorded.after(None)
    for step in micro.steps(recorded, **short):
        recorded.after(step)
        steps.append(step)
    assert torch.equal(final(iter(steps)), final(micro.steps(denoise, **short)))
    for step, (cat, dog) in zip(steps, recorded.x_0, strict=True):
        assert torch.equal(step.pred.x_0, torch.cat([cat[..., :8], dog[..., 8:]], dim=-1))
    cat, dog = recorded.x_0[-1]
    apart = ((cat - dog)[..., :8] / 2).square().mean().sqrt()  # the standard deviation of two is half their distance
    torch.testing.assert_close(recorded.spread()[-1, 0], apart)
    pictures = recorded.pictures(micro)
    both = torch.cat([each[-1:] for each in pictures] + [pictures[0][:1]])
    shown = region_film(both, both, steps, recorded, pictures)
    assert len(shown.frames) == 3 and shown.rows == (2, 2) and len(shown.charts[0].curves) == 2


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ([half(SIDE)], "2 prompts and 1 masks"),
        ([half(SIDE), half(SIDE)], "No mask covers 50% of the picture"),
        ([half(SIDE), torch.ones(32, 32)], r"as large as the picture, \[64, 64\]; got \[32, 32\]"),
        ([half(SIDE), -torch.ones(SIDE, SIDE)], "from 0 to 1; got -1"),
        ([half(SIDE), torch.full((SIDE, SIDE), torch.nan)], "NaN"),
    ],
)
def test_masks_that_do_not_fit_are_refused(sd, masks, words):
    begun = sd.prepare(seed=0, height=SIDE, width=SIDE)
    with pytest.raises(ValueError, match=words):
        regional(sd, ["a cat", "a dog"], masks, start=begun)


# -- image to image from a scribble -------------------------------------------------------------------------


def test_a_scribble_is_a_picture_to_start_from(micro):
    """A blob of red on white: at a small strength micro's picture keeps its place, at full strength it forgets it."""
    scribble = torch.ones(1, 3, 128, 128)
    scribble[:, 1:, 64:112, 8:56] = -1

    def red(strength):
        drawn = micro.sample("red heart", image=scribble, strength=strength, num_inference_steps=8, seed=0)
        there = (drawn[:, 0] - drawn[:, 1:].mean(1)) > 0.5
        return float((there[:, 64:112, 8:56]).sum() / there.sum().clamp(min=1))

    assert red(0.4) > 0.8 and red(1.0) < 0.5
