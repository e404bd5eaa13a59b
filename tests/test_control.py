"""ControlNets on a Stable Diffusion: equal to diffusers' pipelines, off bit for bit, and bad input refused in words."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch

from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import StableDiffusion, WeightsUnavailableError, load_control, stand_in
from diffusion_explained.stable_diffusion.backend import diffusers

SIDE, STEPS = 64, 5
SETTINGS = {"num_inference_steps": STEPS, "sampler": "ddim", "height": SIDE, "width": SIDE, "seed": 0}


def opened(model: StableDiffusion, seed: int):
    """A tiny ControlNet for a model, its zero convolutions opened at random."""
    torch.manual_seed(seed)
    network = diffusers().ControlNetModel.from_unet(model.network, conditioning_embedding_out_channels=(8, 8, 8, 8))
    for weight in network.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.3)
    return network.eval()


@pytest.fixture(scope="module")
def sd():
    return stand_in(device="cpu")


@pytest.fixture(scope="module")
def two(sd):
    """The model with two ControlNets, and a picture for each."""
    g = torch.Generator().manual_seed(7)
    pictures = [torch.rand(1, 3, SIDE, SIDE, generator=g) for _ in range(2)]
    return SimpleNamespace(model=load_control(sd, opened(sd, 1), opened(sd, 2)), pictures=pictures)


def theirs(model: StableDiffusion, networks: list, pictures: list, **options) -> torch.Tensor:
    """The latents of diffusers' own ControlNet pipeline, from the same noise."""
    library, parts = diffusers(), dict(model.pipe.components)
    pipelines = {"sd": "StableDiffusionControlNetPipeline", "sdxl": "StableDiffusionXLControlNetPipeline"}
    more = {"requires_safety_checker": False} if model.family.name == "sd" else {}
    pipe = getattr(library, pipelines[model.family.name])(**parts, **more, controlnet=networks)
    pipe.scheduler = library.DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn(1, *model.latent_shape(SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    return pipe(
        "a cat", image=pictures, height=SIDE, width=SIDE, num_inference_steps=STEPS, latents=noise,
        output_type="latent", **options,
    ).images  # fmt: skip


@pytest.mark.parametrize(
    ("scale", "intervals"), [(1.0, [(0.0, 1.0), (0.0, 1.0)]), (5.0, [(0.0, 0.5), (0.3, 1.0)])]
)  # fmt: skip
def test_two_controls_equal_diffusers_pipeline_with_and_without_guidance_and_intervals(two, scale, intervals):
    given = theirs(
        two.model, [each.network for each in two.model.controls], two.pictures, guidance_scale=scale,
        controlnet_conditioning_scale=[0.7, 1.3], control_guidance_start=[start for start, _ in intervals],
        control_guidance_end=[end for _, end in intervals],
    )  # fmt: skip
    options = {"control": two.pictures, "control_scale": [0.7, 1.3], "control_interval": intervals}
    own = final(two.model.steps("a cat", guidance_scale=scale, **options, **SETTINGS))
    assert (own - given).abs().max() < 1e-4
    plain = final(two.model.steps("a cat", guidance_scale=scale, **SETTINGS))
    assert (own - plain).abs().max() > 0.1  # the controls do something


def test_one_control_of_stable_diffusion_xl_equals_diffusers_pipeline():
    model = stand_in("sdxl", device="cpu")
    network = opened(model, 3)
    picture = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
    given = theirs(model, network, picture, guidance_scale=5.0, controlnet_conditioning_scale=0.8)
    controlled = load_control(model, network)
    own = final(controlled.steps("a cat", control=picture, control_scale=0.8, guidance_scale=5.0, **SETTINGS))
    assert (own - given).abs().max() < 1e-4


@pytest.mark.parametrize("off", [{"control_scale": 0.0}, {"control_interval": (0.1, 0.2)}])
def test_a_control_that_is_off_is_the_base_to_the_bit(sd, two, off):
    plain = final(sd.steps("a cat", guidance_scale=5.0, **SETTINGS))
    assert torch.equal(
        plain, final(two.model.steps("a cat", guidance_scale=5.0, control=two.pictures, **off, **SETTINGS))
    )
    assert torch.equal(plain, final(two.model.steps("a cat", guidance_scale=5.0, **SETTINGS)))


def test_each_image_has_its_own_control_picture_in_any_batch(sd, two):
    one = load_control(sd, two.model.controls[0].network)
    settings = {**SETTINGS, "seed": [0, 1], "guidance_scale": 5.0}
    both = final(one.steps("a cat", control=torch.cat(two.pictures), **settings))
    alone = final(one.steps("a cat", control=two.pictures[1], **{**settings, "seed": [1]}))
    torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=1e-4)


def test_an_inpainting_network_of_nine_channels_is_controlled_too(two):
    model = stand_in(in_channels=9, device="cpu")
    controlled = load_control(model, two.model.controls[0].network)  # of four channels: it reads the latents alone
    image, mask = torch.zeros(1, 3, SIDE, SIDE), torch.ones(SIDE, SIDE)
    settings = {"image": image, "mask": mask, "num_inference_steps": 2, "sampler": "ddim", "seed": 0}
    drawn = final(controlled.steps("a cat", control=two.pictures[0], **settings))
    assert not torch.equal(drawn, final(controlled.steps("a cat", **settings)))


WHOLE = torch.zeros(1, 3, SIDE, SIDE)
BAD = [
    ({"control": torch.zeros(1, 3, 32, 32)}, "32 x 32 and the picture to draw is 64 x 64"),
    ({"control": WHOLE[:, :1]}, r"1 or B, 3, H, W\].*Repeat a grey one"),
    ({"control": WHOLE[0]}, r"got \[3, 64, 64\]"),
    ({"control": WHOLE.repeat(3, 1, 1, 1)}, "3 pictures for 1 images"),
    ({"control": WHOLE - 1}, r"from 0 \(black\) to 1 \(white\); got -1 to -1"),
    ({"control": WHOLE * torch.nan}, "NaN"),
    ({"control": WHOLE.int()}, "control"),
    ({"control": [WHOLE, WHOLE]}, "control holds 2 and the model has 1 ControlNets"),
    ({"control_scale": [1.0, 1.0]}, "control_scale holds 2 and the model has 1"),
    ({"control_scale": float("nan")}, "control_scale must be a finite number; got nan"),
    ({"control_scale": float("inf")}, "control_scale must be a finite number; got inf"),
    ({"control_interval": (0.0, 1.5)}, "0 <= start <= end <= 1; got 1.5"),
    ({"control_interval": (0.8, 0.2)}, "0 <= start <= end <= 1; got 0.8 and 0.2"),
    ({"control_interval": [(0.0, 1.0), (0.0, 1.0)]}, "control_interval holds 2 and the model has 1"),
    ({"control": None, "control_scale": 0.5}, "give control= too"),
]


@pytest.mark.parametrize(("given", "words"), BAD)
def test_bad_controls_are_refused_before_the_first_step(sd, two, given, words):
    one = load_control(sd, two.model.controls[0].network)
    with pytest.raises(ValueError, match=words):
        one.steps("a cat", **{"control": WHOLE, **given}, **SETTINGS)


def test_a_control_without_a_controlnet_or_without_the_steps_that_its_interval_counts(sd, two):
    with pytest.raises(ValueError, match="has no ControlNet: load one first"):
        sd.steps("a cat", control=WHOLE, **SETTINGS)
    with pytest.raises(ValueError, match="counts the steps of a run"):
        two.model.denoiser(sd.encode_text("a cat"), control=two.pictures, control_interval=(0, 0.5))


# -- files ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(sd, tmp_path_factory):
    path = tmp_path_factory.mktemp("control")
    opened(sd, 1).save_pretrained(path)
    return path


def changed(folder, to, **keys):
    """A copy of the folder's configuration with other values, without weights."""
    config = json.loads((folder / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, **keys}))
    return to


