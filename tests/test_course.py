"""The course's editions: one source, no trace of a solution for students, the same bytes, nobody's work overwritten."""

import ast
import json
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from diffusion_explained.cli.main import app
from diffusion_explained.course.editions import EDITIONS, build
from diffusion_explained.course.exercise_cells import exercise_cells, exercise_section, is_solution
from diffusion_explained.course.notebook_files import (
    course_notebooks,
    notebook_bytes,
    read_notebook,
    reading_minutes,
)
from diffusion_explained.course.slices import names_of
from diffusion_explained.course.slides import blocks
from diffusion_explained.exercises import exercises

ROOT = Path(__file__).parents[1]
PATHS = course_notebooks()


@pytest.fixture(scope="module")
def source():
    return {path.stem: read_notebook(path) for path in PATHS}


@pytest.fixture(scope="module")
def editions(source):
    """Every edition of every notebook: editions["student"]["01_forward_noising"]."""
    return {name: {stem: make(notebook) for stem, notebook in source.items()} for name, make in EDITIONS.items()}


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def lines(cell):
    return [line.strip() for line in cell["source"].splitlines() if line.strip()]


def bound(cells):
    """The names that an edition reads in a cell before any cell binds them."""
    known, unbound = {"check"}, set()
    for cell in cells:
        names = names_of(cell["source"])
        unbound |= names.read - known
        known |= names.bound
    return unbound


def test_every_edition_is_a_notebook_that_nbformat_reads(editions):
    for made in editions.values():
        for notebook in list(made.values())[::5]:
            read = nbformat.reads(notebook_bytes(notebook).decode(), as_version=4)
            nbformat.validate(read)
            assert nbformat.writes(read).encode() + b"\n" == notebook_bytes(notebook)
            assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


@pytest.mark.parametrize("edition", ["student", "nbgrader", "lecture"])
def test_no_trace_of_a_solution(edition, source, editions):
    """No line of a solution that is not elsewhere in the notebook too, no name of one, no remark on an answer."""
    for stem, notebook in editions[edition].items():
        text = json.dumps(notebook["cells"], ensure_ascii=False)
        if edition == "nbgrader":  # what nbgrader cuts out
            text = re.sub(r"### BEGIN (SOLUTION|HIDDEN TESTS).*?### END \1", "", text)
        elsewhere = {line for cell in source[stem]["cells"] if not is_solution(cell) for line in lines(cell)}
        for cell in filter(is_solution, source[stem]["cells"]):
            for line in set(lines(cell)) - elsewhere:
                assert json.dumps(line, ensure_ascii=False)[1:-1] not in text, line
        assert not re.search(r"\bsolution_\w", text) and "folded" not in text.lower().split("## exercises")[-1]
        for remark in ("It is the finest skip at every noise level", "A negative weight moves away", "An honest model"):
            assert remark not in text
        assert "sample solution" not in text.lower()


def test_the_student_edition_keeps_the_exercises_open_and_has_no_outputs(source, editions):
    for stem, notebook in editions["student"].items():
        assert not any(cell["outputs"] or cell["execution_count"] for cell in code(notebook))
        text = "\n".join(cell["source"] for cell in notebook["cells"])
        for one in exercise_cells(source[stem]["cells"]):
            assert f"{one.answer_name} = ...\n" in text and f'check("{one.number}", {one.answer_name})\n' in text
            titled = f"**Exercise {one.number.split('.')[1]} · {exercises()[one.number].title}"
            assert titled in text.replace("$", ""), one.number
            if stem[3:].startswith("lab_"):
                registered = exercises()[one.number]
                marked = f"*{'★' * registered.difficulty} · {registered.minutes} minutes.*"
                assert f"{titled}.** {marked}" in text, one.number
        assert not bound(code(notebook)), "a cell that was left out bound a name that is needed"
        assert "## What to remember" in text and "## References" in text


def test_the_solutions_edition_is_a_solved_notebook(source, editions):
    for stem, notebook in editions["solutions"].items():
        assert "source_hidden" not in json.dumps(notebook["cells"]) and "solution_" not in json.dumps(notebook["cells"])
        for one in exercise_cells(source[stem]["cells"]):
            place = next(
                i for i, cell in enumerate(notebook["cells"]) if cell["source"].startswith(f'check("{one.number}"')
            )
            checked, solved = notebook["cells"][place], notebook["cells"][place - 1]
            assert not checked["outputs"] and one.answer_name in names_of(solved["source"]).bound
            assert f"{one.answer_name} = ..." not in solved["source"]
        assert not bound(code(notebook))
        ran = [cell["outputs"] for cell in code(notebook) if cell["outputs"]]
        own = [cell for cell in code(source[stem]) if not re.search(r"(?:check|built)\(\"", cell["source"])]
        assert len(ran) == sum(bool(cell["outputs"]) for cell in own)


def test_the_lecture_edition_is_slides_without_exercises(source, editions):
    for stem, notebook in editions["lecture"].items():
        first, end = exercise_section(source[stem]["cells"])
        text = "\n".join(cell["source"] for cell in notebook["cells"])
        assert "## Exercises" not in text and "check(" not in "\n".join(cell["source"] for cell in code(notebook))
        figures = [cell["outputs"] for cell in code(source[stem]) if "image/png" in json.dumps(cell["outputs"])]
        assert [cell["outputs"] for cell in code(notebook) if "image/png" in json.dumps(cell["outputs"])] == figures
        before, after = (source[stem]["cells"][:first], source[stem]["cells"][end + 1 :])
        for cell in (*before, *after):  # nothing is lost but the exercises
            for block in blocks(cell["source"]) if cell["cell_type"] == "markdown" else []:
                assert block in text
        kinds = [cell["metadata"]["slideshow"]["slide_type"] for cell in notebook["cells"]]
        headings = [
            cell for cell in notebook["cells"] if re.match("##? ", cell["source"]) and cell["cell_type"] != "code"
        ]
        assert kinds[0] == "slide" and kinds.count("slide") == len(headings)
        assert {"slide", "notes", "-"} <= set(kinds) <= {"slide", "subslide", "notes", "skip", "-"}
        on_slide = 0  # one figure per slide
        for cell, kind in zip(notebook["cells"], kinds, strict=True):
            on_slide = 0 if kind in ("slide", "subslide") else on_slide
            on_slide += cell["cell_type"] == "code" and "image/png" in json.dumps(cell["outputs"]) and kind != "skip"
            assert on_slide <= 1 or sum("image/png" in json.dumps(one) for one in cell["outputs"]) > 1


