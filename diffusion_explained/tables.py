"""Read settings of a file (TOML, JSON) into a dataclass: every key must be known, every value of the right type.

read_table(TrainConfig, {"images": 40_000, "batch_size": 128}, "[training]")
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from diffusion_explained.messages import shortened, unknown_name

Settings = TypeVar("Settings")
MOST_SIDE = 1024  # pixels
LARGEST = 2**53  # up to here all JSON and TOML readers represent whole numbers exactly
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}  # on Windows


def check_keys(settings: type[Any], table: Mapping[str, Any], what: str, needed: Iterable[str] = ()) -> None:
    """Raise ValueError for a key that is not a field of the dataclass, and for a missing key of those `needed`."""
    names = [field.name for field in dataclasses.fields(settings)]
    for key in table:
        if key not in names:
            raise unknown_name(f"key of {what}", key, names)
    if missing := [name for name in needed if name not in table]:
        raise ValueError(f"{what} lacks {', '.join(missing)}.")


def read_table(settings: type[Settings], table: object, what: str, **made: Any) -> Settings:
    """Build a dataclass from a table; keys with defaults may be missing, and lists are converted to tuples.

    what: the table's name in messages. made: fields that are already built.

    Raises ValueError if the table is not a mapping, for a key that is unknown or missing, for a value of the wrong type
    (NaN and infinity are not allowed), and for values that the dataclass refuses.
    """
    if not isinstance(table, Mapping):
        raise ValueError(f"{what} must be a table of settings; got {shortened(table)}.")
    kinds = typing.get_type_hints(settings)
    check_keys(settings, table, what)
    needed = [
        field.name
        for field in dataclasses.fields(settings)  # type: ignore[arg-type]
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    check_keys(settings, {**table, **made}, what, needed)
    values = {key: typed(kinds[key], value, f"{key} of {what}") for key, value in table.items()}
    return settings(**values, **made)


def read_arguments(function: Callable[..., Any], table: Mapping[str, Any], what: str, **further: Any) -> dict[str, Any]:
    """Read the named arguments of a function from a table; every value must be of the annotated type.

    what: the table's name in messages. further: the types of arguments that the function passes on.
    Raises ValueError for an unknown key and for a value of the wrong type.
    """
    annotated = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    parameters = inspect.signature(function).parameters.values()
    kinds = {one.name: annotated[one.name] for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD}
    kinds |= further
    for key in table:
        if key not in kinds:
            raise unknown_name(f"setting of {what}", key, kinds)
    return {key: typed(kinds[key], value, f"{key} of {what}") for key, value in table.items()}


def check_types(settings: Any) -> None:
    """Raise ValueError for the first field of a dataclass whose value is not of the annotated type, as `typed` says."""
    kinds = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        typed(kinds[field.name], value.item() if isinstance(value, np.generic) else value, field.name)


def typed(kind: Any, value: Any, what: str) -> Any:
    """Check and convert a value to an annotated type: int, float, bool, str, None, tuple, table, or a union of these.

    A whole number is accepted as a float. Raises ValueError that names what was given and what is allowed.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        others = [one for one in inner if one is not type(None)]
        for one in others:
            try:
                return typed(one, value, what)
            except ValueError:
                if len(others) == 1:
                    raise
        raise _refused(kind, value, what)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _refused(kind, value, what)
        if len(inner) == 2 and inner[1] is Ellipsis:
            inner = (inner[0],) * len(value)
        if len(value) != len(inner):
            raise _refused(kind, value, what)
        return tuple(typed(one, each, what) for one, each in zip(inner, value, strict=True))
    if origin in (list, dict):
        if not isinstance(value, origin):
            raise _refused(kind, value, what)
        return value
    if kind is float and type(value) in (int, float) and math.isfinite(value) and abs(value) <= 1e300:
        return float(value)
    if kind is int and type(value) is int and abs(value) <= LARGEST:
        return value
    if kind in (bool, str) and type(value) is kind:
        return value
    raise _refused(kind, value, what)


def _refused(kind: Any, value: Any, what: str) -> ValueError:
    return ValueError(f"{what} must be {_words(kind)}; got {shortened(value)}.")


def _words(kind: Any) -> str:
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a finite number",
        str: "a text",
        dict: "a table",
        list: "a list",
        type(None): "left out",
    }
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(one) for one in inner)
    if origin is tuple:
        return f"a list{'' if inner[-1] is Ellipsis else f' of {len(inner)}'}, each entry {_words(inner[0])}"
    return names.get(origin or kind, str(kind))


def check_sizes(config: Any) -> None:
    """Raise ValueError unless a network's configuration has values of the annotated types, whole numbers of 1 or more.

    Images may have at most MOST_SIDE pixels per side: the size of a U-Net's weights does not depend on that of the
    images, but the memory for sampling does.
    """
    check_types(config)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        numbers = [one for one in (value if isinstance(value, tuple) else (value,)) if type(one) is int]
        if any(number < 1 for number in numbers):
            raise ValueError(f"{field.name} must be 1 or more; got {shortened(value)}.")
    if max(config.image_shape[1:], default=1) > MOST_SIDE:
        raise ValueError(f"image_shape must have at most {MOST_SIDE} pixels per side; got {list(config.image_shape)}.")


def check_file_name(name: object, what: str) -> str:
    """Check a name that is used unchanged as the name of a file or a folder; returns the name.

    Raises ValueError unless it has 1 to 100 of the characters A-Z a-z 0-9 _ . -, does not begin with a dot or a dash,
    and is allowed on every operating system. So the content of a file cannot choose other places on the disk.
    """
    if not is_file_name(name):
        raise ValueError(
            f"{what} must be a plain name, of letters, digits, _ . and - (at most 100, beginning with a letter, a "
            f"digit or _), because files are named after it; got {shortened(name)}."
        )
    return typing.cast(str, name)


def is_file_name(name: object) -> bool:
    """Whether a name is a plain file name on every operating system, and not a path, as in `check_file_name`."""
    plain = isinstance(name, str) and FILE_NAME.fullmatch(name) is not None and not name.endswith(".")
    return plain and typing.cast(str, name).split(".")[0].lower() not in DEVICES
