"""One image of a run as pictures: decoded step by step, and with heat maps over them."""

import numpy as np
import torch

from diffusion_explained import stable_diffusion
from diffusion_explained.stable_diffusion.image_films import decoded, heat_over


def test_the_steps_of_one_image_are_decoded_one_by_one():
    model = stable_diffusion.stand_in()
    steps = list(model.steps("a cat", seed=[3, 8], num_inference_steps=3, height=64, width=64))
    progress = []
    x_0 = decoded(model, steps, 1, progress.append)
    assert x_0.shape == (3, 3, 64, 64) and progress[-1] >= 1
    torch.testing.assert_close(x_0[2:], model.decode(steps[2].pred.x_0[1:]), atol=1e-4, rtol=0)


def test_a_picture_is_coloured_where_its_heat_is():
    heat = torch.zeros(2, 8, 8)
    heat[0, :, 4:] = 0.5  # the right half
    first, second = (one.astype(int) for one in heat_over(heat, torch.zeros(2, 3, 64, 64)))
    assert np.ptp(first[32, 4, :3]) == 0, "grey where there is none"
    assert first[32, 60, 0] - first[32, 60, 2] > 100, "orange where there is"
    assert np.ptp(second[..., :3], axis=-1).max() == 0, "and the scale is that of all maps"
