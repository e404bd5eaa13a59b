"""One stream per image: a seed is one picture, whatever the batch."""

import pytest
import torch

from diffusion_explained.noise import generators, randn


def test_an_image_is_the_same_alone_and_in_any_batch():
    alone = randn((1, 3, 8, 8), generators(1, seed=5))
    in_batch = randn((8, 3, 8, 8), generators(8, seed=0))
    assert torch.equal(in_batch[5], alone[0])
    assert len({float(image[0, 0, 0]) for image in in_batch}) == 8


def test_a_stream_continues_and_equals_diffusers_draws():
    from diffusers.utils.torch_utils import randn_tensor

    ours, theirs = generators(3, seed=2), generators(3, seed=2)
    for _ in range(2):
        torch.testing.assert_close(
            randn((3, 4, 6, 6), ours), randn_tensor((3, 4, 6, 6), generator=theirs), rtol=0, atol=0
        )
    assert not torch.equal(randn((3, 4, 6, 6), ours), randn((3, 4, 6, 6), generators(3, seed=2)))


def test_one_generator_or_none_follow_torch():
    g = torch.Generator().manual_seed(3)
    torch.testing.assert_close(
        randn((2, 5), g), torch.randn(2, 5, generator=torch.Generator().manual_seed(3)), rtol=0, atol=0
    )
    torch.manual_seed(4)
    first = randn((2, 5))
    torch.manual_seed(4)
    assert torch.equal(first, torch.randn(2, 5))
    assert randn((2, 5), g, dtype=torch.float64).dtype == torch.float64


def test_bad_input():
    with pytest.raises(ValueError, match="2 generators for a batch of 3"):
        randn((3, 4), generators(2))
    with pytest.raises(ValueError, match="batch_size"):
        generators(0)
    with pytest.raises(ValueError, match="seed"):
        generators(1, seed=-1)
