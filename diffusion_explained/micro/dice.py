"""The few ways in which a scene leaves something to chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Dice:
    """Choices by a numpy Generator."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.random = generator.random

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self.random() < probability

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all as likely."""
        return options[int(self.random() * len(options))]

    def near(self, value: float, spread: float) -> float:
        """A number at most `spread` away."""
        return value + spread * (2 * self.random() - 1)
