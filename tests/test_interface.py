"""`Model` and `StableDiffusion` keep one interface."""

import inspect

import pytest
import torch

from diffusion_explained import load_pretrained
from diffusion_explained.devices import to_float64
from diffusion_explained.pretrained import Model
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.pipeline_model import PipelineModel


@pytest.mark.parametrize("stage", ["levels", "prepare", "denoiser", "decode", "steps", "sample"])
@pytest.mark.parametrize("other", [StableDiffusion, PipelineModel])
def test_the_classes_keep_one_interface(stage, other):
    ours, theirs = (inspect.signature(getattr(kept, stage)).parameters for kept in (Model, other))
    own = {"labels", "prompt", "text"}  # the condition: each class's own
    shared = [name for name in ours if name not in own]
    assert [name for name in theirs if name in shared] == shared
    for name in shared:
        assert (ours[name].kind, ours[name].default) == (theirs[name].kind, theirs[name].default), name
    if "guidance_scale" in shared:
        assert ours["guidance_scale"].default is None


def test_a_model_without_a_scale_uses_its_own():
    model = load_pretrained("mnist_unet_flow")
    assert model.denoiser([3]).guidance_scale == model.default_guidance_scale == 2.0
    assert model.denoiser().guidance_scale == 1.0
    own = model.sample([3], num_inference_steps=2)
    assert torch.equal(own, model.sample([3], num_inference_steps=2, guidance_scale=2.0))


def test_float64_never_goes_to_a_device_that_lacks_it():
    class OnApple:
        device = torch.device("mps")

        def to(self, dtype):
            raise AssertionError("float64 on MPS")

        def cpu(self):
            return torch.ones(2)

    assert to_float64(OnApple()).device.type == "cpu" and to_float64(OnApple()).dtype == torch.float64
