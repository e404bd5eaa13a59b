"""Two-dimensional data, of which every point can be plotted: the usual toys, and drawings by hand.

Each toy is centred, and scaled by a constant so that its coordinates have variance 1 on average: so the noise schedules
for images also suit it, and its scale does not depend on how many points are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Generator, Tensor

from diffusion_explained.checks import named_options, number, typed_arguments, whole
from diffusion_explained.devices import float64_on_cpu
from diffusion_explained.messages import unknown_name
from diffusion_explained.noise import stream

Points = tuple[Tensor, Tensor]  # points float64 [n, 2] before scaling, labels int64 [n]


def _uniform(n: int, generator: Generator) -> Tensor:
    return torch.rand(n, generator=generator, dtype=torch.float64, device="cpu")


def _jitter(n: int, std: float, generator: Generator) -> Tensor:
    return std * torch.randn(n, 2, generator=generator, dtype=torch.float64, device="cpu")


def _classes(n: int, count: int, generator: Generator) -> Tensor:
    return torch.randint(count, (n,), generator=generator, dtype=torch.int64, device="cpu")


def _circle(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def _moons(n: int, generator: Generator) -> Points:
    """Two half circles, one upside down and shifted into the other's opening; the label is the moon."""
    labels = _classes(n, 2, generator)
    upper = _circle(math.pi * _uniform(n, generator))
    lower = torch.tensor([1.0, 0.5], dtype=torch.float64, device="cpu") - upper
    points = torch.where(labels[:, None] == 0, upper, lower) - torch.tensor(
        [0.5, 0.25], dtype=torch.float64, device="cpu"
    )
    return points + _jitter(n, 0.06, generator), labels


def _swiss_roll(n: int, generator: Generator) -> Points:
    """A spiral r = theta over one and a half turns; the label is the third of the roll, from inside out."""
    along = _uniform(n, generator)
    theta = 1.5 * math.pi * (1 + 2 * along)
    return theta[:, None] * _circle(theta) + _jitter(n, 0.3, generator), (3 * along).long()


def _gaussians(name: str) -> Callable[[int, Generator], Points]:
    def draw(n: int, generator: Generator) -> Points:
        means, std = _MODES[name]
        labels = _classes(n, len(means), generator)
        return means[labels] + _jitter(n, std, generator), labels

    draw.__doc__ = "Round Gaussians of equal weight; the label is the Gaussian (see `gaussian_modes`)."
    return draw


def _checkerboard(n: int, generator: Generator) -> Points:
    """The eight dark squares of a 4 x 4 board, filled evenly; the label is the square."""
    labels = _classes(n, 8, generator)
    row, pair = labels // 2, labels % 2
    corner = torch.stack([2 * pair + row % 2, row], dim=1) - 2.0
    return corner + torch.rand(n, 2, generator=generator, dtype=torch.float64, device="cpu"), labels


def _spiral(n: int, generator: Generator) -> Points:
    """Two arms that wind around each other; the label is the arm."""
    labels = _classes(n, 2, generator)
    theta = 3 * math.pi * _uniform(n, generator).sqrt()  # sqrt: even along the arm, not denser at the centre
    points = theta[:, None] * _circle(theta + math.pi * labels.float())
    return points + _jitter(n, 0.3, generator), labels


def _ring(n: int, generator: Generator) -> Points:
    """One circle; the label is the quarter of it, anticlockwise from the x axis."""
    turn = _uniform(n, generator)
    return _circle(2 * math.pi * turn) + _jitter(n, 0.06, generator), (4 * turn).long()


# before scaling: means float64 [K, 2] and their common standard deviation
_MODES: dict[str, tuple[Tensor, float]] = {
    "eight_gaussians": (_circle(torch.arange(8, dtype=torch.float64, device="cpu") * math.pi / 4), 0.1),
    "two_gaussians": (torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64, device="cpu"), 0.3),
}

# name -> (function that draws it, its centre, the root of its mean variance per coordinate), the exact moments
TOYS: dict[str, tuple[Callable[[int, Generator], Points], tuple[float, float], float]] = {
    "moons": (_moons, (0.0, 0.0), math.sqrt((0.75 + 0.5625 - 1 / math.pi) / 2 + 0.06**2)),
    "swiss_roll": (
        _swiss_roll,
        (2.0, 2 / (3 * math.pi)),
        math.sqrt((9.75 * math.pi**2 - 4 - (2 / (3 * math.pi)) ** 2) / 2 + 0.3**2),
    ),
    "eight_gaussians": (_gaussians("eight_gaussians"), (0.0, 0.0), math.sqrt(0.5 + 0.1**2)),
    "two_gaussians": (_gaussians("two_gaussians"), (0.0, 0.0), math.sqrt(0.5 + 0.3**2)),
    "checkerboard": (_checkerboard, (0.0, 0.0), math.sqrt(4 / 3)),
    "spiral": (_spiral, (0.0, 0.0), math.sqrt(9 * math.pi**2 / 4 + 0.3**2)),
    "ring": (_ring, (0.0, 0.0), math.sqrt(0.5 + 0.06**2)),
}


