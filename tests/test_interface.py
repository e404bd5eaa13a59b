"""`Model` and `StableDiffusion` keep one interface; torch's global defaults do not reach the engine."""

import ast
import inspect
from pathlib import Path

import pytest
import torch

from diffusion_explained import load_pretrained
from diffusion_explained.devices import to_float64
from diffusion_explained.models import UNet, UNetConfig
from diffusion_explained.noise import seeded
from diffusion_explained.pretrained import Model
from diffusion_explained.schedules import FlowSchedule
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.training import train
from diffusion_explained.training.config import TrainConfig

PACKAGE = Path(__file__).parents[1] / "diffusion_explained"


@pytest.mark.parametrize("stage", ["levels", "prepare", "denoiser", "decode", "steps", "sample"])
def test_both_classes_keep_one_interface(stage):
    ours, theirs = (inspect.signature(getattr(kept, stage)).parameters for kept in (Model, StableDiffusion))
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


def run() -> list[torch.Tensor]:
    model = load_pretrained("mnist_unet_flow")
    samplers = ("ddpm", "ddim", "euler", "euler_ancestral", "heun", "dpm_solver_pp_2m")
    results = [model.sample([3], num_inference_steps=3, sampler=name, seed=1) for name in samplers]
    config = UNetConfig(image_shape=(1, 8, 8), patch_size=1, widths=(8, 8), head_width=8, num_classes=None)
    network = seeded(0, lambda: UNet(config))
    images = torch.linspace(-1, 1, 2048, device="cpu", dtype=torch.float32).reshape(32, 1, 8, 8)
    *_, record = train(network, images, None, FlowSchedule(), "flow", TrainConfig(images=48, batch_size=16))
    return [*results, *record.model.network.state_dict().values()]


def test_torchs_global_defaults_do_not_leak_in():
    expected = run()
    for change, back in (
        (lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)),
        (lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None)),
    ):
        change()
        try:
            got = run()
        finally:
            back()
        for a, b in zip(expected, got, strict=True):
            assert a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


def test_float64_is_made_by_the_helper_alone():
    for path in PACKAGE.rglob("*.py"):
        if "micro" in path.parts:  # measured on the CPU, or on CUDA
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            doubles = isinstance(node, ast.Attribute) and node.attr == "double"
            assert not doubles, f"{path.name}:{getattr(node, 'lineno', 0)}: use devices.to_float64"


def test_float64_never_goes_to_a_device_that_lacks_it():
    class OnApple:
        device = torch.device("mps")

        def to(self, dtype):
            raise AssertionError("float64 on MPS")

        def cpu(self):
            return torch.ones(2)

    assert to_float64(OnApple()).device.type == "cpu" and to_float64(OnApple()).dtype == torch.float64
