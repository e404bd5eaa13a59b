"""The sentences of alt texts: curves, points and tables with their numbers, in words."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from torch import Tensor

Numbers = Sequence[float] | Tensor | np.ndarray

MOST_VALUES = 8  # a list of more values is described by its ends and its extremes
DECIMALS = 6  # smaller values are zero for a reader


def three_digits(value: float) -> str:
    """A number with three digits; rounding errors about zero are 0."""
    rounded = round(float(value), DECIMALS) + 0.0
    return f"{rounded if abs(value) < 1 else float(value):.3g}"


def curve_words(name: str, x: Numbers, y: Numbers) -> str:
    """A curve by its ends, and by its highest and lowest point where they lie between: "loss 0.9 at 1, 0.1 at 500"."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    if not len(y):
        return f"{name} without values"
    if len(y) <= MOST_VALUES:
        return f"{name} " + ", ".join(f"{three_digits(b)} at {three_digits(a)}" for a, b in zip(x, y, strict=True))
    first, last = (f"{three_digits(y[k])} at {three_digits(x[k])}" for k in (0, -1))
    words = f"{name} from {first} to {last}"
    inner = []
    for what, k, end in (("highest", int(y.argmax()), y[[0, -1]].max()), ("lowest", int(y.argmin()), y[[0, -1]].min())):
        if three_digits(y[k]) != three_digits(end):
            inner.append(f"{what} {three_digits(y[k])} at {three_digits(x[k])}")
    return ", ".join([words, *inner])


def place_words(points: Numbers) -> str:
    """Points [N, 2] by their centre and their standard deviations along both axes."""
    points = np.asarray(points, float)
    (x, y), (wide, high) = points.mean(0).round(1) + 0.0, points.std(0)
    return f"around ({x:.1f}, {y:.1f}), spread {wide:.1f} and {high:.1f}"


def table_words(name: str, rows: Sequence[str], columns: Sequence[str], table: Numbers, digits: int) -> str:
    """A table of numbers, row by row: "name: row: column 1.0, column 2.0"."""
    lines = (
        f"{row} " + ", ".join(f"{value:.{digits}f} at {column}" for column, value in zip(columns, values, strict=True))
        for row, values in zip(rows, np.asarray(table, float), strict=True)
    )
    return f"{name}: " * bool(name) + "; ".join(lines)


def pairs_words(pairs: Mapping[str, float]) -> str:
    """Names with their numbers: "accuracy 0.98, diversity 2.1"."""
    return ", ".join(f"{name} {three_digits(value)}" for name, value in pairs.items())


def sentence(title: str, parts: Iterable[str]) -> str:
    """The alt text: the title, then the parts."""
    return f"{title}: {'; '.join(parts)}"
