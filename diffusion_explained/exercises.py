"""The course's exercises: the reader's answer is checked, and the sample solution always is."""

from collections.abc import Callable
from typing import Any


def check(answer: Any, solution: Any, test: Callable[[Any], None]) -> None:
    """Test the sample solution and then the reader's answer, and print the result; an open answer is still `...`.

    So a check cell always tests something, and a notebook without answers still runs to its end.

    Args:
        answer: the reader's value or function, or `...`, with which the notebook starts.
        solution: a value or function that passes the test.
        test: called as test(answer); raises AssertionError, with a hint as its message, for a wrong answer.
    """
    test(solution)
    if answer is ...:
        print("Open: replace the dots above and run this cell again. (The sample solution passes.)")
        return
    test(answer)
    print("Correct.")
