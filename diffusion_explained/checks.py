"""Checks of arguments: whole numbers, real numbers, float data, finite images.

Every function raises a ValueError that says what was given, what is allowed and what to do.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from diffusion_explained.messages import unknown_name

IMAGE_BOUND = 10.0  # larger than |x| of any image in [-1, 1] or any guided sample; bytes reach 255


def whole(what: str, value: Any, least: int, most: int | None = None) -> int:
    """Convert a whole number of Python, numpy or torch to an int.

    Raises ValueError, naming `what`, for anything else and for a number out of range.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        allowed = f"{least} or more" if most is None else f"from {least} to {most}"
        raise ValueError(f"{what} must be a whole number, {allowed}; got {value!r}.")
    return number


def number(what: str, value: Any, allowed: str, least: float = -math.inf, most: float = math.inf) -> float:
    """Convert a finite number of Python, numpy or torch to a float; `allowed` names the range in the message.

    Raises ValueError, naming `what`, for anything else and for a number out of range.
    """
    try:
        real = math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        real = math.nan
    if not (math.isfinite(real) and least <= real <= most):
        raise ValueError(f"{what} must be {allowed}; got {value!r}.")
    return real


def whole_vector(what: str, values: Any, most: int | None = None, allowed: str | None = None) -> Tensor:
    """Convert whole numbers from 0 to `most` (a list, an array or a tensor [N], N of 1 or more) to int64 on the CPU.

    Raises ValueError for anything else; `allowed` describes the numbers in the message.
    """
    vector: Tensor | None
    try:
        given = values.cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
        fits = given.ndim == 1 and len(given) > 0 and not given.is_floating_point() and given.dtype != torch.bool
        vector = given.to(torch.int64) if fits and not given.is_complex() else None
    except (TypeError, ValueError, RuntimeError, OverflowError):
        vector = None
    if vector is None or int(vector.min()) < 0 or (most is not None and int(vector.max()) > most):
        shown = values.tolist() if isinstance(values, Tensor) and values.device.type != "meta" else values
        allowed = allowed or "whole numbers, 0 or more"
        raise ValueError(f"{what} must be a vector of {allowed}; got {shown!r}.")
    return vector


def float_data(what: str, x: Any) -> Tensor:
    """Return x after checking that it is a tensor of floating-point numbers, of any shape [...].

    Raises ValueError for anything else, bytes included: in integer arithmetic coefficients would be rounded.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"{what} must be a tensor; got a {type(x).__name__}. Wrap it in torch.as_tensor.")
    if not x.is_floating_point():
        hint = " (data.to_float makes them of bytes 0..255)" if x.dtype == torch.uint8 else ""
        raise ValueError(f"{what} must hold floats, images in [-1, 1]{hint}; got {x.dtype}.")
    return x


def same_shape(what: str, a: Tensor, b: Tensor) -> None:
    """Raise ValueError unless two tensors have the same shape, [...], and device.

    Without this check torch would silently broadcast the smaller tensor.
    """
    if a.shape != b.shape:
        raise ValueError(f"{what} must have the same shape; got {tuple(a.shape)} and {tuple(b.shape)}.")
    if a.device != b.device:
        raise ValueError(
            f"{what} must be on the same device; got {a.device} and {b.device}. Move one with .to(device)."
        )


def check_finite(values: Tensor, what: str, advice: str = "nothing can be measured or drawn of them") -> None:
    """Raise ValueError if any of the values [N, ...] is NaN or infinite; the message says how many of the N are."""
    if bool(values.isfinite().all()):
        return
    bad = int((~values.flatten(1).isfinite()).any(dim=1).sum()) if values.ndim else 1
    raise ValueError(f"{bad} of the {len(values) if values.ndim else 1} {what} hold NaN or infinity; {advice}.")


def check_image_range(images: Tensor, what: str = "images") -> None:
    """Raise ValueError for numbers far outside [-1, 1], such as bytes 0..255 that were converted to floats.

    images: [B, C, H, W], or any shape.
    """
    if images.numel() and float(images.abs().amax()) > IMAGE_BOUND:
        low, high = float(images.amin()), float(images.amax())
        raise ValueError(
            f"{what} must lie in [-1, 1], black to white; got {low:g} to {high:g}. "
            "Give bytes as uint8, or x / 127.5 - 1."
        )


Called = TypeVar("Called", bound=Callable[..., Any])


@overload
def named_options(target: Called) -> Called: ...
@overload
def named_options(*, of: Callable[..., Any] | None = None, but: str = "") -> Callable[[Called], Called]: ...
def named_options(target: Called | None = None, *, of: Callable[..., Any] | None = None, but: str = "") -> Any:
    """A function, or a class, that answers an option it does not have as `check_options` does, with what there is.

    Python's own answer is a TypeError that names neither the options that there are nor the nearest one.

    Args:
        of: whose keyword-only options the target's **options are, where it passes them on.
        but: the one of them that the target itself gives.
    """
    if target is None:
        return functools.partial(named_options, of=of, but=but)
    if isinstance(target, type):
        target.__init__ = named_options(target.__init__)  # type: ignore[misc]  # no subclass is looked at
        return target
    parameters = inspect.signature(target).parameters.values()
    own = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    allowed = frozenset(own - {"self", "cls"} | (_keyword_only(of) - {but}))
    what = target.__qualname__.removesuffix(".__init__")

    @functools.wraps(target)
    def checked(*args: Any, **options: Any) -> Any:
        if not allowed.issuperset(options):
            check_options(what, options, allowed)
        return target(*args, **options)

    checked.passed_on = _keyword_only(of) - {but}  # type: ignore[attr-defined]  # for whoever passes options to it
    return checked


def _keyword_only(target: Callable[..., Any] | None) -> set[str]:
    """The names that a callable takes by name only, those that it passes on among them."""
    if target is None:
        return set()
    parameters = inspect.signature(target).parameters.values()
    return {one.name for one in parameters if one.kind is one.KEYWORD_ONLY} | getattr(target, "passed_on", set())


def check_options(what: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise ValueError for the first name in `given` that is not in `allowed`: `what` has no such option."""
    allowed = sorted(allowed)
    for name in given:
        if name not in allowed:
            if not allowed:
                raise ValueError(f"{what} has no options; got {name!r}: leave it out.")
            raise unknown_name(f"option of {what}", name, allowed)
