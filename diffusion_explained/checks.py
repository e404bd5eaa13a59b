"""Checks of arguments: their classes, whole numbers, real numbers, float data, finite images.

Every function raises a ValueError that says what was given, what is allowed and what to do.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, overload

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_explained.messages import shortened, unknown_name

IMAGE_BOUND = 10.0  # larger than |x| of any image in [-1, 1] or any guided sample; bytes reach 255


def whole(what: str, value: Any, least: int, most: int | None = None, where: str = "") -> int:
    """Convert a whole number of Python, numpy or torch to an int; 10.0 is a real number, and refused.

    where: what the bound `most` is, for the message.

    Raises ValueError, naming `what`, for anything else and for a number out of range.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        allowed = f"{least} or more" if most is None else f"from {least} to {most}{where}"
        raise ValueError(f"{what} must be a whole number, {allowed}; got {shortened(value)}.")
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
        raise ValueError(f"{what} must be {allowed}; got {shortened(value)}.")
    return real


def truth(what: str, value: Any) -> bool:
    """Return a bool unchanged; raises ValueError, naming `what`, for anything else."""
    if not isinstance(value, bool):
        raise ValueError(f"{what} must be True or False; got {shortened(value)}.")
    return value


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
        raise ValueError(f"{what} must be a vector of {allowed}; got {shortened(shown)}.")
    return vector


def float_data(what: str, x: Any) -> Tensor:
    """Return x after checking that it is a tensor of floating-point numbers, of any shape [...].

    Raises ValueError for anything else, bytes included: in integer arithmetic coefficients would be rounded.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"{what} must be a tensor; got a {type(x).__name__}. Wrap it in torch.as_tensor.")
    real_tensor(what, x)
    if not x.is_floating_point():
        hint = " (data.to_float makes them of bytes 0..255)" if x.dtype == torch.uint8 else ""
        raise ValueError(f"{what} must hold floats, images in [-1, 1]{hint}; got {x.dtype}.")
    if x.dtype.itemsize < 2:
        raise ValueError(f"{what} must hold floats of 16 bits or more; got {x.dtype}: give x.float().")
    return x


def image_batch(what: str, x: Any, channels: int | None = None) -> Tensor:
    """Return x after checking that it is a batch of float images [B, C, H, W], B of 1 or more, of so many channels.

    Raises ValueError for anything else; NaN is not looked for.
    """
    if float_data(what, x).ndim != 4 or x.numel() == 0 or x.shape[1] != (channels or x.shape[1]):
        raise ValueError(f"{what} must be images [B, {channels or 'C'}, H, W], B of 1 or more; got {list(x.shape)}.")
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


def check_data(what: str, x: Any) -> Tensor:
    """Return x [...] after checking that it is a tensor of finite floats; on a GPU, NaN is not looked for.

    There the check would wait for all work queued on the device. Raises ValueError as `float_data` and `check_finite`.
    """
    if float_data(what, x).device.type == "cpu":
        check_finite(x, what, "give finite numbers")
    return x


def check_finite(values: Tensor, what: str, advice: str = "nothing can be measured or drawn of them") -> None:
    """Raise ValueError if any of the values [N, ...] is NaN or infinite; the message says how many of the N are."""
    if bool(values.isfinite().all()):
        return
    bad = int((~values.reshape(len(values), -1).isfinite()).any(dim=1).sum()) if values.ndim else 1
    raise ValueError(f"{bad} of the {len(values) if values.ndim else 1} {what} hold NaN or infinity; {advice}.")


def check_some(what: str, values: Any) -> None:
    """Raise ValueError for a list or a dictionary without entries."""
    if len(values) == 0:
        raise ValueError(f"{what} must have at least one entry; got {shortened(values)}.")


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
NUMBERS = (int, float)
WORDS: dict[Any, str] = {  # of the classes that arguments have, for messages
    Tensor: "a tensor",
    torch.Generator: "a torch.Generator (noise.stream(seed) makes one)",
    np.ndarray: "a NumPy array",
    str: "a text",
    dict: "a dictionary",
    type(None): "None",
    Path: "a path (pathlib.Path)",
    os.PathLike: "a path (pathlib.Path)",
    torch.device: "a torch.device",
    BinaryIO: "an open file",
    bytes: "the bytes of a file",
    torch.dtype: "a torch.dtype, such as torch.float16",
    nn.Module: "a network (torch.nn.Module)",
    **dict.fromkeys(NUMBERS, "a number"),
    bool: "True or False",
    Any: "a value",
}


@overload
def typed_arguments(target: Called) -> Called: ...
@overload
def typed_arguments(*, but: str) -> Callable[[Called], Called]: ...
def typed_arguments(target: Called | None = None, *, but: str = "") -> Any:
    """A function, or a class, that refuses an argument of another class than in its annotation, by the argument's name.

    Checked are classes, their unions, and the members of sequences, tuples and mappings of them. A number may be one of
    Python, numpy or torch; its range is for `whole` and `number` to check. A tensor must hold numbers (`real_tensor`).
    Raises ValueError that says what the argument must be.

    but: the argument that the target checks itself.
    """
    if target is None:
        return functools.partial(typed_arguments, but=but)
    if isinstance(target, type):
        target.__init__ = typed_arguments(but=but)(target.__init__)  # type: ignore[misc]  # no subclass is looked at
        return target
    signature = inspect.signature(target)
    kinds: dict[str, Any] = {}  # filled at the first call, when all annotated classes can be imported

    @functools.wraps(target)
    def checked(*args: Any, **options: Any) -> Any:
        if not kinds:
            kinds.update(typing.get_type_hints(target))
        for name, value in signature.bind(*args, **options).arguments.items():
            if name in kinds and name != but and signature.parameters[name].kind is not inspect.Parameter.VAR_KEYWORD:
                check_kind_of(name, value, kinds[name])
        return target(*args, **options)

    return typing.cast(Called, checked)


def check_kind_of(what: str, value: Any, kind: Any) -> None:
    """Raise ValueError, naming `what`, unless the value is of the annotated kind, as `typed_arguments` checks it."""
    if not _is_of(kind, value):
        simple = value is None or isinstance(value, str | bool | int | float | list | tuple | Mapping)
        given = shortened(value) if simple else f"a {type(value).__name__}"
        raise ValueError(f"{what} must be {_words_of(kind)}; got {given}.")
    if isinstance(value, Tensor):
        real_tensor(what, value)


def real_tensor(what: str, x: Tensor) -> Tensor:
    """Return x, of any shape [...], after checking that it holds numbers.

    Raises ValueError for a tensor on torch's device "meta", which has a shape alone: nothing can be computed from it;
    and for a sparse tensor, which most operations refuse.
    """
    if x.device.type == "meta":
        raise ValueError(f'{what} must hold numbers; got a tensor on the device "meta": make it on the CPU or a GPU.')
    if x.layout is not torch.strided:
        raise ValueError(f"{what} must be a dense tensor; got a sparse one: give x.to_dense().")
    return x


def all_of(what: str, values: Any, kind: type[Any]) -> list[Any]:
    """List an iterable whose members must all be of a class; raises ValueError, naming `what`, for anything else."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        check_kind_of(what, values, list[kind])  # type: ignore[valid-type]  # a class at run time
    listed = [values] if getattr(values, "ndim", 1) == 0 else list(values)
    check_kind_of(what, listed, list[kind])  # type: ignore[valid-type]
    return listed


