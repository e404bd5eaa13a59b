"""What Stable Diffusion costs is counted as published, and as arithmetic says."""

import pytest
import torch

from diffusion_explained.stable_diffusion import stand_in
from diffusion_explained.stable_diffusion.costs import Work, count_work, published_parameters, published_work


def test_work_is_counted_by_kind():
    layer, convolution = torch.nn.Linear(8, 4, bias=False), torch.nn.Conv2d(3, 5, 3, padding=1, bias=False)
    assert count_work(lambda: layer(torch.zeros(7, 8))) == Work(0, 2 * 7 * 8 * 4, 0)
    assert count_work(lambda: convolution(torch.zeros(1, 3, 6, 6))) == Work(2 * 5 * 36 * 27, 0, 0)
    q = torch.zeros(1, 2, 10, 4)
    attend = count_work(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert attend == Work(0, 0, 2 * 2 * 2 * 10 * 10 * 4) and attend.total == attend.attention


def test_parameters_are_the_published_ones():
    assert published_parameters() == {"text encoder": 123_060_480, "U-Net": 859_520_964, "autoencoder": 83_653_863}


def test_work_grows_as_positions_and_pairs_do():
    small, large = published_work(256, 256)["U-Net"], published_work(512, 512)["U-Net"]
    assert large.convolutions == pytest.approx(4 * small.convolutions, rel=1e-3)
    assert 10 < large.attention / small.attention < 16  # to the text, attention has 77 partners at any size
    on_pixels = published_work(512, 512)["U-Net on pixels"]
    assert on_pixels.convolutions == pytest.approx(64 * large.convolutions, rel=1e-2)


def test_the_size_must_be_one_that_latents_have():
    with pytest.raises(ValueError, match="multiples of 8"):
        published_work(500, 512)


def test_the_count_is_that_of_a_network_that_runs():
    """Shapes alone on the meta device, numbers on the CPU: the same FLOPs, whatever attention kernel ran."""
    model = stand_in(device="cpu")
    x, prompt = torch.zeros(1, 4, 16, 16), torch.zeros(1, 77, 32)
    here = count_work(lambda: model.network(x, torch.ones(1), prompt))
    model.network.to("meta")
    shapes = count_work(lambda: model.network(x.to("meta"), torch.ones(1, device="meta"), prompt.to("meta")))
    assert here.convolutions == shapes.convolutions and here.products == shapes.products
    assert here.attention == shapes.attention
