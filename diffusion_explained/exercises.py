"""The course's exercises: an answer is checked, and so is the sample solution while there is no answer yet."""

from collections.abc import Callable
from typing import Any


def check(answer: Any, solution: Any, test: Callable[[Any], None]) -> None:
    """Test an answer and say so; an open one (still `...`) has the sample solution tested in its place.

    So a check cell is never green for nothing, and a notebook that nobody has filled in still runs to its end.

    Args:
        answer: the reader's value or function, or `...` as the notebook has it at first.
        solution: a value or function that passes.
        test: raises AssertionError, with a hint as its message, for a wrong one.
    """
    test(solution)
    if answer is ...:
        print("Open: replace the dots above and run this cell again. (The sample solution passes.)")
        return
    test(answer)
    print("Correct.")
