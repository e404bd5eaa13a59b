"""How an answer is graded: by fresh inputs, on copies, with one hint for a reader whose answer is wrong.

A test of an exercise is a function `test(answer, given)`. It raises AssertionError, with a hint as its message, for a
wrong answer. `Given` makes its inputs and calls the reader's function, so that three kinds of wrong answer cannot pass:

- a function that returns the notebook's own variables: inputs are drawn by the test, with a seed of its own;
- a function that ignores an argument: each argument has several values, with different results;
- a function that changes its arguments in place: arguments are copies, compared after the call.
"""

import copy
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor

from diffusion_explained.checks import number, typed_arguments
from diffusion_explained.devices import to_float64
from diffusion_explained.messages import shortened
from diffusion_explained.noise import randn, stream

SEED = 2026  # of the inputs in a notebook
HIDDEN_SEED = 1  # of those that `diffusion-explained course grade` and nbgrader's hidden tests take
NOTEBOOKS = {
    "00": "warm_up",
    "01": "forward_noising",
    "02": "schedules",
    "03": "training_to_predict_noise",
    "04": "from_ddpm_to_ddim",
    "05": "flow_matching",
    "06": "classifier_free_guidance",
    "07": "unet_and_dit",
    "08": "measuring_models",
    "09": "stable_diffusion",
    "10": "latent_diffusion",
    "11": "text_to_image",
    "12": "scores_sdes_likelihood",
    "13": "few_steps",
    "14": "guidance_inverse_problems",
    "15": "discrete_diffusion",
    "16": "prompting",
    "17": "controlnet",
    "18": "lora",
    "19": "image_prompts",
    "20": "beyond_images",
    "31": "lab_samplers",
    "32": "lab_training",
    "33": "lab_dit",
    "34": "lab_latent_flow",
    "35": "lab_sde",
    "36": "lab_consistency",
}


class Given:
    """What a test gives to an answer: fresh inputs, and a call that leaves the arguments as they were.

    Args:
        seed: of the inputs.
        called: how the reader's function is called, such as "my_eps(x_t, x_0, level)"; used in hints.
    """

    def __init__(self, seed: int, called: str = "") -> None:
        self.generator, self.called = stream(seed), called

    def randn(self, *shape: int) -> Tensor:
        """Normal numbers of this shape, other ones at each call."""
        return randn(shape, self.generator)

    def rand(self, *shape: int) -> Tensor:
        """Numbers between 0 and 1 of this shape, other ones at each call."""
        return torch.rand(shape, generator=self.generator, dtype=torch.float32, device="cpu")

    def number(self, answer: object) -> float:
        """The answer as a number: an int, a float, a NumPy number or a tensor of one number.

        Raises AssertionError with a hint for anything else, infinity and NaN included.
        """
        one = answer.item() if isinstance(answer, Tensor) and answer.numel() == 1 else answer
        try:
            return number("the answer", one, "one number")
        except ValueError:
            raise AssertionError(f"the answer is one number, not {_short(answer)}") from None

    def whole(self, answer: object, low: int, high: int) -> int:
        """The answer as a whole number from low to high; 259.0 is one too. Raises AssertionError with a hint."""
        value = self.number(answer)
        assert value == round(value), f"the answer is a whole number, not {value:g}"
        assert low <= value <= high, f"the answer lies between {low} and {high}: {value:g} does not"
        return round(value)

    def numbers(self, answer: object, count: int) -> list[float]:
        """The answer as a tuple, list or tensor of `count` numbers. Raises AssertionError with a hint."""
        ones = list(answer) if isinstance(answer, tuple | list | Tensor | np.ndarray) else []
        assert len(ones) == count, f"the answer is {count} numbers in a pair of brackets, not {_short(answer)}"
        return [self.number(one) for one in ones]

    def call(self, function: object, *arguments: Any) -> Any:
        """The result of the reader's function.

        Raises AssertionError with a hint if the function raises an error or changes an argument.
        """
        assert callable(function), f"the answer is a function, called as {self.called}, not {_short(function)}"
        # not deepcopy's copy of a generator: it loses a reference to None, and Python 3.11 crashes after some thousand
        # (pytorch issue 188032, in torch 2.13 still)
        generators = {id(one): one.clone_state() for one in arguments if isinstance(one, torch.Generator)}
        copies = copy.deepcopy(arguments, generators)
        result = ran(self.called, function, *copies)
        for before, after in zip(arguments, copies, strict=True):
            assert _same(before, after), (
                "your function changes one of its arguments in place: compute a new tensor instead"
            )
        return result

    def tensor(self, function: object, *arguments: Any, shape: tuple[int, ...]) -> Tensor:
        """The result of the reader's function, a tensor of that shape, on the CPU; a number for the shape ().

        Raises AssertionError with a hint, as `call` does.
        """
        result = self.call(function, *arguments)
        if not shape:
            return torch.tensor(self.number(result), dtype=torch.float64, device="cpu")
        assert isinstance(result, Tensor), f"{self.called} returns a tensor, not {_short(result)}"
        assert result.shape == shape, f"the result has the shape {shape}, not {tuple(result.shape)}"
        return result.detach()

    def returns(
        self,
        function: object,
        *arguments: Any,
        expected: Tensor | float,
        hint: str,
        close: float = 1e-4,
        mistakes: Sequence[tuple[Tensor | float, str]] = (),
    ) -> None:
        """Require that the function returns `expected` [...], up to `close` times its largest number (or 1).

        mistakes: results [...] of typical mistakes, each with a hint that names the mistake.

        Raises AssertionError with the hint of the mistake that gives this result, otherwise with `hint`.
        """
        if not isinstance(expected, Tensor):
            expected = torch.tensor(expected, dtype=torch.float64, device="cpu")
        result = self.tensor(function, *arguments, shape=tuple(expected.shape))
        if near(result, expected, close):
            return
        for wrong, its_hint in mistakes:
            assert not near(result, torch.as_tensor(wrong, dtype=result.dtype, device="cpu"), close), its_hint
        raise AssertionError(hint)


