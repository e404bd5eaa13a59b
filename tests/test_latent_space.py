"""Walks among latents, what one latent pixel moves, and how much smaller latents are."""

import pytest
import torch

from diffusion_explained.stable_diffusion import stand_in
from diffusion_explained.stable_diffusion.compression import PUBLISHED, compression_of
from diffusion_explained.stable_diffusion.latent_space import poke, reach, slerp


@pytest.fixture(scope="module")
def model():
    return stand_in(device="cpu")


def noise(seed, count=2):
    return torch.randn(count, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_slerp_keeps_the_variance_where_the_straight_way_loses_half():
    a, b = noise(0), noise(1)
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    half = slerp(a, b, 0.5)
    assert abs(float(half.var()) - 1) < 0.06 and abs(float(torch.lerp(a, b, 0.5).var()) - 0.5) < 0.06
    for one, other, middle in zip(a, b, half, strict=True):  # each image on its own circle, halfway
        cosine = torch.nn.functional.cosine_similarity
        assert float(cosine(one.flatten(), middle.flatten(), 0)) == pytest.approx(
            float(cosine(other.flatten(), middle.flatten(), 0)), abs=0.05
        )
        assert float(middle.norm()) == pytest.approx(float(one.norm()), rel=0.05)


def test_slerp_of_parallel_ends_is_straight_and_shapes_must_agree():
    a = noise(0)
    torch.testing.assert_close(slerp(a, 3 * a, 0.5), 2 * a)
    assert not slerp(torch.zeros_like(a), a, 0.5).isnan().any()
    with pytest.raises(ValueError, match="same shape"):
        slerp(a, a[:1], 0.5)


def test_poke_moves_one_pixel_in_one_channel_or_in_all():
    z = noise(2)
    moved = poke(z, 3, 5, 1, by=2.0) - z
    assert moved[:, 1, 3, 5].tolist() == pytest.approx([2, 2]) and int((moved != 0).sum()) == 2
    assert int((poke(z, 0, 0) != z).sum()) == 2 * 4
    for wrong in ({"row": 16, "column": 0}, {"row": 0, "column": -1}, {"row": 0, "column": 0, "channel": 4},
                  {"row": 0, "column": 0, "by": float("nan")}):  # fmt: skip
        with pytest.raises(ValueError, match=r"outside of 16 x 16|column must be a whole number|one of the 4|finite"):
            poke(z, **wrong)


def test_reach_is_what_the_decoder_makes_of_it(model):
    z = noise(3, 1)
    touched = reach(model, z, row=4, column=9, channel=2, by=3.0)
    torch.testing.assert_close(touched.before, model.decode(z)[0])
    torch.testing.assert_close(touched.after, model.decode(poke(z, 4, 9, 2, 3.0))[0], atol=1e-5, rtol=1e-4)
    assert touched.own == (32, 40, 72, 80) and touched.moved.shape == (128, 128)
    assert 0 < touched.inside < 1
    top, bottom, left, right = touched.box()
    assert top <= 32 and bottom >= 40 and left <= 72 and right >= 80
    inside = touched.moved[top:bottom, left:right].sum() / touched.moved.sum()
    assert inside >= 0.95
    with pytest.raises(ValueError, match="one picture"):
        reach(model, noise(3), 0, 0)


def test_compression_counts_the_numbers(model):
    ours = compression_of(model)
    assert (ours.side, ours.channels, ours.pixels, ours.scaling_factor) == (512, 4, 8, 0.18215)
    assert (ours.picture_values, ours.latent_values, ours.times) == (786_432, 16_384, 48)
    assert [round(one.times) for one in PUBLISHED] == [48, 48, 12]
    assert [one.latent_side for one in PUBLISHED] == [64, 128, 128]
    sd3 = compression_of(stand_in("sd3", device="cpu"))
    assert (sd3.channels, sd3.scaling_factor, sd3.shift_factor) == (16, PUBLISHED[2].scaling_factor, 0.0609)
    assert compression_of(stand_in("sdxl", device="cpu")).scaling_factor == PUBLISHED[1].scaling_factor