def test_a_folder_in_diffusers_format_is_loaded(sd, two, folder):
    settings = {"control": two.pictures[0], "guidance_scale": 5.0, **SETTINGS}
    loaded, given = load_control(sd, folder), load_control(sd, two.model.controls[0].network)
    ours, theirs = (model.controls[0].network.state_dict() for model in (loaded, given))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    # equal weights at other places in memory: products may be summed in another order
    drawn, expected = (final(model.steps("a cat", **settings)) for model in (loaded, given))
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-3)


def test_a_controlnet_of_another_base_is_refused_with_both_names(sd, two):
    other = copy.deepcopy(two.model.controls[0].network)
    other.register_to_config(cross_attention_dim=768)
    with pytest.raises(ValueError, match=r"another base: its cross_attention_dim is 768, and stand-in.*has 32"):
        load_control(sd, other)
    with pytest.raises(ValueError, match=r"micro was made for another base: its cross_attention_dim is 192"):
        load_control(sd, "micro")
    other = copy.deepcopy(two.model.controls[0].network)
    other.register_to_config(in_channels=8)
    with pytest.raises(ValueError, match="its in_channels is 8"):
        load_control(sd, other)


def test_other_files_are_refused(sd, folder, tmp_path):
    (pickled := tmp_path / "pickled").mkdir()
    changed(folder, pickled)
    (pickled / "diffusion_pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(ValueError, match=r"diffusion_pytorch_model.bin.*pickle"):
        load_control(sd, pickled)
    with pytest.raises(ValueError, match="pickle"):
        load_control(sd, tmp_path / "control.pth")
    for keys, words in (
        ({"_class_name": "SD3ControlNetModel"}, "holds a SD3ControlNetModel"),
        ({"global_pool_conditions": True}, "sets global_pool_conditions to True"),
        ({"control_mode": 3}, "sets control_mode to 3; this key is not known"),
    ):
        (other := tmp_path / words[-8:].strip()).mkdir()
        with pytest.raises(ValueError, match=words):
            load_control(sd, changed(folder, other, **keys))
    (whole := tmp_path / "no_weights").mkdir()
    with pytest.raises(WeightsUnavailableError, match=r"no whole .safetensors weights of a ControlNet"):
        load_control(sd, changed(folder, whole))
    with pytest.raises(ValueError, match=r"holds no config.json"):
        load_control(sd, tmp_path)
    with pytest.raises(WeightsUnavailableError, match="is not on this machine"):
        load_control(sd, "nobody/control")
    with pytest.raises(ValueError, match="got 3"):
        load_control(sd, 3)


def test_a_transformer_has_no_controlnet():
    with pytest.raises(ValueError, match=r"ControlNets are read for U-Nets.*Stable Diffusion 3"):
        load_control(stand_in("sd3", device="cpu"), "micro")
