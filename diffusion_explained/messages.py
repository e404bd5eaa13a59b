"""The error for an unknown name, with the names that were probably meant; and values shortened for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown_name(what: str, given: object, known: Iterable[str]) -> ValueError:
    """Make the error for a name that is not in `known`; the message lists the most similar names, then all of them.

    >>> raise unknown_name("sampler", "dimm", ["ddpm", "ddim"])
    Traceback (most recent call last):
    ...
    ValueError: unknown sampler 'dimm': did you mean 'ddim' or 'ddpm'? Known: ddim, ddpm.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(given).lower()[:100], names, n=3, cutoff=0.5)
    hint = f": did you mean {' or '.join(map(repr, near))}?" if near else "."
    return ValueError(f"unknown {what} {shortened(given)}{hint} Known: {', '.join(names)}.")


def shortened(value: object, most: int = 80) -> str:
    """A value as shown in a message: its repr on one line, cut to at most `most` characters."""
    given = " ".join(repr(value).split())
    return given if len(given) <= most else given[: most - 3] + "..."
