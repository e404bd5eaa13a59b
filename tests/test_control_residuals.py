"""What ControlNets add is recorded as it is added, and recording changes nothing."""

import pytest
import torch
from test_control import SETTINGS, SIDE, opened

from diffusion_explained.stable_diffusion import load_control, stand_in
from diffusion_explained.stable_diffusion.control_residuals import control_film, record_residuals

OPTIONS = {**SETTINGS, "num_inference_steps": 4, "guidance_scale": 3.0}


@pytest.fixture(scope="module")
def model():
    sd = stand_in(device="cpu")
    return load_control(sd, opened(sd, 1), opened(sd, 2))


@pytest.fixture(scope="module")
def pictures():
    return list(torch.rand(2, 1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7)).unbind())


def recorded(model, **options):
    with record_residuals(model) as residuals:
        steps = []
        for step in model.steps("a cat", **(OPTIONS | options)):
            residuals.after(step)
            steps.append(step)
    return steps, residuals


def test_recording_changes_nothing_and_keeps_the_sum_of_both_networks_on_the_side_of_the_prompt(model, pictures):
    steps, residuals = recorded(model, control=pictures, control_scale=[0.5, 1.0])
    plain = list(model.steps("a cat", control=pictures, control_scale=[0.5, 1.0], **OPTIONS))
    assert torch.equal(steps[-1].x_next, plain[-1].x_next)
    text, step = model.encode_text("a cat"), steps[1]
    embeds = text.conditions(1)[0][0]
    sums = None
    for each, picture, scale in zip(model.controls, pictures, (0.5, 1.0), strict=True):
        with torch.no_grad():
            skips, middle = each.network(
                step.x_t, torch.tensor([step.level.t]), embeds, picture, scale, return_dict=False
            )
        found = [*skips, middle]
        sums = found if sums is None else [a + b for a, b in zip(sums, found, strict=True)]
    maps = residuals.maps()
    assert next(iter(maps)) == "skip 0" and list(maps)[-1] == "middle" and len(maps) == len(sums)
    for name, expected in zip(maps, sums, strict=True):
        torch.testing.assert_close(maps[name][1], expected.square().mean(1).sqrt()[0], rtol=1e-4, atol=1e-6)
    assert residuals.shares().shape == (4, len(maps)) and (residuals.shares() > 0).all()


def test_the_shares_are_relative_to_what_the_network_itself_computes(model, pictures):
    _, once = recorded(model, control=pictures)
    _, twice = recorded(model, control=pictures, control_scale=2.0)
    torch.testing.assert_close(twice.shares()[0], 2 * once.shares()[0])  # its encoder's own outputs are the same
    seen = []
    hook = model.network.conv_in.register_forward_hook(lambda _, __, output: seen.append(output))
    next(iter(model.steps("a cat", control=pictures, **OPTIONS)))
    hook.remove()
    root = seen[0][-1].square().mean().sqrt()
    torch.testing.assert_close(once.shares()[0, 0], once.maps()["skip 0"][0].square().mean().sqrt() / root)


def test_outside_the_interval_and_at_scale_zero_nothing_is_added(model, pictures):
    _, residuals = recorded(model, control=pictures, control_interval=(0.0, 0.5))
    assert (residuals.shares()[:2] > 0).all() and not residuals.shares()[2:].any()
    steps, residuals = recorded(model, control=pictures, control_scale=0.0)
    assert not residuals.shares().any() and not residuals.maps()["middle"].any()
    x_0 = torch.zeros(5, 3, SIDE, SIDE)
    shown = control_film(x_0, x_0, steps, residuals)
    assert len(shown.captions) == 5 and shown.titles[:2] == ("without control", "with control")
    with pytest.raises(ValueError, match="plain and controlled"):
        control_film(x_0, x_0[:3], steps, residuals)


def test_what_cannot_be_recorded_is_said(model, pictures):
    with pytest.raises(ValueError, match="has no ControlNet: load one first"), record_residuals(stand_in(device="cpu")):
        pass
    step = next(iter(model.steps("a cat", **OPTIONS)))
    with record_residuals(model) as residuals, pytest.raises(ValueError, match="was not called since the last step"):
        residuals.after(step)
    assert not model.network.conv_in._forward_hooks and not model.controls[0].network._forward_hooks
