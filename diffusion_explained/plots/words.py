"""The sentences of alt texts: curves, points and tables with their numbers, in words."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from torch import Tensor

from diffusion_explained.charts import three_digits

Numbers = Sequence[float] | Tensor | np.ndarray


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
