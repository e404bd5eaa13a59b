"""Prediction types: what a network's output means. One table gives the training target and the conversion back.

Every output is a linear combination of the data and the noise, `output = a * x_0 + b * eps`:

| kind    | a                      | b                        | determinant       | from                   |
|---------|------------------------|--------------------------|-------------------|------------------------|
| `eps`   | 0                      | 1                        | alpha             | DDPM, Eq. 14           |
| `x_0`   | 1                      | 0                        | -sigma            | DDPM, Sec. 3.2         |
| `v`     | -sigma                 | alpha                    | alpha^2 + sigma^2 | Salimans & Ho, App. D  |
| `flow`  | -1                     | 1                        | alpha + sigma     | rectified flow, Eq. 1  |
| `score` | 0                      | -1/sigma                 | -alpha/sigma      | Tweedie; Vincent 2011  |
| `edm`   | sigma / (sigma_data r) | -sigma_data * alpha / r  | -r / sigma_data   | EDM, Eq. 7 and Table 1 |

with the determinant alpha * b - sigma * a, and r = sqrt(sigma^2 + (sigma_data * alpha)^2). The row (a, b) defines the
training target. Together with x_t = alpha * x_0 + sigma * eps it is a 2 x 2 linear system, and its inverse recovers
(x_0, eps). Where the determinant is 0 (eps in pure noise, x_0 in clean data) the output does not determine the other
unknown, and the conversion raises an error, as it does where so little of the picture is left in x_t that the rounding
of float32 hides it.
"""

from torch import Tensor

from diffusion_explained.checks import check_data, float_data, number, same_shape
from diffusion_explained.forward import like
from diffusion_explained.messages import unknown_name

KINDS = ("eps", "x_0", "v", "flow", "score", "edm")
LEAST_SIGNAL = 1e-6  # alpha / sigma below which an error of float32 in eps is as large as the picture
SIGMA_DATA = 0.5  # the standard deviation of the data that EDM's preconditioning assumes

Coefficient = Tensor | float


def coefficients(kind: str, alpha: Coefficient, sigma: Coefficient) -> tuple[Coefficient, Coefficient]:
    """The coefficients (a, b) of output = a * x_0 + b * eps at a level: numbers for numbers, tensors for tensors.

    alpha and sigma: numbers, or [B]. Raises ValueError for an unknown kind, and for the score at sigma = 0.
    """
    _check_level(kind, alpha, sigma)
    one, zero = alpha * 0 + 1.0, alpha * 0
    if kind == "eps":
        return zero, one
    if kind == "x_0":
        return one, zero
    if kind == "v":
        return -sigma, alpha
    if kind == "flow":
        return -one, one
    if kind == "score":
        if _any(sigma == 0):
            raise ValueError("The score of clean data (sigma = 0) does not exist: start from sigma > 0.")
        return zero, -1 / sigma
    r = (sigma**2 + (SIGMA_DATA * alpha) ** 2) ** 0.5  # edm
    return sigma / (SIGMA_DATA * r), -SIGMA_DATA * alpha / r


def _check_level(kind: str, alpha: Coefficient, sigma: Coefficient) -> None:
    check_kind(kind)
    for name, value in (("alpha", alpha), ("sigma", sigma)):
        if isinstance(value, Tensor):
            float_data(name, value)
        else:
            number(name, value, "a finite number, or a tensor [B]")


def check_kind(kind: str) -> None:
    """Raise ValueError unless kind is one of `KINDS`."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise unknown_name("kind of prediction", kind, KINDS)


def _any(condition: Tensor | bool) -> bool:
    return bool(condition.any()) if isinstance(condition, Tensor) else condition


def input_scale(kind: str, alpha: Coefficient, sigma: Coefficient) -> Coefficient:
    """The factor on x_t at the network's input: c_in for "edm" (EDM, Table 1), otherwise 1.

    alpha and sigma: numbers, or [B]. Raises ValueError for an unknown kind, and for another level.
    """
    _check_level(kind, alpha, sigma)
    if kind != "edm":
        return 1.0
    return (sigma**2 + (SIGMA_DATA * alpha) ** 2) ** -0.5


def target(kind: str, x_0: Tensor, eps: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
    """The training target of a network of this prediction type, [B, ...]: a * x_0 + b * eps.

    Args:
        kind: one of `KINDS`.
        x_0, eps: data and noise, [B, ...].
        alpha, sigma: the level, numbers or one per image [B].

    Raises ValueError for shapes that differ, for integer data, and for NaN or infinite data on a CPU (on a GPU the
    check would wait for the device: there NaN carries over to the target).
    """
    same_shape("x_0 and eps", check_data("x_0", x_0), check_data("eps", eps))
    a, b = coefficients(kind, alpha, sigma)
    return like(a, x_0) * x_0 + like(b, eps) * eps


def to_x0_eps(kind: str, output: Tensor, x_t: Tensor, alpha: Coefficient, sigma: Coefficient) -> tuple[Tensor, Tensor]:
    """Convert a network's output to predictions of the data and the noise, by Cramer's rule.

        x_0 = (b * x_t - sigma * output) / d,   eps = (alpha * output - a * x_t) / d,   d = alpha * b - sigma * a

    Arguments as in `target`; output and x_t are [B, ...] of the same shape.

    NaN in the output carries over to x_0 and eps: a sampler refuses it after the step (`samplers.sampler`).

    Raises:
        ValueError: where d = 0, or alpha / sigma is below 1e-6 for a prediction of the noise, because the output does
            not determine x_0 and eps there; for shapes that differ and integer data.
    """
    same_shape("output and x_t", float_data("output", output), float_data("x_t", x_t))
    a, b, d = check_determined(kind, alpha, sigma)
    x_0 = like(b / d, x_t) * x_t - like(sigma / d, x_t) * output
    eps = like(alpha / d, x_t) * output - like(a / d, x_t) * x_t
    return x_0, eps


def check_determined(kind: str, alpha: Coefficient, sigma: Coefficient) -> tuple[Coefficient, Coefficient, Coefficient]:
    """The coefficients (a, b) and the determinant alpha * b - sigma * a of a level; alpha, sigma: numbers, or [B].

    Raises ValueError where an output of this kind does not determine x_0 and eps.
    """
    a, b = coefficients(kind, alpha, sigma)
    d = alpha * b - sigma * a
    of_noise = kind in ("eps", "score")
    if _any(d == 0) or (of_noise and _any(alpha < LEAST_SIGNAL * sigma)):
        where = f"in pure noise (alpha below {LEAST_SIGNAL:g} sigma)" if of_noise else "in clean data (sigma = 0)"
        raise ValueError(
            f"A prediction of {kind!r} does not determine x_0 and eps {where}. Use a network that predicts v or flow, "
            "or a schedule and spacing that do not visit this level."
        )
    return a, b, d
