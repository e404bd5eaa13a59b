"""The random choices that scenes are composed with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class RandomChoices:
    """Random choices made with a numpy Generator."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.random = generator.random

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.random() < probability

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[int(self.random() * len(options))]

    def near(self, value: float, spread: float) -> float:
        """A number uniform within `spread` of `value`."""
        return value + spread * (2 * self.random() - 1)
