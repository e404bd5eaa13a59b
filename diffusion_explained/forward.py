"""The forward process, which turns data into noise, and its posterior, the reverse step when the data is known.

The forward process is fixed, not learned. It has two forms that agree in distribution: a chain of small Gaussian steps,
and the closed form that reaches any level in one step.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

from diffusion_explained.checks import check_data, float_data, number, same_shape
from diffusion_explained.messages import shortened
from diffusion_explained.noise import Generators, randn
from diffusion_explained.schedules import Level


def like(coefficient: Tensor | float, x: Tensor) -> Tensor | float:
    """Shape a coefficient to multiply x [B, ...]: a number stays unchanged, a vector [B] gets trailing dimensions.

    Raises ValueError if x holds integers, and for a coefficient of another shape or that is no finite number.
    """
    float_data("data", x)
    if not isinstance(coefficient, Tensor):
        return number("each coefficient of a level", coefficient, "a finite number, or a tensor [B]")
    check_data("coefficients of levels", coefficient)
    coefficient = coefficient.to(x)
    if coefficient.ndim == 0:
        return coefficient
    each = (len(x), *[1] * (x.ndim - 1))
    if coefficient.shape not in ((len(x),), each):
        raise ValueError(
            f"A level has one number for all, or one per image [{len(x)}]; got a tensor of shape "
            f"{list(coefficient.shape)} for data of shape {list(x.shape)}."
        )
    return coefficient.reshape(each)


def add_noise(x_0: Tensor, eps: Tensor, level: Level | tuple[Tensor | float, Tensor, Tensor]) -> Tensor:
    """Noise data to a level in one step.

        x_t = alpha * x_0 + sigma * eps                         (DDPM, Eq. 4)

    Args:
        x_0, eps: data and standard normal noise, float [B, ...], of the same shape.
        level: a `Level` for the whole batch, or (t, alpha [B], sigma [B]), one level per image.

    Raises ValueError for shapes that differ, for integer data (bytes), if `level` is not a level, and for NaN or
    infinite data on a CPU (on a GPU the check would wait for the device: there NaN carries over to x_t).
    """
    same_shape("x_0 and eps", check_data("x_0", x_0), check_data("eps", eps))
    if not isinstance(level, tuple) or len(level) != 3:
        raise ValueError(f"level must be a Level, or (t, alpha [B], sigma [B]); got {shortened(level)}.")
    _, alpha, sigma = level
    return like(alpha, x_0) * x_0 + like(sigma, x_0) * eps


def transition(level: Level, noisier: Level) -> tuple[float, float]:
    """The Gaussian step between two levels, q(x_t | x_s) = N(scale * x_s, std^2 I), as (scale, std).

        scale = alpha_t / alpha_s,   std^2 = sigma_t^2 - scale^2 * sigma_s^2         (VDM, App. A)

    For neighbouring timesteps of a DDPM schedule: scale = sqrt(1 - beta_t), std = sqrt(beta_t) (DDPM, Eq. 2).

    Raises ValueError if an argument is not a level, if the first level is pure noise, and if the second is less noisy.
    """
    for one in (level, noisier):
        if not isinstance(one, Level):
            raise ValueError(f"A level is a Level(t, alpha, sigma), as a schedule gives them; got {shortened(one)}.")
    if level.alpha == 0:
        raise ValueError(f"No step starts from pure noise (level t={level.t:g} has alpha = 0): give a cleaner level.")
    scale = noisier.alpha / level.alpha
    variance = noisier.sigma**2 - scale**2 * level.sigma**2
    if variance < -1e-12:
        raise ValueError(f"Level t={noisier.t:g} is not noisier than t={level.t:g}: noise cannot be removed forwards.")
    return scale, max(variance, 0.0) ** 0.5


def q_chain(x_0: Tensor, levels: Sequence[Level], generator: Generators = None) -> Iterator[Tensor]:
    """Run the forward process one Gaussian step at a time, yielding x_t at each level.

        x_t = scale * x_s + std * eps,   (scale, std) = transition(s, t)             (DDPM, Eq. 2)

    Args:
        x_0: data [B, ...].
        levels: increasing in noise; the chain starts from the clean image.
        generator: one generator for the batch, or one per image.

    Raises ValueError for levels that do not increase in noise, and for data that `add_noise` refuses.
    """
    if not isinstance(levels, Sequence):
        raise ValueError(f"levels must be a list of Level, increasing in noise; got {shortened(levels)}.")
    x, here = check_data("x_0", x_0), Level(-1.0, 1.0, 0.0)
    for level in levels:
        scale, std = transition(here, level)
        x, here = scale * x + std * randn(x.shape, generator, x.device, x.dtype), level
        yield x


def posterior_std(level: Level, next_level: Level) -> float:
    """The standard deviation of q(x_s | x_t, x_0), std_ts * sigma_s / sigma_t (DDPM, Eq. 7); it depends on no image.

    level, next_level: t (noisier) and s (less noisy).
    """
    _, std = transition(next_level, level)
    check_noisy(level)
    return std * next_level.sigma / level.sigma


def posterior(x_0: Tensor, x_t: Tensor, level: Level, next_level: Level) -> tuple[Tensor, float]:
    """The reverse step when the data is known, q(x_s | x_t, x_0) = N(mean, std^2 I), as (mean, std).

        mean = (alpha_s std_ts^2 x_0 + scale sigma_s^2 x_t) / sigma_t^2,  std = std_ts * sigma_s / sigma_t
                                                    (DDPM, Eq. 6-7; any Gaussian path: VDM, App. A)

    Args:
        x_0, x_t: [B, ...].
        level, next_level: t (noisier) and s (less noisy).

    NaN in x_0 or x_t carries over to the mean: a sampler refuses it after the step.
    """
    same_shape("x_0 and x_t", float_data("x_0", x_0), float_data("x_t", x_t))
    scale, std = transition(next_level, level)
    check_noisy(level)
    of_x_0 = next_level.alpha * (std / level.sigma) ** 2
    of_x_t = scale * (next_level.sigma / level.sigma) ** 2
    return of_x_0 * x_0 + of_x_t * x_t, posterior_std(level, next_level)


def check_noisy(level: Level) -> None:
    """Raise ValueError for a level without noise, which has no reverse step."""
    if not level.sigma > 0:
        raise ValueError(f"Level t={level.t:g} is clean (sigma = 0): there is no step back from it.")
