"""`faults.draw`: the right loop is the package's DDIM, and each fault changes what it draws."""

import pytest
import torch

from diffusion_explained import load_pretrained
from diffusion_explained.training.faults import SAMPLING_FAULTS, draw

LABELS = [3, 7]


@pytest.fixture(scope="module")
def model():
    return load_pretrained("mnist_unet_eps")


@pytest.fixture(scope="module")
def right(model):
    return draw(model, LABELS, num_inference_steps=3)


def test_the_right_loop_is_ddim(model, right):
    options = {"num_inference_steps": 3, "sampler": "ddim", "spacing": "trailing", "clip": 1.0, "guidance_scale": 2.0}
    assert len(right) == 4 and torch.allclose(right[-1], model.sample(LABELS, **options), atol=1e-3)
    assert torch.equal(right[0], model.noise(2))


@pytest.mark.parametrize("fault", SAMPLING_FAULTS)
def test_each_fault_changes_the_images_and_starts_from_the_same_noise(model, right, fault):
    broken = draw(model, LABELS, fault=fault, num_inference_steps=3)
    assert torch.equal(broken[0], right[0]) and broken[-1].isfinite().all()
    assert (broken[-1] - right[-1]).abs().mean() > 0.001


def test_another_model_and_an_unknown_fault_are_refused(model):
    with pytest.raises(ValueError, match="must predict eps on a DDPM schedule; mnist_unet_flow predicts flow"):
        draw(load_pretrained("mnist_unet_flow"), LABELS)
    with pytest.raises(ValueError, match=r"off by two.*did you mean 'off by one'"):
        draw(model, LABELS, fault="off by two")