def refuse(hint: str, error: Exception | None = None) -> NoReturn:
    """Raise AssertionError with the hint for a wrong answer; error: that of the reader's code, if there was one."""
    raise AssertionError(hint) from error


def ran(called: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a module or a method of the reader's returns, with its gradient; `Given.call` is for functions.

    called: its name in the hint. Raises AssertionError with a hint if it raises an error.
    """
    try:
        return function(*arguments)
    except Exception as error:  # any error of the reader's code becomes a hint
        refuse(f"{called} ended with {type(error).__name__}: {' '.join(str(error).split())}", error)


def near(result: Tensor, expected: Tensor, close: float = 1e-4) -> bool:
    """Whether two tensors [...] of one shape are equal, up to `close` times the largest expected number (or 1)."""
    limit = close * max(1.0, float(expected.abs().max()))
    return float((to_float64(result) - to_float64(expected)).abs().max()) <= limit


Test = Callable[[Any, Given], None]


@dataclass(frozen=True)
class Exercise:
    """One exercise: its number, such as "01.2", its title, how a function is called, its test, and what it is worth.

    minutes: how long a reader needs who has worked through the notebook; points: of a right answer; difficulty: 1 to 3.
    """

    number: str
    title: str
    called: str
    test: Test
    minutes: int
    points: int
    difficulty: int


_EXERCISES: dict[str, Exercise] = {}


def exercise(
    number: str, title: str, called: str = "", *, minutes: int = 10, difficulty: int = 1
) -> Callable[[Test], Test]:
    """Register the decorated test as that of an exercise: one point for a value, two for a function, times difficulty.

    called: how the reader's function is called, as in the notebook; empty for an answer that is no function.
    minutes: how long a reader needs. difficulty: 1, and in the labs up to 3.
    """

    def register(test: Test) -> Test:
        points = (2 if called else 1) * difficulty
        _EXERCISES[number] = Exercise(number, title, called, test, minutes, points, difficulty)
        return test

    return register


def exercises() -> dict[str, Exercise]:
    """All exercises by their numbers, in the order of the course."""
    for module in NOTEBOOKS.values():
        importlib.import_module(f"diffusion_explained.exercises.{module}")
    return dict(sorted(_EXERCISES.items()))


@dataclass(frozen=True)
class Grade:
    """The grade of an answer; hint: one sentence for a wrong one, otherwise empty."""

    status: Literal["open", "right", "wrong"]
    hint: str = ""


def grade(number: str, answer: object, *, seed: int = SEED) -> Grade:
    """Grade the answer to an exercise; `...` is an open one.

    number: "01.2" is the second exercise of notebook 01; seed: of the inputs of its test.
    Raises ValueError for an unknown exercise.
    """
    notebook = number.partition(".")[0]
    if notebook in NOTEBOOKS:
        importlib.import_module(f"diffusion_explained.exercises.{NOTEBOOKS[notebook]}")
    if number not in _EXERCISES:
        raise ValueError(f"unknown exercise {number!r}; choose from {', '.join(exercises())}")
    if answer is ...:
        return Grade("open")
    one = _EXERCISES[number]
    try:
        one.test(answer, Given(seed, one.called))
    except AssertionError as error:
        return Grade("wrong", str(error))
    return Grade("right")


@typed_arguments
def check(number: str, answer: object, solution: object = None) -> None:
    """Grade an answer and print the result in one line.

    solution: the sample solution, where the notebook has one; it is graded first, so that a check always works.

    Raises RuntimeError if the sample solution is not right: then the notebook, or the test, has an error.
    """
    if solution is not None and (sample := grade(number, solution)).status != "right":
        raise RuntimeError(f"the sample solution of exercise {number} is {sample.status}: {sample.hint}")
    result = grade(number, answer)
    passes = "" if solution is None else " (The sample solution passes.)"
    words = {
        "open": f"Open: replace the dots above and run this cell again.{passes}",
        "right": "Correct.",
        "wrong": f"Not yet: {result.hint}.",
    }
    print(words[result.status])


@typed_arguments
def built(number: str, answer: object, solution: object = None) -> Any:
    """The answer to an exercise of a lab for the cells that use it; while it is open, the sample solution, with a line.

    Raises ValueError for an open answer without a sample solution, as in the student edition.
    """
    if answer is not ...:
        return answer
    if solution is None:
        raise ValueError(
            f"Exercise {number} is open, and the cells from here on use its answer. Replace its dots, run that cell, "
            "and run this cell again."
        )
    print(f"Exercise {number} is open: the lab goes on with our solution.")
    return solution


def _same(before: Any, after: Any) -> bool:
    """Whether an argument still holds the tensors and numbers that it held before the call."""
    if isinstance(before, Tensor):
        return before.shape == after.shape and torch.equal(before, after)
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(_same(one, after[name]) for name, one in before.items())
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(map(_same, before, after))
    if is_dataclass(before):  # a Prediction
        return all(_same(getattr(before, field.name), getattr(after, field.name)) for field in fields(before))
    return not isinstance(before, int | float) or before == after


def _short(value: object) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else shortened(value, 60)
