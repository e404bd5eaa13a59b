"""The parts of an exercise in a notebook of the course: the reader's cell, the sample solution, the check, remarks.

The course writes an exercise as four cells: its text (**Exercise n ...**), the reader's cell, which ends in
`my_name = ...`, the sample solution with the tag "solution", and `check("NN.n", my_name, solution_name)`. What stands
between the check and the next exercise or heading comments on the answer: a remark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from diffusion_explained.course.notebook_files import Cell

BUILT = re.compile(r'(built\("\d\d\.\d+", \w+), \w+\)')  # in a lab: the cells after the exercises use the answers
CHECK = re.compile(r'^check\("(\d\d\.\d+)", (\w+), (\w+)\)$')
SECTION = "## Exercises"
BEGINS = re.compile(r"^(?:\*\*Exercise \d+|## )", re.MULTILINE)


@dataclass(frozen=True)
class ExerciseCells:
    """One exercise of a notebook: its number, such as "01.2", the names of the two answers, and its cells' indices."""

    number: str
    answer_name: str
    solution_name: str
    answer: int
    solution: int
    check: int


def exercise_cells(cells: Sequence[Cell]) -> list[ExerciseCells]:
    """The exercises of one of the course's own notebooks, in order.

    Raises ValueError where a check does not follow a reader's cell and a sample solution.
    """
    found = []
    for i, cell in enumerate(cells):
        checked = CHECK.match(cell["source"]) if cell["cell_type"] == "code" else None
        if checked:
            number, answer_name, solution_name = checked.groups()
            answer, solution = cells[i - 2], cells[i - 1]
            if i < 2 or not is_solution(solution) or stub(answer_name) not in answer["source"].splitlines():
                raise ValueError(f"exercise {number} is not a reader's cell, a sample solution and a check")
            found.append(ExerciseCells(number, answer_name, solution_name, i - 2, i - 1, i))
    return found


def is_solution(cell: Cell) -> bool:
    """Whether a cell is a sample solution."""
    return "solution" in cell.get("metadata", {}).get("tags", [])


def stub(answer_name: str) -> str:
    """The line of an open answer."""
    return f"{answer_name} = ..."


def uses(cell: Cell, names: Sequence[str]) -> bool:
    """Whether one of the names stands in the source of a cell."""
    return any(re.search(rf"\b{name}\b", cell["source"]) for name in names)


def without_solution(cell: Cell) -> Cell:
    """The cell with the calls of `built` that name no sample solution."""
    return {**cell, "source": BUILT.sub(r"\1)", cell["source"])} if cell["cell_type"] == "code" else cell


def exercise_section(cells: Sequence[Cell]) -> tuple[int, int]:
    """The first cell of the section of exercises, and the cell in which the next section begins.

    Raises ValueError for a notebook without this section, or with nothing after it.
    """
    first = next((i for i, cell in enumerate(cells) if _begins_with(cell, SECTION)), None)
    if first is None:
        raise ValueError(f"the notebook has no section {SECTION!r}")
    for i in range(first + 1, len(cells)):
        if cells[i]["cell_type"] == "markdown" and re.search(r"^## ", cells[i]["source"], re.MULTILINE):
            return first, i
    raise ValueError(f"the notebook has no section after {SECTION!r}")


def without_remark(source: str) -> str:
    """The Markdown of a cell of the section of exercises from its exercise, or from the next section, on.

    Empty for a cell that only comments on an answer.
    """
    begins = BEGINS.search(source)
    return source[begins.start() :] if begins else ""


def _begins_with(cell: Cell, heading: str) -> bool:
    return cell["cell_type"] == "markdown" and heading in cell["source"].splitlines()
