"""A check passes a right answer, refuses a wrong one with its hint, and never trusts an unfaithful solution."""

import pytest

from diffusion_explained.exercises import check


def is_even(value):
    assert value % 2 == 0, "it must be even"


def test_a_right_answer(capsys):
    check(4, 2, is_even)
    assert capsys.readouterr().out == "Correct.\n"


def test_an_open_exercise_says_so(capsys):
    check(..., 2, is_even)
    assert capsys.readouterr().out.startswith("Open: ")


@pytest.mark.parametrize(("answer", "solution"), [(3, 2), (2, 3), (..., 3)])
def test_a_wrong_answer_or_solution_fails_with_the_hint(answer, solution):
    with pytest.raises(AssertionError, match="must be even"):
        check(answer, solution, is_even)
