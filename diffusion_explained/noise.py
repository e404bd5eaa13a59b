"""Random numbers that do not depend on the device or on the batch.

Every image has its own generator on the CPU, so a seed gives the same image alone or in a batch, on a CPU or on a GPU.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from diffusion_explained.checks import check_kind_of, typed_arguments, whole
from diffusion_explained.devices import choose_device, torch_defaults
from diffusion_explained.messages import shortened

Built = TypeVar("Built")
Generators = torch.Generator | Sequence[torch.Generator] | None


MAX_SEED = 2**32 - 1  # torch's generator on the CPU (mt19937) reads 32 bits: seed 2^32 would be seed 0 again


def check_seed(seed: int, count: int = 1) -> int:
    """Convert a seed, the first of `count` consecutive seeds, to an int; numpy's integers are accepted too.

    Raises ValueError unless all of the seeds are whole numbers from 0 to 2^32 - 1.
    """
    last = MAX_SEED - (count - 1)
    allowed = "2^32 - 1" if count == 1 else f"2^32 - {count}, for {count} images are seeded seed, seed + 1, ..."
    try:
        return whole("seed", seed, 0, last)
    except ValueError:
        raise ValueError(f"seed must be a whole number from 0 to {allowed}; got {shortened(seed)}.") from None


def stream(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of random numbers, on the CPU by default; two different accepted seeds give two different streams.

    Raises ValueError for a seed outside 0 .. 2^32 - 1, and for a device that this machine does not have.
    """
    return torch.Generator(choose_device(device)).manual_seed(check_seed(seed))


def numpy_stream(seed: int, i: int) -> np.random.Generator:
    """The i-th numpy generator of a seed; the numbers it draws depend only on the seed and i."""
    return np.random.default_rng((check_seed(seed), whole("i", i, 0)))


def generators(batch_size: int, seed: int = 0) -> list[torch.Generator]:
    """One CPU generator per image; image i of the batch has the seed `seed + i`.

    So image 5 of `generators(8, seed=0)` is the same as the image of `generators(1, seed=5)`.
    Raises ValueError for an empty batch, and for seeds outside 0 .. 2^32 - 1.
    """
    batch_size = whole("batch_size", batch_size, 1)
    seed = check_seed(seed, batch_size)
    return [stream(seed + i) for i in range(batch_size)]


def streams_of(seed: int | Sequence[int], count: int | None = None) -> list[torch.Generator]:
    """One CPU generator per image, from a list of seeds, or from one seed (image i then has the seed `seed + i`).

    Raises ValueError if the number of seeds is not count.
    """
    if not isinstance(seed, Sequence) and getattr(seed, "ndim", 0) == 0:
        return generators(1 if count is None else count, seed)
    if isinstance(seed, str):
        check_seed(seed)
    listed: Any = seed  # a sequence, or an array of one dimension
    seeds = [check_seed(one) for one in listed]
    count = len(seeds) if count is None else count
    if not seeds or count != len(seeds):
        raise ValueError(f"Give one seed per image: got {len(seeds)} seeds for {count} images.")
    return [stream(one) for one in seeds]


def randn(
    shape: Sequence[int],
    generator: Generators = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal noise [B, ...], drawn in float32 on the CPU and then moved to the device.

    generator: a list of B generators (one per image), one generator for the whole batch, or None for torch's global
    generator. A generator for the whole batch may be on a GPU, for speed in training; the noise is then drawn there.
    Raises ValueError for a shape that is no list of whole numbers, and for another generator.
    """
    device = choose_device(device)
    check_kind_of("dtype", dtype, torch.dtype)
    return _drawn(_normal, shape, generator).to(device=device, dtype=dtype)


def rand(shape: Sequence[int], generator: Generators = None) -> Tensor:
    """Uniform numbers in [0, 1) [B, ...], float64, on the CPU: `discrete` draws kinds with them.

    In float32 they would have steps of 2^-24, and rare kinds would be drawn too seldom. generator: as for `randn`, on
    the CPU. Raises ValueError for a generator on a GPU, and as `randn` does.
    """
    return _drawn(_uniform, shape, generator)


def _drawn(draw: Callable[..., Tensor], shape: Sequence[int], generator: Generators) -> Tensor:
    """Random numbers [B, ...] of draw(shape, generator), each row from its own generator if there are several."""
    shape = _shape(shape)
    check_generators(generator, shape[0] if shape else 1)
    if generator is None or isinstance(generator, torch.Generator):
        return draw(shape, generator)
    return torch.stack([draw(shape[1:], one) for one in generator])


def _normal(shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    place = "cpu" if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=place, dtype=torch.float32)


def _uniform(shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(
            f"generator must be on the CPU, as noise.stream(seed) makes it; got one on {generator.device}."
        )
    return torch.rand(shape, generator=generator, device="cpu", dtype=torch.float64)


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    if isinstance(shape, torch.Size):  # of another tensor, at every step of a sampler: nothing to check
        return shape
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise ValueError(f"shape must be a list of whole numbers, as (2, 1, 28, 28); got {shortened(shape)}.")
    return tuple(whole("each number of shape", size, 0) for size in shape)


def check_generators(generator: Generators, batch_size: int) -> None:
    """Raise ValueError unless `generator` is None, one generator, or a list of one generator per image."""
    if generator is None or isinstance(generator, torch.Generator):
        return
    if not isinstance(generator, Sequence) or not all(isinstance(g, torch.Generator) for g in generator):
        raise ValueError(
            f"generator must be a torch.Generator, or a list of one per image; got {shortened(generator)}."
        )
    if len(generator) != batch_size:
        raise ValueError(
            f"Got {len(generator)} generators for a batch of {batch_size}; give one generator, or one per image."
        )


@typed_arguments
def seeded(seed: int, build: Callable[[], Built]) -> Built:
    """Call build() with torch's global generator seeded (to initialise weights, say), then restore its state.

    build() runs with the CPU and float32 as torch's defaults, whatever torch's global defaults are.
    """
    with globally_seeded(seed, range(torch.cuda.device_count())), torch_defaults():
        return build()


@contextmanager
def globally_seeded(seed: int, devices: Iterable[torch.device | int]) -> Iterator[None]:
    """Seed torch's global generators within the block, then restore those of the CPU and of the given GPUs."""
    seed = check_seed(seed)
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