@named_options
@typed_arguments
def toy(name: str, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw a toy: points float32 [n, 2], centred, with a mean variance of 1 per coordinate, and labels int64 [n].

    The same name, n and seed give the same points. Raises ValueError for an unknown name or an n below 1.
    """
    if name not in TOYS:
        raise unknown_name("2-D toy", name, TOYS)
    n = whole("n, the number of points,", n, 1)
    draw, centre, scale = TOYS[name]
    points, labels = draw(n, stream(seed))
    return ((points - torch.tensor(centre, dtype=torch.float64, device="cpu")) / scale).float(), labels


@typed_arguments
def gaussian_modes(name: str) -> tuple[Tensor, float]:
    """The Gaussians of a toy, as scaled by `toy`: means float32 [K, 2] and their common standard deviation.

    p(x_0) = 1/K sum_k N(x_0; mean_k, std^2 I), whose noised distributions and optimal denoiser are known in closed form
    (`exact.GaussianMixture(means, std)`). Label k of the toy is mean k. Raises ValueError for other toys.
    """
    if name not in _MODES:
        raise unknown_name("toy made of Gaussians", name, _MODES)
    means, std = _MODES[name]
    scale = TOYS[name][2]
    return (means / scale).float(), std / scale


@named_options
def from_points(points: Sequence[Sequence[float]] | Tensor) -> tuple[Tensor, Tensor]:
    """Points placed by hand, as data: float32 [n, 2], centred and scaled like the toys, with labels 0.

    Raises ValueError for no points, points that are not pairs of finite numbers, or points all in one place.
    """
    drawn = float64_on_cpu("a drawing", points)
    if drawn.ndim != 2 or drawn.shape[1] != 2 or len(drawn) == 0:
        raise ValueError(f"a drawing is a list of (x, y) points, [n, 2] with n of 1 or more; got {list(drawn.shape)}")
    if not bool(drawn.isfinite().all()):
        raise ValueError("a drawing has a point that is NaN or infinite; every coordinate must be a finite number")
    centred = drawn - drawn.mean(0)
    scale = centred.square().mean().sqrt()
    if scale <= 1e-9 * (1 + drawn.abs().max()):
        raise ValueError(f"all {len(drawn)} points of the drawing are in one place; draw at least two apart")
    return (centred / scale).float(), torch.zeros(len(drawn), dtype=torch.int64, device="cpu")


@named_options
def from_strokes(
    strokes: Sequence[Sequence[Sequence[float]] | Tensor], n: int, seed: int = 0, jitter: float = 0.02
) -> tuple[Tensor, Tensor]:
    """n points distributed evenly along drawn strokes, each a polyline [k, 2]; the label is the stroke.

    jitter: the pen's width, a standard deviation in units of the scaled drawing.
    Raises ValueError for an n below 1, and where `from_points` raises it.
    """
    n = whole("n, the number of points,", n, 1)
    jitter = number("jitter", jitter, "a standard deviation, 0 or more", 0)
    if isinstance(strokes, str) or not isinstance(strokes, Iterable):
        strokes = []
    lines = [float64_on_cpu("a stroke", stroke) for stroke in strokes]
    if not lines or any(line.ndim != 2 or line.shape[1] != 2 or len(line) == 0 for line in lines):
        raise ValueError("strokes must be one or more lists of (x, y) points, each [k, 2] with k of 1 or more")
    starts = torch.cat([line[:1] if len(line) == 1 else line[:-1] for line in lines])  # a single point is a segment too
    ends = torch.cat([line[-1:] if len(line) == 1 else line[1:] for line in lines])
    of_segments = [i for i, line in enumerate(lines) for _ in range(max(len(line) - 1, 1))]
    owners = torch.tensor(of_segments, dtype=torch.int64, device="cpu")
    lengths = (ends - starts).norm(dim=1)
    generator = stream(seed)
    weights = lengths + 1e-3 * lengths.max() if bool(lengths.max() > 0) else torch.ones_like(lengths)
    segment = torch.multinomial(weights.nan_to_num(), n, replacement=True, generator=generator)
    along = _uniform(n, generator)[:, None]
    points, _ = from_points(starts[segment] + along * (ends[segment] - starts[segment]))
    return points + _jitter(n, jitter, generator).float(), owners[segment]
