"""A generative adversarial network (GAN) for points in the plane, as a baseline for diffusion models.

Two networks are trained against each other (Goodfellow et al. 2014). Neither has a regression target, and the loss of
neither measures the quality of the samples. The course trains a GAN and a denoiser, and counts the modes each reaches.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.checks import check_finite, float_data, named_options, typed_arguments, whole
from diffusion_explained.noise import randn, seeded, stream


def _network(outputs: int, width: int) -> nn.Sequential:
    layers = [nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


@named_options
@typed_arguments
def train_gan(
    data: Tensor,
    steps: int,
    *,
    lr: float = 2e-4,
    batch_size: int = 128,
    width: int = 128,
    seed: int = 0,
) -> Iterator[nn.Module]:
    """Train a generator G(z), z ~ N(0, I), against a discriminator D, yielding G after every step.

        D minimises  softplus(-D(x)) + softplus(D(G(z))),   G minimises  softplus(-D(G(z)))

    This is the non-saturating loss of Goodfellow et al. 2014, Sec. 3, with Adam at DCGAN's beta_1 = 0.5.

    Args:
        data: points [N, 2].
        steps: the number of updates of each network.
        lr: the learning rate of both networks; DCGAN uses 2e-4.
        seed: for the initial weights, the batches and z.

    Raises ValueError for data of another shape.
    """
    steps, batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
    if float_data("data", data).ndim != 2 or data.shape[1] != 2 or len(data) == 0:
        raise ValueError(f"data must be points [N, 2]; got {list(data.shape)}.")
    check_finite(data, "points")
    data = data.to("cpu", torch.float32)
    draws = stream(seed)
    generator, discriminator = seeded(seed, lambda: (_network(2, width), _network(1, width)))
    adam_g, adam_d = (
        torch.optim.Adam(net.parameters(), lr, betas=(0.5, 0.999), fused=True) for net in (generator, discriminator)
    )
    for _ in range(steps):
        real = data[torch.randint(len(data), (batch_size,), generator=draws, device="cpu", dtype=torch.int64)]
        fake = generator(randn((batch_size, 2), draws))

        loss_d = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake.detach())).mean()
        adam_d.zero_grad()
        loss_d.backward()
        adam_d.step()

        loss_g = F.softplus(-discriminator(fake)).mean()
        adam_g.zero_grad()
        loss_g.backward()
        adam_g.step()
        yield generator
