"""The exercises of notebook 06, Classifier-free guidance."""

import torch

from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.exercises.grading import Given, exercise
from diffusion_explained.guidance import MAX_GUIDANCE_SCALE
from diffusion_explained.samplers import final, heun
from diffusion_explained.schedules import FlowSchedule

CENTRES, STD = [[-1.0, -0.4], [1.0, -0.4], [0.0, 1.0]], 0.55  # of the three classes of section 3


@exercise("06.1", "Convert", minutes=5)
def means_the_same(answer: object, given: Given) -> None:
    """The guidance scale, within 0.01, that is the weight 1.5 of Ho and Salimans, Eq. 6."""
    scale = given.number(answer)
    compared = "weaker" if scale < 2.5 else "stronger"
    assert abs(scale - 2.5) < 0.01, (
        f"this guidance is {compared} than the paper's: which value switches it off in the paper, and which here?"
    )


@exercise("06.2", "Several conditions at once", "my_compose(uncond, conds, weights)", minutes=15)
def composes(answer: object, given: Given) -> None:
    """The guided prediction for one, two and three conditions, each with a weight of its own, also a negative one."""
    cases = (
        ([3.0], "with one condition this is plain guidance, uncond + w (cond - uncond)"),
        ([0.0], "a condition of weight 0 has no effect"),
        ([2.0, 3.0], "with two conditions, add the push of each, times its own weight, to uncond"),
        ([2.0, 0.0], "a condition of weight 0 has no effect"),
        ([4.0, -1.5], "a negative weight moves away from its condition"),
        ([1.0, 2.5, 4.0], "with three conditions, add the push of each, times its own weight, to uncond"),
    )
    for weights, hint in cases:
        uncond, *conds = given.randn(1 + len(weights), 2, 1, 4, 4)
        expected = (1 - sum(weights)) * uncond
        for cond, weight in zip(conds, weights, strict=True):
            expected = expected + weight * cond
        given.returns(answer, uncond, conds, weights, expected=expected, hint=hint)


@exercise("06.3", "Overshoot in the plane")
def leaves_the_circle(answer: object, given: Given) -> None:
    """The guidance scale, within 0.5, at which the mean of the samples is two standard deviations from the class."""
    scale = given.number(answer)
    assert 0 <= scale < MAX_GUIDANCE_SCALE, f"a guidance scale lies between 0 and {MAX_GUIDANCE_SCALE:g}"
    centres = torch.tensor(CENTRES, dtype=torch.float32, device="cpu")
    mixture = GaussianMixture(centres, STD, classes=torch.arange(3, dtype=torch.int64, device="cpu"))
    starts = given.randn(2000, 2)
    towards_0 = torch.zeros(len(starts), dtype=torch.int64, device="cpu")

    def distance(scale: float) -> float:
        denoise = ExactDenoiser(mixture, towards_0, guidance_scale=min(max(scale, 0.0), MAX_GUIDANCE_SCALE))
        return float((final(heun(denoise, starts, FlowSchedule().levels(20))).mean(0) - centres[0]).norm())

    # 0.1 more than the text allows: the mean of other samples leaves the circle at a slightly different scale
    assert distance(scale + 0.6) > 2 * STD, "at this scale the mean is still inside the circle: a larger one"
    assert distance(scale - 0.6) < 2 * STD, "the mean has left the circle already: a smaller scale"