def test_a_displayed_equation_and_a_program_stay_whole():
    text = "Words.\n\n$$\na = b\n\n+ c\n$$\nMore $$x$$ words.\n\n```python\na\n\nb\n```\n\n- one\n- two\n\n$$ y $$"
    parts = ["Words.", "$$\na = b\n\n+ c\n$$\nMore $$x$$ words.", "```python\na\n\nb\n```", "- one\n- two", "$$ y $$"]
    assert blocks(text) == parts


# nbgrader's schema 3: the rules of nbgrader/nbgraderformat/v3.json and v3.py (nbgrader 0.9.6) as facts
ALLOWED = {"schema_version", "grade", "locked", "solution", "task", "grade_id", "points", "checksum", "cell_type"}


def test_the_nbgrader_edition_follows_schema_3(source, editions):
    for stem, notebook in editions["nbgrader"].items():
        ids, points = [], 0
        for cell in notebook["cells"]:
            if "nbgrader" not in cell["metadata"]:
                continue
            meta = cell["metadata"]["nbgrader"]
            assert set(meta) <= ALLOWED and {"schema_version", "grade", "locked", "solution"} <= set(meta)
            assert meta["schema_version"] == 3 and not meta["task"] and cell["cell_type"] == "code"
            assert all(type(meta[key]) is bool for key in ("grade", "locked", "solution", "task"))
            assert re.fullmatch(r"[a-zA-Z0-9_\-]+", meta["grade_id"])
            assert ("points" in meta) == meta["grade"] == meta["locked"] != meta["solution"]
            marks = re.findall(r"^### (BEGIN|END) (SOLUTION|HIDDEN TESTS)$", cell["source"], re.MULTILINE)
            kind = "SOLUTION" if meta["solution"] else "HIDDEN TESTS"
            assert marks == [("BEGIN", kind), ("END", kind)]
            ast.parse(cell["source"])
            ids.append(meta["grade_id"])
            points += meta.get("points", 0)
        numbers = [one.number for one in exercise_cells(source[stem]["cells"])]
        expected = [f"{kind}-{number.replace('.', '-')}" for number in numbers for kind in ("answer", "check")]
        assert ids == expected and len(numbers) >= 3
        assert points == sum(exercises()[number].points for number in numbers)


def test_the_same_bytes_every_time_and_nothing_is_overwritten(tmp_path):
    first, second = (build("student", tmp_path / name, ["01", "05"]) for name in ("a", "b"))
    assert [path.name for path in first] == ["01_forward_noising.ipynb", "05_flow_matching.ipynb"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    before = first[1].read_bytes()
    assert build("student", tmp_path / "a", ["01", "05"]) == first  # the same content is no conflict
    work = first[0].read_text(encoding="utf-8").replace("my_t = ...", "my_t = 259")
    first[0].write_text(work, encoding="utf-8")
    first[1].unlink()
    with pytest.raises(ValueError, match=r"a has 01_forward_noising\.ipynb with other content.*--force"):
        build("student", tmp_path / "a", ["01", "05"])
    assert first[0].read_text(encoding="utf-8") == work and not first[1].exists()
    build("student", tmp_path / "a", ["01", "05"], force=True)
    assert first[0].read_bytes() == second[0].read_bytes() and first[1].read_bytes() == before


def course(*arguments):
    return CliRunner().invoke(app, ["course", *map(str, arguments)])


def test_the_command_builds_and_refuses(tmp_path):
    made = course("build", "--out", tmp_path / "s", "03")
    assert made.exit_code == 0 and "1 notebooks, edition student, from" in made.output, made.output
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["03_training_to_predict_noise.ipynb"]
    for arguments, words in (
        (["--edition", "teacher"], "unknown edition 'teacher'"),
        (["99"], "unknown notebook '99'"),
        (["--edition", "lecture", "03"], "other content"),
    ):
        refused = course("build", "--out", tmp_path / "s", *arguments)
        assert refused.exit_code == 2 and words in refused.stderr and "Traceback" not in refused.output


def test_the_minutes_are_said_once(source):
    """The first cell of a notebook has its minutes; the table of the reading order repeats them."""
    table = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    for stem, notebook in source.items():
        row = next(line for line in table.splitlines() if f"]({stem}.ipynb)" in line)
        assert int(row.split("|")[-2]) == reading_minutes(notebook), stem
    numbers = [
        number for notebook in source.values() for number in [one.number for one in exercise_cells(notebook["cells"])]
    ]
    assert numbers == list(exercises())
    assert all(3 <= one.minutes <= 60 for one in exercises().values())
    assert all(one.points in (one.difficulty, 2 * one.difficulty) for one in exercises().values())
    in_labs = {number: one for number, one in exercises().items() if number > "30"}
    assert all(1 <= one.difficulty <= (3 if number in in_labs else 1) for number, one in exercises().items())
    assert all(a <= b for a, b in pairwise(numbers))
