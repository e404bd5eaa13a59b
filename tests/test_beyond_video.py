"""Video: the clips are what their classes say, the network connects frames, and the shipped weights draw digits."""

import io

import pytest
import torch
from PIL import Image

from diffusion_explained.beyond import load_beyond
from diffusion_explained.beyond.clips import continue_frame, frame_attention, time_attention
from diffusion_explained.beyond.kinds import Data, as_float
from diffusion_explained.beyond.video import (
    APART,
    CLASS_NAMES,
    HIGH,
    LOW,
    VIDEO,
    centres,
    clips_gif,
    fold,
    measure_clips,
    placed,
    shuffled,
    small_digits,
    two_pieces,
)
from diffusion_explained.models import SpaceTimeConfig, SpaceTimeDiT
from diffusion_explained.models.dit import Block
from diffusion_explained.pretrained import Model
from diffusion_explained.samplers import final
from diffusion_explained.schedules import FlowSchedule

TINY = SpaceTimeConfig(image_shape=(1, 16, 32, 32), patch_size=8, width=8, depth=2, head_width=4)


@pytest.fixture(scope="module")
def clips():
    """Real clips of the split "test", two of each class, as floats."""
    return as_float(VIDEO.data(80, 0, "test"))


def stirred(network):
    """The same network with random weights everywhere, so that no gate is closed."""
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        weight.data = 0.3 * torch.randn(weight.shape, generator=generator)
    return network.eval().requires_grad_(False)


def test_clips_show_their_class_and_bounce(clips):
    assert clips.x_0.shape == (80, 1, 16, 32, 32) and clips.labels.tolist() == [i % 40 for i in range(80)]
    real, chance = measure_clips(clips), measure_clips(shuffled(clips, torch.Generator().manual_seed(0)))
    assert real["class_kept"] > 0.97 and real["within_a_pixel"] == 1 and real["speed_kept"] == 1
    assert chance["class_kept"] < 0.3 and chance["within_a_pixel"] < 0.3 and chance["path_error"] > 2
    assert real["two_apart"] > 0.25 and real["both_named"] > 0.9 and chance["both_named"] < 0.3
    assert CLASS_NAMES[3] == "3-slow" and CLASS_NAMES[37] == "77-fast"
    light = (clips.x_0 + 1).mean((1, 2, 3, 4))
    assert light[clips.labels >= 20].mean() > 1.5 * light[clips.labels < 20].mean()  # two digits


def test_one_digit_is_never_two_pieces_and_two_digits_are_found_where_they_stand(clips):
    one, two = clips.x_0[clips.labels < 20], clips.x_0[clips.labels >= 20]
    _, middles = two_pieces(one)
    assert (middles[0] - middles[1]).norm(dim=-1).max() < APART
    assert measure_clips(Data(one, clips.labels[clips.labels < 20])).keys().isdisjoint({"two_apart", "both_named"})
    digits = small_digits("test")[3, :2]
    corners = torch.tensor([[0.0, 1.0], [13.0, 12.0]])[:, None].expand(2, 16, 2)
    first, second = 2 * placed(digits, corners) - 1
    _, middles = two_pieces(torch.maximum(first, second)[None, None])
    alone = torch.stack([centres(one[None, None])[0] for one in (first, second)])
    assert (middles.sort(dim=0).values - alone).abs().max() < 0.01
    assert torch.equal(two_pieces(two)[0].amax(0).flatten(), two.flatten())  # each pixel is in one of both


def test_a_path_is_reflected_at_both_edges():
    x = torch.tensor([LOW - 1, LOW, HIGH, HIGH + 3, HIGH + (HIGH - LOW) + 2])
    assert torch.allclose(fold(x), torch.tensor([LOW + 1, LOW, HIGH, HIGH - 3, LOW + 2]))


def test_a_speed_is_the_distance_between_frames(clips):
    steps = centres(clips.x_0[:20]).diff(dim=1).norm(dim=-1).median(1).values
    assert (steps[:10] - 0.75).abs().max() < 0.1 and (steps[10:] - 2).abs().max() < 0.2


