"""The course's exercises: right answers in any form pass; typical wrong ones get a hint of one line, no traceback."""

import importlib
import sys

import pytest
import torch

from diffusion_explained.exercises import check, exercises, grade
from diffusion_explained.exercises.grading import NOTEBOOKS, Given

TABLES = [importlib.import_module(f"answers.{module}") for module in NOTEBOOKS.values()]
RIGHT = {number: ones for table in TABLES for number, ones in table.RIGHT.items()}
WRONG = {number: ones for table in TABLES for number, ones in table.WRONG.items()}


def cases(table):
    return [
        pytest.param(number, one, id=f"{number}-{k}") for number, ones in table.items() for k, one in enumerate(ones)
    ]


def test_every_exercise_has_right_and_wrong_answers_here():
    assert list(exercises()) == sorted(RIGHT) == sorted(WRONG)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("number", "answer"), cases(RIGHT))
def test_a_right_answer_is_right_in_any_form_and_with_other_inputs(number, answer, seed):
    assert grade(number, answer, seed=seed).status == "right", grade(number, answer, seed=seed).hint


@pytest.mark.parametrize(("number", "wrong"), cases(WRONG))
def test_a_wrong_answer_gets_its_hint(number, wrong, capsys):
    answer, words = wrong
    graded = grade(number, answer)
    assert graded.status == "wrong" and words in graded.hint and "\n" not in graded.hint
    if wrong is WRONG[number][0]:
        check(number, answer, RIGHT[number][0])
        assert capsys.readouterr().out == f"Not yet: {graded.hint}.\n"


# Words of the hints that only say that an answer is wrong, or where to look; all others name what is wrong with it.
GENERAL = (
    "not the noise", "not x_s", "x_s", "go back along v", "not the clean latents", "not the share", "not the factor",
    "not the mean", "not Euler's x", "should become", "what divides the scores", "insert α = 1 - t", "at which time",
    "another choice gets nearer", "the order is not", "a larger one", "a smaller scale", "larger t", "smaller t",
)  # fmt: skip


def test_most_wrong_answers_get_a_hint_that_names_the_mistake():
    """Every wrong answer is refused with a hint (above); four in five hints name the mistake itself."""
    words = [one for ones in WRONG.values() for _, one in ones]
    named = [one for one in words if not one.startswith(GENERAL)]
    assert len(words) > 300 and len(named) / len(words) >= 0.8, f"{len(named)} of {len(words)}"


def test_an_open_exercise_says_so_and_a_right_answer_too(capsys):
    check("01.1", ..., 259)
    assert capsys.readouterr().out.startswith("Open: ")
    check("01.1", 259, 259)
    assert capsys.readouterr().out == "Correct.\n"
    check("01.1", ...)  # in the student edition, without a sample solution
    assert capsys.readouterr().out == "Open: replace the dots above and run this cell again.\n"


def test_a_wrong_sample_solution_is_an_error():
    with pytest.raises(RuntimeError, match=r"sample solution of exercise 01\.1 is wrong: it happened earlier"):
        check("01.1", 259, 260)


@pytest.mark.parametrize("number", ["99.1", "01.9", "one"])
def test_an_unknown_exercise_is_refused(number):
    with pytest.raises(ValueError, match=r"unknown exercise .* choose from 00\.1"):
        grade(number, 1)


def test_a_generator_is_copied_without_the_loss_of_a_reference_to_none():
    given, generator = Given(1), torch.Generator().manual_seed(2)
    before = sys.getrefcount(None)
    drawn = [given.call(lambda generator: torch.rand(1, generator=generator), generator) for _ in range(1000)]
    assert all(torch.equal(one, drawn[0]) for one in drawn) and generator.initial_seed() == 2
    assert sys.getrefcount(None) > before - 500


def test_inputs_are_fresh_at_each_call_and_the_same_for_one_seed():
    first, second = Given(1), Given(1)
    ones = [first.randn(4), first.randn(4)]
    assert not torch.equal(*ones) and torch.equal(ones[0], second.randn(4))
