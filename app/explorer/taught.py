"""The networks that visitors train on the page Training: what determines one, and its name on the other pages."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from explorer.cache import Cache, named_cache

if TYPE_CHECKING:
    from explorer.digit_lessons import Learned

BATCH = 64
IMAGES_PER_SECOND = 700  # of two quiet cores, for estimates
KINDS = {"flow": "the velocity", "eps": "the noise ε", "v": "v", "x_0": "the image x₀"}
PATHS = {"flow": "straight", "cosine": "cosine", "linear": "linear"}
NAME = re.compile(r"mnist_taught-(flow|eps|v|x_0)-(flow|cosine|linear)-([0-9]{1,5})-([0-9]{1,5})", re.ASCII)


@dataclass(frozen=True)
class Lesson:
    """All settings that determine a network's training: what it predicts, on which schedule, for how many steps."""

    kind: str = "flow"
    path: str = "flow"
    steps: int = 1000
    seed: int = 0

    @property
    def name(self) -> str:
        """The network's name in addresses and programs."""
        return f"mnist_taught-{self.kind}-{self.path}-{self.steps}-{self.seed}"

    @property
    def words(self) -> str:
        """The network's name for readers."""
        return f"yours · predicts {KINDS[self.kind]} · {PATHS[self.path]} · {self.steps:,} steps · seed {self.seed}"

    @property
    def clip(self) -> float | None:
        """The bound of x_0 in sampling: a network's eps or v is multiplied by much where there is little signal."""
        return 1.0 if self.kind in ("eps", "v") else None

    @property
    def seconds(self) -> float:
        """About how long the training takes on two quiet cores."""
        return self.steps * BATCH / IMAGES_PER_SECOND


def lesson_of(name: object) -> Lesson | None:
    """The lesson of a network's name; None for any other name, which a client may send."""
    found = NAME.fullmatch(name) if isinstance(name, str) else None
    return Lesson(found[1], found[2], int(found[3]), int(found[4])) if found else None


def finished_lessons() -> Cache:
    """The lessons that visitors of this explorer have finished; their number is limited."""
    return named_cache("digit lessons", 16)


def finished(lesson: Lesson) -> "Learned | None":
    """The finished lesson, if a visitor of this explorer has finished it."""
    return finished_lessons().find(lesson)


def is_finished(name: object) -> bool:
    """Whether this is the name of a network that was trained in this explorer."""
    lesson = lesson_of(name)
    return lesson is not None and finished(lesson) is not None
