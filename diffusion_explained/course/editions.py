"""The editions of the course's notebooks, made of one source: student, solutions, lecture, and one for nbgrader.

- student: no sample solution, nothing that comments on one, no outputs: what a reader sees is what the reader ran;
- solutions: the sample solutions as answers, open, with the remarks; outputs as in the source, but those of checks;
- lecture: no exercises; slide types for nbconvert (`slides`);
- nbgrader: the instructor's version, from which `nbgrader generate_assignment` makes the students' one.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from diffusion_explained.course import nbgrader
from diffusion_explained.course.exercise_cells import (
    ExerciseCells,
    exercise_cells,
    exercise_section,
    is_solution,
    stub,
    uses,
    without_remark,
    without_solution,
)
from diffusion_explained.course.notebook_files import Cell, Notebook, course_notebooks, notebook_bytes, read_notebook
from diffusion_explained.course.slides import as_slides
from diffusion_explained.files import atomic_path, check_folder
from diffusion_explained.messages import unknown_name

FOLDED = re.compile(
    r"While the dots stand, (?:it|the check) tests our own solution,.*? the two\.".replace(" ", r"\s+"), re.S
)
NOT_FOLDED = "While the dots stand, the check says that the exercise is open."
SOLVED = "In this edition our own solutions stand in place of the dots."
FIRST_LINE = re.compile(r"^# Sample solution: open this cell when you have tried\.\n")


def student(notebook: Notebook) -> Notebook:
    """The edition that students receive: exercises without solutions, remarks and outputs."""
    made = _without_answers(notebook)
    for cell in made["cells"]:
        _clear(cell)
    return made


def solutions(notebook: Notebook) -> Notebook:
    """The edition that shows everything: each reader's cell holds the sample solution, under the reader's name."""
    made = copy.deepcopy(notebook)
    made["cells"] = cells = [without_solution(cell) for cell in made["cells"]]
    exercises = exercise_cells(cells)
    left_out = set()
    for one in exercises:
        cells[one.answer]["source"] = _without_stub(cells[one.answer], one)
        if not cells[one.answer]["source"]:
            left_out.add(one.answer)
        solution = cells[one.solution]
        solution["source"] = solved(solution["source"], exercises)
        solution["metadata"] = {"tags": ["solution"]}
        cells[one.check]["source"] = checked(one)
        _clear(cells[one.check])  # it was not run with this answer
    for cell in cells:
        if cell["cell_type"] == "code" and uses(cell, [one.solution_name for one in exercises]):
            cell["source"] = solved(cell["source"], exercises)
        if "built(" in cell["source"]:
            _clear(cell)
    _say(cells, SOLVED)
    made["cells"] = [cell for i, cell in enumerate(cells) if i not in left_out]
    return made


def lecture(notebook: Notebook) -> Notebook:
    """The edition for the lecture hall: without exercises; with figures, and a slide type for every cell."""
    made = copy.deepcopy(notebook)
    made["cells"] = [without_solution(cell) for cell in made["cells"]]
    first, end = exercise_section(made["cells"])
    after = made["cells"][end]
    after["source"] = after["source"][re.search(r"^## ", after["source"], re.MULTILINE).start() :]  # type: ignore[union-attr]
    before = made["cells"][first]
    before["source"] = before["source"].partition("## Exercises")[0].rstrip()
    kept = [before] if before["source"] else []
    made["cells"] = as_slides([*made["cells"][:first], *kept, *made["cells"][end:]])
    return made


def for_nbgrader(notebook: Notebook) -> Notebook:
    """The instructor's version for nbgrader: answer cells with solution regions, checks with hidden tests, points."""
    made, source = _without_answers(notebook), notebook["cells"]
    exercises = exercise_cells(source)
    places = {cell["id"]: cell for cell in made["cells"]}
    for cell in made["cells"]:
        _clear(cell)
    for one in exercises:
        answer, check = places[source[one.answer]["id"]], places[source[one.check]["id"]]
        nbgrader.mark(answer, check, one, solved(source[one.solution]["source"], exercises))
    return made


EDITIONS: dict[str, Callable[[Notebook], Notebook]] = {
    "student": student,
    "solutions": solutions,
    "lecture": lecture,
    "nbgrader": for_nbgrader,
}


def build(edition: str, out: Path, names: Sequence[str] = (), *, force: bool = False) -> list[Path]:
    """Write an edition of the course's notebooks into a folder; each file appears whole or not at all.

    names: the beginnings of the notebooks' names; all for none. A file that has the same content already is left alone.

    Returns the files of the edition. Raises ValueError for an unknown edition or name, and, before anything is written,
    for files in the folder with other content, which may be a student's work, unless `force` is set; OSError where the
    folder cannot be written.
    """
    if edition not in EDITIONS:
        raise unknown_name("edition", edition, EDITIONS)
    made = {out / path.name: notebook_bytes(EDITIONS[edition](read_notebook(path))) for path in course_notebooks(names)}
    check_folder(out)
    changed = [path.name for path, content in made.items() if path.exists() and path.read_bytes() != content]
    if changed and not force:
        raise ValueError(
            f"{out} has {', '.join(changed)} with other content, perhaps somebody's work. Give another folder with "
            "--out, or replace the content with --force."
        )
    for path, content in made.items():
        if not path.exists() or path.name in changed:
            with atomic_path(path, len(content)) as part:
                part.write_bytes(content)
    return list(made)


def solved(source: str, exercises: Sequence[ExerciseCells]) -> str:
    """The source of a cell with the readers' names in place of the sample solutions' names."""
    for one in exercises:
        source = re.sub(rf"\b{one.solution_name}\b", one.answer_name, source)
    return FIRST_LINE.sub("", source)


def checked(one: ExerciseCells) -> str:
    """The call that checks an answer without a sample solution."""
    return f'check("{one.number}", {one.answer_name})'


def _without_answers(notebook: Notebook) -> Notebook:
    """The notebook without sample solutions, cells that use them, and remarks on answers."""
    made = copy.deepcopy(notebook)
    made["cells"] = cells = [without_solution(cell) for cell in made["cells"]]
    exercises = exercise_cells(cells)
    first, end = exercise_section(cells)
    names = [one.solution_name for one in exercises]
    for one in exercises:
        cells[one.check]["source"] = checked(one)
    for cell in cells[first + 1 : end + 1]:
        if cell["cell_type"] == "markdown":
            cell["source"] = without_remark(cell["source"])
    made["cells"] = [cell for cell in cells if cell["source"] and not is_solution(cell) and not uses(cell, names)]
    _say(made["cells"], NOT_FOLDED)
    return made


def _say(cells: Sequence[Cell], words: str) -> None:
    """Put these words where the section of exercises says that the solutions are folded."""
    cell = cells[exercise_section(cells)[0]]
    cell["source"], found = FOLDED.subn(words, cell["source"])
    if not found:
        raise ValueError('the section of exercises does not say "While the dots stand, it tests our own solution"')


def _without_stub(cell: Cell, one: ExerciseCells) -> str:
    return "\n".join(line for line in cell["source"].splitlines() if line != stub(one.answer_name)).strip("\n")


def _clear(cell: Cell) -> None:
    if cell["cell_type"] == "code":
        cell["outputs"], cell["execution_count"] = [], None
