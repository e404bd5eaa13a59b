"""Random numbers that do not depend on the device or on the batch.

Every image has a CPU generator of its own, so a seed gives the same picture alone, in a batch, on a CPU or on a GPU.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Built = TypeVar("Built")
Generators = torch.Generator | Sequence[torch.Generator] | None


def generators(batch_size: int, seed: int = 0) -> list[torch.Generator]:
    """One CPU stream per image; image i of the batch is seeded seed + i.

    So picture 5 of `generators(8, seed=0)` is the picture of `generators(1, seed=5)`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, got {batch_size}.")
    if not 0 <= seed < 2**63 - batch_size:
        raise ValueError(f"seed must be a whole number from 0 to 2^63 - batch_size, got {seed}.")
    return [torch.Generator().manual_seed(seed + i) for i in range(batch_size)]


def randn(
    shape: Sequence[int],
    generator: Generators = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal noise [B, ...], drawn in float32 on the CPU and then moved.

    generator: a list of B (one stream an image), one for the whole batch, or None for torch's global one. One for the
    whole batch may live on a GPU, for speed in training; the noise is then drawn there.
    """
    if generator is None or isinstance(generator, torch.Generator):
        noise = torch.randn(tuple(shape), generator=generator, device="cpu" if generator is None else generator.device)
    else:
        if len(generator) != shape[0]:
            raise ValueError(
                f"Got {len(generator)} generators for a batch of {shape[0]}; give one generator, or one an image."
            )
        noise = torch.stack([torch.randn(tuple(shape[1:]), generator=g) for g in generator])
    return noise.to(device=device, dtype=dtype)


def seeded(seed: int, build: Callable[[], Built]) -> Built:
    """What `build` makes with torch's global generator at this seed, initial weights say; it is left as it was."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        return build()
