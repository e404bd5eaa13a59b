"""Spacings of n levels: in the timesteps (leading, linspace, trailing) or in the noise ratio sigma / alpha.

| spacing       | n values, decreasing                                                      | from                     |
|---------------|---------------------------------------------------------------------------|--------------------------|
| `leading`     | t = (n-1) (T // n), ..., T // n, 0, plus an offset                        | Lin et al. 2023, Table 2 |
| `linspace`    | t evenly from T-1 to 0                                                    | Lin et al. 2023, Table 2 |
| `trailing`    | t = T, T - T/n, ..., T/n, rounded, minus 1                                | Lin et al. 2023, Table 2 |
| `karras`      | ratio^(1/rho) evenly from the largest ratio to the smallest               | EDM, Eq. 5               |
| `exponential` | log(ratio) evenly from the largest ratio to the smallest                  | k-diffusion              |
| `beta`        | low + q (high - low), q the quantiles of Beta(0.6, 0.6) at 1, ..., 0      | Lee et al. 2024          |

Timesteps are computed with the NumPy expressions of diffusers, in the same floating-point type, because the last bit
decides whether a value of half a step is rounded up or down.
"""

import math

import numpy as np

from diffusion_explained.messages import shortened

SPACINGS = ("leading", "linspace", "trailing")
RATIO_SPACINGS = ("karras", "exponential", "beta")
BETA_SHAPE = 0.6  # both parameters of the Beta distribution (Lee et al. 2024, "Beta Sampling is All You Need")


def check_spacing(spacing: str, allowed: tuple[str, ...] = SPACINGS + RATIO_SPACINGS) -> None:
    """Raise ValueError for a spacing that is not in `allowed`."""
    if spacing not in allowed:
        raise ValueError(f"spacing must be one of {', '.join(allowed)}; got {shortened(spacing)}.")


def spaced_timesteps(spacing: str, n: int, T: int, steps_offset: int = 0) -> np.ndarray:
    """The n integer timesteps among 0 .. T-1 that diffusers' DDIMScheduler visits (float64 [n], decreasing)."""
    if spacing == "trailing":
        # [:n]: because T / n is rounded, NumPy's arange gives one value too many (about 0) for some n (61 at T = 1000)
        return np.round(np.arange(T, 0, -T / n))[:n] - 1
    if spacing == "leading":
        return (np.arange(n) * (T // n))[::-1].astype(np.float64) + steps_offset
    return np.linspace(0, T - 1, n).round()[::-1].copy()


def spaced_ratios(spacing: str, n: int, high: float, low: float, rho: float = 7.0) -> np.ndarray:
    """n noise ratios sigma / alpha (float64 [n]) from `high` down to `low`, by one of `RATIO_SPACINGS`.

    Raises ValueError if the ratios are not positive and finite (at zero terminal SNR the largest is infinite), and for
    a rho that is too small for them.
    """
    if not 0 < low <= high < math.inf:
        raise ValueError(
            f'spacing "{spacing}" needs positive, finite noise ratios sigma/alpha, but they run from {high:g} to '
            f"{low:g} here; use one of {', '.join(SPACINGS)}."
        )
    ramp = np.linspace(0, 1, n)
    if spacing == "karras":
        try:
            return (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
        except OverflowError as error:
            raise ValueError(f"rho = {rho:g} is too small for ratios up to {high:g}; EDM uses 7.") from error
    if spacing == "exponential":
        return np.exp(np.linspace(math.log(high), math.log(low), n))
    return low + _beta_quantile(1 - ramp) * (high - low)


def _beta_quantile(p: np.ndarray, a: float = BETA_SHAPE) -> np.ndarray:
    """The quantile of Beta(a, a) at p, where its distribution function equals p, found by bisection.

        I_x(a, a) = x^a / B(a, a) * sum_k (1 - a)_k / k! * x^k / (a + k)            (Abramowitz & Stegun, 26.5.4)

    The sum converges fast for x <= 1/2; the other half follows by symmetry, I_x = 1 - I_(1 - x).
    """
    complete = math.exp(2 * math.lgamma(a) - math.lgamma(2 * a))
    k = np.arange(80)
    terms = np.cumprod(np.concatenate([[1.0], (k[1:] - a) / k[1:]])) / (a + k)  # (1 - a)_k / k! / (a + k)
    tail = np.minimum(p, 1 - p)
    low, high = np.zeros_like(tail), np.full_like(tail, 0.5)
    for _ in range(100):
        x = (low + high) / 2
        below = x**a / complete * (terms * x[:, None] ** k).sum(axis=1) < tail
        low, high = np.where(below, x, low), np.where(below, high, x)
    x = np.where(tail > 0, (low + high) / 2, 0.0)
    return np.where(p > 0.5, 1 - x, x)


def time_of_ratio(ratios: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """The fractional timesteps (float64 [n]) at which an increasing curve [T] of noise ratios has the given ratios [n].

    Interpolated linearly in log(ratio) between timesteps and clamped at both ends, as diffusers computes the network's
    time input (_sigma_to_t).
    """
    given, known = np.log(np.maximum(ratios, 1e-10)), np.log(curve)
    low = (np.searchsorted(known, given, side="right") - 1).clip(0, max(len(known) - 2, 0))
    high = np.minimum(low + 1, len(known) - 1)
    weight = ((known[low] - given) / np.where(high > low, known[low] - known[high], 1.0)).clip(0, 1)
    return (1 - weight) * low + weight * high
