"""The cell metadata that nbgrader reads (its schema 3), and the marks in the source that it removes for students.

An answer cell is a manual solution cell whose region `### BEGIN SOLUTION` ... is cut out; a check is an autograded
cell, locked, with points, whose region `### BEGIN HIDDEN TESTS` ... is cut out and put back for grading.
"""

from __future__ import annotations

from diffusion_explained.course.exercise_cells import ExerciseCells
from diffusion_explained.course.notebook_files import Cell
from diffusion_explained.exercises.grading import HIDDEN_SEED, exercises

SCHEMA = 3


def mark(answer: Cell, check: Cell, one: ExerciseCells, solution: str) -> None:
    """Make a reader's cell and a check, without solutions so far, the two cells of an nbgrader exercise, in place."""
    number = one.number.replace(".", "-")
    answer["source"] += f"\n### BEGIN SOLUTION\n{solution}\n### END SOLUTION"
    answer["metadata"] = {**answer.get("metadata", {}), "nbgrader": _metadata(f"answer-{number}", solution=True)}
    check["source"] += (
        "\n### BEGIN HIDDEN TESTS\n"
        "from diffusion_explained.exercises import grade\n\n"
        f'graded = grade("{one.number}", {one.answer_name}, seed={HIDDEN_SEED})\n'
        'assert graded.status == "right", graded.hint or graded.status\n'
        "### END HIDDEN TESTS"
    )
    points = exercises()[one.number].points
    check["metadata"] = {**check.get("metadata", {}), "nbgrader": _metadata(f"check-{number}", points=points)}


def _metadata(grade_id: str, *, solution: bool = False, points: int | None = None) -> dict[str, object]:
    graded = points is not None
    scored = {"points": points} if graded else {}
    return {
        "schema_version": SCHEMA,
        "grade_id": grade_id,
        "grade": graded,
        "locked": graded,
        "solution": solution,
        "task": False,
        **scored,
    }