def test_no_digit_is_in_both_splits():
    train, test = (small_digits(split).flatten(2) for split in ("train", "test"))
    assert train.shape[:2] == (10, 800) and test.shape[:2] == (10, 200)
    assert torch.cdist(train[3], test[3]).min() > 0


def test_only_blocks_of_time_connect_frames():
    x = torch.randn(1, 1, 16, 32, 32, generator=torch.Generator().manual_seed(1))
    other = x.clone()
    other[:, :, 9] += 1
    for depth, connected in ((1, False), (2, True)):  # the first block is one of space
        config = SpaceTimeConfig(patch_size=8, width=8, depth=depth, head_width=4)
        network = stirred(SpaceTimeDiT(config))
        before, after = (network(one, torch.tensor([500.0]), torch.tensor([3])) for one in (x, other))
        assert ((before - after)[:, :, 2].abs().max() > 1e-6) == connected
        assert (before - after)[:, :, 9].abs().max() > 1e-3


def test_attention_over_time_is_that_of_the_blocks_of_time():
    network = stirred(SpaceTimeDiT(TINY))
    x = torch.randn(2, 1, 16, 32, 32, generator=torch.Generator().manual_seed(1))
    maps = time_attention(network, x, torch.tensor([300.0, 300.0]), torch.tensor([3, 4]))
    assert maps.shape == (1, 2, 2, 16, 16)
    assert torch.allclose(maps.sum(-1), torch.ones(1, 2, 2, 16), atol=1e-5)
    model = Model("tiny", network, FlowSchedule(), "flow", CLASS_NAMES, {})
    level = FlowSchedule().level(0.3)
    assert torch.allclose(frame_attention(model, x, level, [3, 4]), maps[0].mean(1), atol=1e-6)
    with pytest.raises(ValueError, match="has no blocks of time"):
        frame_attention(load_beyond("shapes"), x, level, [3, 4])
    assert isinstance(network.blocks[1], Block) and (maps[0, 0] - maps[0, 1]).abs().max() > 1e-6


def test_a_clip_continues_its_first_frame(clips):
    model = Model("tiny", stirred(SpaceTimeDiT(TINY)), FlowSchedule(), "flow", CLASS_NAMES, {})
    first = clips.x_0[:2, :, 0]
    drawn = final(continue_frame(model, first, [3, 4], num_inference_steps=2, resamplings=1))
    assert torch.equal(drawn[:, :, 0], first)
    assert (drawn[:, :, 1] - first).abs().max() > 0.1
    with pytest.raises(ValueError, match="first must be frames"):
        continue_frame(model, clips.x_0[:2], [3, 4])
    with pytest.raises(ValueError, match=r"0 \.\. 39"):
        continue_frame(model, first, [3, 40])


def test_sizes_that_make_no_network_are_refused():
    for wrong, said in (({"patch_size": 5}, "patch_size 5"), ({"width": 36, "head_width": 32}, "width 36")):
        with pytest.raises(ValueError, match=said):
            SpaceTimeConfig(**wrong)
    with pytest.raises(ValueError, match="no clip with one digit"):
        measure_clips(Data(torch.zeros(1, 1, 16, 32, 32), torch.tensor([25])))


def test_a_gif_has_the_frames_of_the_clips(clips):
    picture = Image.open(io.BytesIO(clips_gif(clips.x_0[:3])))
    assert picture.n_frames == 16 and picture.size == (4 * (3 * 32 + 2 * 2), 4 * 32)


def test_the_shipped_network_is_the_measured_one():
    model = load_beyond("video")
    best = model.card["evaluation"][0]
    assert model.class_names == CLASS_NAMES and model.image_shape == VIDEO.shape
    assert best["settings"] == {**VIDEO.sampling, "guidance_scale": model.default_guidance_scale}
    assert best["samples"]["class_kept"] >= 0.95 and best["samples"]["path_error"] < 1
    clip = model.sample([1], num_inference_steps=4, sampler="dpm_solver_pp_2m", seed=0)
    assert measure_clips(Data(clip, torch.tensor([1])))["class_kept"] > 0.5  # 0.1 by chance