def _is_of(kind: Any, value: Any) -> bool:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_is_of(one, value) for one in inner)
    if kind is Any or isinstance(kind, TypeVar):
        return True
    if kind in (int, float):
        return isinstance(value, int | float | np.number) or (
            isinstance(value, Tensor | np.ndarray) and value.ndim == 0
        )
    if kind is bool:
        return isinstance(value, bool | np.bool_)
    if origin is typing.Literal:
        return value in inner
    if origin in (Sequence, list, tuple):
        if isinstance(value, Tensor | np.ndarray):  # whose members are numbers, or tensors
            return value.ndim > 0 and inner[0] in (Tensor, np.ndarray, Any, *NUMBERS)
        if isinstance(value, str) or not isinstance(value, Sequence):
            return False
        if origin is tuple and inner[-1] is not Ellipsis:
            return len(value) == len(inner) and all(map(_is_of, inner, value))
        return all(_is_of(inner[0], one) for one in value)
    if origin in (Mapping, dict):
        return isinstance(value, Mapping) and all(
            _is_of(inner[0], key) and _is_of(inner[1], one) for key, one in value.items()
        )
    kind = origin or kind
    if kind is BinaryIO:  # no class of an open file descends from it
        return hasattr(value, "read")
    if kind is Callable or getattr(kind, "_is_protocol", False):
        named = _attributes_of(kind)
        return all(hasattr(value, name) for name in named) if named else callable(value)
    return isinstance(value, kind) if isinstance(kind, type) else True


def _attributes_of(protocol: Any) -> list[str]:
    """The names of what a protocol's objects must have; an empty list for a protocol of functions."""
    return [name for name in vars(protocol) if not name.startswith("_")]


def _words_of(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_words_of, inner)))
    if origin is typing.Literal:
        return " or ".join(map(repr, inner))
    if origin in (Sequence, list, tuple):
        each = " and ".join(dict.fromkeys(_words_of(one) for one in inner if one is not Ellipsis))
        count = f" of {len(inner)}" if origin is tuple and inner[-1] is not Ellipsis else ""
        return f"a list{count}, each entry {each}"
    if origin in (Mapping, dict):
        return f"a dictionary, name -> {_words_of(inner[1])}"
    kind = origin or kind
    if kind is Callable or getattr(kind, "_is_protocol", False):
        named = _attributes_of(kind)
        return f"a {kind.__name__}, with the attributes {', '.join(named)}" if named else "a function"
    return WORDS.get(kind) or f"a {getattr(kind, '__name__', kind)}"


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
                raise ValueError(f"{what} has no options; got {shortened(name)}: leave it out.")
            raise unknown_name(f"option of {what}", name, allowed)
