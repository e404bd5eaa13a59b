"""The exercises of notebook 07, Inside the U-Net and the DiT."""

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.comparisons import rms_distance
from diffusion_explained.data import bundled_mnist, made_by_model
from diffusion_explained.exercises.grading import Given, exercise
from diffusion_explained.forward import add_noise
from diffusion_explained.inside import Skip, cut, skip_connections
from diffusion_explained.models import UNet
from diffusion_explained.pretrained import Model, load_pretrained


def _dit_flops(patch_size: int) -> int:
    """The FLOPs of the DiT of CIFAR-10 with another patch size, by the formula of section 7."""
    N, d, L = (32 // patch_size) ** 2, 256, 6
    ends = 2 * N * (3 * patch_size**2) * d * 2 + 2 * (2 * d * d) + 4 * d * d + 2 * 3 * d
    return L * (24 * N * d**2 + 4 * N**2 * d + 12 * d**2) + ends


@exercise("07.1", "Cheaper than the U-Net")
def is_the_smallest_patch(answer: object, given: Given) -> None:
    """The smallest patch size at which the DiT of CIFAR-10 needs fewer FLOPs than the U-Net."""
    patch = given.whole(answer, 1, 32)
    assert 32 % patch == 0, "the patches must cover a picture of 32 x 32 pixels: the patch size is a divisor of 32"
    unet_flops = load_pretrained("cifar10_unet_flow").card["flops_per_image"]
    assert _dit_flops(patch) < unet_flops, "with so many tokens the DiT needs more FLOPs than the U-Net: a larger patch"
    assert patch == 1 or _dit_flops(patch // 2) >= unet_flops, "this DiT is cheaper, and so is one with a smaller patch"


def _error(model: Model, x_0: Tensor, labels: Tensor, eps: Tensor, time: float, skips: Sequence[Skip]) -> float:
    """The error of the predicted x_0 with zeros in place of the skips, as in section 3."""
    level = model.schedule.level(time)
    with cut(cast(UNet, model.network), skips):
        return rms_distance(model.denoiser(labels, guidance_scale=1)(add_noise(x_0, eps, level), level).x_0, x_0)


@exercise("07.2", "Four skips", "my_factors(model, x_0, labels, eps, time)", minutes=20)
def are_the_factors(answer: object, given: Given) -> None:
    """The factor, to 1%, by which the error of the prediction grows when one skip is cut, for each skip in turn."""
    digits, colour = bundled_mnist(), made_by_model("cifar10")
    for name, data, time in (
        ("mnist_unet_flow", digits, 0.1),
        ("mnist_unet_flow", digits, 0.6),
        ("cifar10_unet_flow", colour, 0.3),
    ):
        model = load_pretrained(name)
        x_0, labels = data.batch((given.rand(2) * len(data)).long())
        eps, skips = given.randn(*x_0.shape), skip_connections(cast(UNet, model.network))
        uncut = _error(model, x_0, labels, eps, time, [])
        right = [_error(model, x_0, labels, eps, time, [skip]) / uncut for skip in skips]
        found = given.numbers(given.call(answer, model, x_0, labels, eps, time), len(skips))
        for skip, one, expected in zip(skips, found, right, strict=True):
            assert abs(one - expected) < 0.01 * expected, (
                f"at t = {time} this is not the factor of the skip from {skip.source}: the error with this skip alone "
                "cut, divided by the error with no skip cut"
            )


@exercise("07.3", "Patchify", "my_tokens(x, p)", minutes=15)
def are_the_tokens(answer: object, given: Given) -> None:
    """The tokens [B, N, C * p * p] of images [B, C, H, W], square or not."""
    for shape, p in (((2, 3, 8, 8), 2), ((2, 3, 8, 8), 4), ((3, 1, 6, 12), 3), ((1, 2, 10, 4), 1)):
        images = given.randn(*shape)
        tokens = F.pixel_unshuffle(images, p).flatten(2).transpose(1, 2)
        hint = "the shape is right and the order is not: which axes belong to one token, and in which order"
        given.returns(answer, images, p, expected=tokens, hint=hint, close=1e-6)
