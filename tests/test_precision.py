"""A network in fewer bits: nearly the same answer, in float32, and nothing else about the model changed."""

import dataclasses

import pytest
import torch

from diffusion_explained.models.precision import PRECISIONS
from diffusion_explained.models.unet import UNet, UNetConfig
from diffusion_explained.noise import randn
from diffusion_explained.pretrained import Model, in_precision
from diffusion_explained.schedules import FlowSchedule

SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def model():
    """A small random U-Net; its last layer, which starts at zero, is random too, so that it answers."""
    torch.manual_seed(0)
    config = UNetConfig(SHAPE, patch_size=1, widths=(32, 64), embedding_width=64, num_classes=3)
    network = UNet(config).eval().requires_grad_(False)
    for weight in network.parameters():
        if weight.ndim > 1 and not weight.any():
            torch.nn.init.normal_(weight, std=0.05)
    return Model("small", network, FlowSchedule(), "flow", ("a", "b", "c"), {"limits": "none"}, 1.5, 2.0)


@pytest.fixture(scope="module")
def question():
    """x_t, t and labels, the null label among them."""
    x_t = randn((4, *SHAPE), torch.Generator().manual_seed(1))
    return x_t, torch.tensor([20.0, 400.0, 700.0, 990.0]), torch.tensor([0, 1, 2, 3])


@torch.no_grad()
def answers(model, question):
    return model.network(*question)


def test_bfloat16_agrees_to_two_percent_and_answers_in_float32(model, question):
    whole, half = answers(model, question), answers(in_precision(model, "bfloat16"), question)
    assert half.dtype == torch.float32 and half.shape == whole.shape
    error = (half - whole).norm() / whole.norm()
    assert whole.std() > 0.1 and 1e-5 < error < 0.02  # another answer, but a near one


def test_float32_is_as_it_was(model, question):
    assert torch.equal(answers(in_precision(model, "float32"), question), answers(model, question))


def test_no_labels_are_none(model, question):
    x_t, t, _ = question
    with torch.no_grad():
        assert torch.equal(in_precision(model, "float32").network(x_t, t), model.network(x_t, t))


def test_an_unknown_precision_is_refused_with_those_that_exist(model):
    with pytest.raises(ValueError, match=r"precision.*bfloat16"):
        in_precision(model, "bfloat17")
    assert set(PRECISIONS) == {"float32", "bfloat16", "float16"}


def test_nothing_else_about_the_model_changes(model):
    half = in_precision(model, "bfloat16")
    for field in dataclasses.fields(Model):
        if field.name != "network":
            assert getattr(half, field.name) is getattr(model, field.name)
    assert half.image_shape == model.image_shape and half.device == model.device
    assert half.network.num_classes == model.network.num_classes
    assert next(half.network.parameters()) is next(model.network.parameters())  # the weights are shared, and float32
    assert next(half.network.parameters()).dtype == torch.float32


def test_samples_are_nearly_the_same(model):
    settings = {"seed": 3, "num_inference_steps": 3, "guidance_scale": 2.0}
    whole, half = (m.sample([0, 2], **settings) for m in (model, in_precision(model, "bfloat16")))
    assert half.dtype == torch.float32 and half.shape == (2, *SHAPE) and half.isfinite().all()
    assert (half - whole).norm() < 0.05 * whole.norm()
