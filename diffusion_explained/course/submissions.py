"""Grade the answers in a reader's notebook: find each answer's cells, run them in a process apart, and collect points.

Nothing of the notebook but the cells that an answer depends on is run, in the order of the notebook, as `Run All` would
run them. "Above" is above the exercise's check; in a notebook without this check, every cell counts.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from diffusion_explained.course.exercise_cells import ExerciseCells, exercise_cells
from diffusion_explained.course.notebook_files import course_notebooks, read_notebook
from diffusion_explained.course.processes import Grader, Task
from diffusion_explained.course.slices import Names, names_of, needed_cells, plain_code
from diffusion_explained.exercises.grading import HIDDEN_SEED, SEED, exercises
from diffusion_explained.messages import shortened

CHECKS = re.compile(r'\bcheck\(\s*["\'](\d\d)\.(\d+)["\']')
SECONDS = 60.0  # for one exercise
LONGEST_HINT = 300  # characters


@dataclass(frozen=True)
class Graded:
    """One exercise of a notebook: state is open, wrong or right; hint is one sentence, empty for a right answer."""

    number: str
    title: str
    state: str
    points: int
    of: int
    hint: str = ""


@dataclass(frozen=True)
class GradedNotebook:
    """The grades of one notebook of a reader; fault: why it cannot be graded, otherwise empty."""

    file: str
    notebook: str
    exercises: tuple[Graded, ...] = ()
    fault: str = ""

    @property
    def points(self) -> int:
        """The points of all right answers."""
        return sum(one.points for one in self.exercises)

    @property
    def of(self) -> int:
        """The points of all exercises."""
        return sum(one.of for one in self.exercises)

    def to_dict(self) -> dict[str, Any]:
        """The grades as a dictionary of plain values."""
        return {
            "file": self.file,
            "notebook": self.notebook,
            "points": self.points,
            "of": self.of,
            "fault": self.fault,
            "exercises": [asdict(one) for one in self.exercises],
        }


def grade_notebooks(
    paths: Sequence[Path], *, seed: int = HIDDEN_SEED, seconds: float = SECONDS
) -> Iterator[GradedNotebook]:
    """Grade readers' notebooks, one after the other; one that cannot be graded has a fault, and the next follows.

    The code of the notebooks is run, with the rights of whoever calls this: see `processes`.

    Args:
        seed: of the inputs of the tests; not that of the notebooks' own checks.
        seconds: how long one exercise may take.

    Raises ValueError for a seed below 0, for the seed of the notebooks' own checks, and for a time that is not above 0.
    """
    if seed == SEED or seed < 0:
        raise ValueError(f"the seed is {seed}: choose one from 0 on, but {SEED}, which the notebooks' own checks use.")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"the time for an exercise is {seconds:g} seconds: choose more than 0.")
    for path in paths:
        try:
            yield _grade(path, seed, seconds)
        except (ValueError, OSError) as error:
            yield GradedNotebook(str(path), "", fault=" ".join(str(error).split()))


@cache
def _course_exercises() -> tuple[ExerciseCells, ...]:
    """The exercises of all notebooks of the course, which are read once."""
    return tuple(one for path in course_notebooks() for one in exercise_cells(read_notebook(path)["cells"]))


def answer_names() -> dict[str, str]:
    """The name of the answer to each exercise, such as "01.2": "my_eps"."""
    return {one.number: one.answer_name for one in _course_exercises()}


def find_answers(path: Path) -> dict[str, Task | tuple[str, str]]:
    """For each exercise of a reader's notebook, by number: the cells to run, or the state and the hint without a run.

    Raises OSError or ValueError, naming the file, for one that is no notebook of the course.
    """
    cells = [
        plain_code(cell["source"]) if cell["cell_type"] == "code" else None for cell in read_notebook(path)["cells"]
    ]
    notebook, names = _course_number(path, cells), [_names(cell) for cell in cells]
    return {number: _task(number, cells, names) for number in answer_names() if number.startswith(f"{notebook}.")}


def _grade(path: Path, seed: int, seconds: float) -> GradedNotebook:
    graded: list[Graded] = []
    with Grader(seed, seconds) as grader:
        for number, found in find_answers(path).items():
            exercise = exercises()[number]
            state, hint = grader.grade(found) if isinstance(found, Task) else found
            points = exercise.points if state == "right" else 0
            graded.append(Graded(number, exercise.title, state, points, exercise.points, _plain(hint)))
    return GradedNotebook(str(path), graded[0].number.partition(".")[0], tuple(graded))


def _course_number(path: Path, cells: Sequence[str | None]) -> str:
    """Which notebook of the course this is, "01", from its checks. Raises ValueError for another notebook."""
    found = {number for cell in cells for number, _ in CHECKS.findall(cell or "")}
    known = {number.partition(".")[0] for number in answer_names()}
    if len(found & known) != 1:
        said = f"checks of the notebooks {', '.join(sorted(found))}" if found else 'no check("NN.n", ...) in any cell'
        raise ValueError(
            f"{path} is not one notebook of this course: it has {said}. Give a notebook with its checks left in."
        )
    return (found & known).pop()


def _names(cell: str | None) -> Names | None:
    try:
        return None if cell is None else names_of(cell)
    except (SyntaxError, ValueError, RecursionError):  # ValueError: a NUL
        return None


def _task(number: str, cells: Sequence[str | None], names: Sequence[Names | None]) -> Task | tuple[str, str]:
    """The cells to run for an exercise; or the state and the hint where there is nothing to run."""
    name = answer_names()[number]
    checks = [i for i, cell in enumerate(cells) if re.search(rf'\bcheck\(\s*["\']{re.escape(number)}["\']', cell or "")]
    end = checks[-1] if checks else len(cells)
    needed = needed_cells(names, name, end)
    binding = [i for i in range(end) if (one := names[i]) and name in one.bound]
    broken = [i for i in range(end) if names[i] is None and re.search(rf"\b{name}\b", cells[i] or "")]
    if broken and broken[-1] > max(binding, default=-1):
        return "wrong", f"cell {broken[-1] + 1} cannot be run: {_syntax_error(cells[broken[-1]])}"
    if not binding:
        return "open", f"no cell above the check assigns {name}"
    if _is_blank(cells[binding[-1]] or "", name):
        return "open", ""
    solutions = {one.solution_name for one in _course_exercises()}
    used = sorted(solutions & {one for i in needed for one in (names[i].bound | names[i].read)})  # type: ignore[union-attr]
    if used:
        return "wrong", f"the answer is taken from the sample solution, {used[0]}"
    return Task(number, name, [(f"cell {i + 1}", cells[i] or "") for i in needed])


def _is_blank(source: str, name: str) -> bool:
    """Whether the last thing that a cell binds the name to is `...`, or a function without a body."""
    blank = False
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
            blank = isinstance(node.value, ast.Constant) and node.value.value is ...
        elif isinstance(node, ast.FunctionDef) and node.name == name:
            body = [one for one in node.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
            blank = all(isinstance(one, ast.Pass) or "NotImplementedError" in ast.unparse(one) for one in body)
        elif name in {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}:
            blank = False
    return blank


def _syntax_error(source: str | None) -> str:
    try:
        ast.parse(source or "")
    except SyntaxError as error:
        return f"{error.msg} (line {error.lineno})"
    except (ValueError, RecursionError) as error:
        return str(error)
    return ""


def _plain(hint: str) -> str:
    """A hint on one line, without control characters: part of it may be a reader's own words."""
    line = " ".join("".join(one if one.isprintable() else " " for one in hint).split())
    return line if len(line) <= LONGEST_HINT else shortened(line, LONGEST_HINT)[1:]
