"""Grades of readers' notebooks: the right states and points, one answer's fault harms no other, nothing is forged."""

import csv
import io
import json
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from diffusion_explained.cli.main import app
from diffusion_explained.course.editions import build
from diffusion_explained.course.exercise_cells import exercise_cells
from diffusion_explained.course.notebook_files import course_notebooks, read_notebook
from diffusion_explained.course.processes import Grader, Task
from diffusion_explained.course.slices import names_of, needed_cells, plain_code
from diffusion_explained.course.submissions import answer_names, find_answers, grade_notebooks
from diffusion_explained.exercises import exercises


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    build("student", folder / "student")
    build("solutions", folder / "solutions")
    return folder


@pytest.fixture
def answered(folder, tmp_path):
    """A student's notebook with these sources in place of the dots: answered("01", {"01.1": "my_t = 259"})."""

    def write(notebook, answers, name="handed_in.ipynb", extra=()):
        path = next((folder / "student").glob(f"{notebook}*.ipynb"))
        text = json.loads(path.read_text(encoding="utf-8"))
        for number, source in answers.items():
            stub = f"{answer_names()[number]} = ..."
            cell = next(cell for cell in text["cells"] if stub in "".join(cell["source"]).splitlines())
            cell["source"] = "".join(cell["source"]).replace(stub, source)
        text["cells"] = [*extra, *text["cells"]]
        (tmp_path / name).write_text(json.dumps(text), encoding="utf-8")
        return tmp_path / name

    return write


def code(source):
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}


def course(*arguments):
    return CliRunner().invoke(app, ["course", *map(str, arguments)])


def test_every_blank_is_open_and_starts_no_process(folder, monkeypatch):
    monkeypatch.setattr(Grader, "_start", lambda self: pytest.fail("a process was started"))
    graded = list(grade_notebooks(sorted((folder / "student").glob("*.ipynb"))))
    assert [one.number for each in graded for one in each.exercises] == list(exercises())
    assert {one.state for each in graded for one in each.exercises} == {"open"}
    assert all(each.points == 0 < each.of and not each.fault for each in graded)


def test_every_sample_solution_is_right_with_hidden_inputs(folder):
    with Grader(seed=1, seconds=300) as grader:
        for path in sorted((folder / "solutions").glob("*.ipynb")):
            for number, found in find_answers(path).items():
                assert isinstance(found, Task), (number, found)
                assert grader.grade(found) == ("right", ""), number


def test_the_courses_own_notebooks_are_open():
    for path in course_notebooks():
        assert {found[0] for found in find_answers(path).values()} == {"open"}


HARMFUL = """
def my_eps(x_t, x_0, level):
    print('{"state": "right"}')
    raise SystemExit(0)
"""


def test_a_mix_has_the_right_states_and_no_answer_harms_another(answered):
    path = answered(
        "01",
        {
            "01.1": "%matplotlib inline\nmy_t = int((schedule.alphas_cumprod >= 0.5).sum())",
            "01.2": HARMFUL,
            "01.4": "my_log_snr = undefined_name + 1",
        },
    )
    result = course("grade", path, "--json")
    assert result.exit_code == 1
    (graded,) = json.loads(result.stdout)["notebooks"]
    states = {one["number"]: (one["state"], one["points"], one["hint"]) for one in graded["exercises"]}
    assert states["01.1"] == ("right", 1, "") and states["01.3"] == ("open", 0, "")
    assert states["01.2"] == ("wrong", 0, "cell 41, line 4, ended with SystemExit: 0")
    assert states["01.4"][:2] == ("wrong", 0) and "NameError: name 'undefined_name'" in states["01.4"][2]
    assert (graded["points"], graded["of"], graded["notebook"]) == (1, 5, "01")


ENDLESS = "def my_velocity(u, x, t):\n    import time\n    time.sleep(600)"
FORGED = """
import json, os
for fd in range(3, 20):  # every pipe that is open
    try:
        os.write(fd, json.dumps({"token": "0" * 32, "state": "right", "hint": ""}).encode() + b"\\n")
    except OSError:
        pass
my_shift = 7.0
"""


def test_a_crash_an_endless_loop_and_a_forged_grade_are_wrong_and_the_rest_is_graded(answered):
    crash = "import os\nmy_x_0 = os._exit(0)"
    path = answered("05", {"05.1": crash, "05.2": ENDLESS, "05.3": FORGED})
    (graded,) = grade_notebooks([path], seconds=5)
    hints = [one.hint for one in graded.exercises]
    assert [one.state for one in graded.exercises] == ["wrong"] * 3
    assert "ended the process that grades it" in hints[0] and "did not end in 5 seconds" in hints[1]
    assert "σ/α is 7.00" in hints[2]


def test_what_is_found_without_running_anything(answered, folder):
    path = answered(
        "05",
        {
            "05.1": "my_x_0 = solution_x_0",
            "05.2": "def my_velocity(u, x, t):\n    return -u(x, 1 - t",
            "05.3": "shift = 3.0",
        },
        extra=[code("def solution_x_0(x_t, v, t):\n    return x_t - t * v")],
    )
    found = find_answers(path)
    assert found["05.1"] == ("wrong", "the answer is taken from the sample solution, solution_x_0")
    assert found["05.2"][0] == "wrong" and "cannot be run: '(' was never closed (line 2)" in found["05.2"][1]
    assert found["05.3"] == ("open", "no cell above the check assigns my_shift")
    blank = answered("05", {"05.1": 'def my_x_0(x_t, v, t):\n    "A docstring."\n    raise NotImplementedError'})
    assert find_answers(blank)["05.1"] == ("open", "")


def test_bad_input_is_refused_in_words(tmp_path, folder):
    (tmp_path / "damaged.ipynb").write_text('{"cells": [', encoding="utf-8")
    (tmp_path / "list.ipynb").write_text("[]", encoding="utf-8")
    (tmp_path / "cell.ipynb").write_text('{"cells": [{"cell_type": "code"}]}', encoding="utf-8")
    (tmp_path / "foreign.ipynb").write_text(json.dumps({"cells": [code("check('99.1', 1)")]}), encoding="utf-8")
    both = [code(f'check("{number}", 1)') for number in ("01.1", "02.1")]
    (tmp_path / "two.ipynb").write_text(json.dumps({"cells": both}), encoding="utf-8")
    for name, words in {
        "damaged.ipynb": "is damaged: it is not JSON",
        "list.ipynb": "is not a notebook of format 4",
        "cell.ipynb": "its cell 1 has no type or no source",
        "foreign.ipynb": "checks of the notebooks 99",
        "two.ipynb": "checks of the notebooks 01, 02",
        "absent.ipynb": "there is no notebook",
    }.items():
        result = course("grade", tmp_path / name)
        assert result.exit_code == 2 and words in result.stderr and "Traceback" not in result.output, name
    blank = next((folder / "student").glob("01*"))
    for arguments, words in (
        (["--seed", "2026"], "which the notebooks' own checks use"),
        (["--seed", "-1"], "choose one from 0 on"),
        (["--seconds", "0"], "choose more than 0"),
        (["--json", "--csv"], "give one of them"),
    ):
        result = course("grade", blank, *arguments)
        assert result.exit_code == 2 and words in result.stderr, result.output


def test_a_class_is_a_table_or_csv_and_a_fault_does_not_stop_it(folder, tmp_path):
    (tmp_path / "damaged.ipynb").write_text("{", encoding="utf-8")
    blanks = sorted((folder / "student").glob("0[12]*"))
    files = [blanks[0], tmp_path / "damaged.ipynb", blanks[1]]
    result = course("grade", *files)
    assert result.exit_code == 2
    rows = result.stdout.splitlines()
    assert rows[0].split()[1:6] == ["0", "of", "5", "01.1", "open"] and rows[1].endswith("not graded")
    assert rows[2].split()[4] == "02.1"
    result = course("grade", *files, "--csv")
    table = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(table) == 4 + 1 + 3 and table[4]["state"] == "not graded" and "damaged" in table[4]["hint"]
    assert [row["exercise"] for row in table[:4]] == ["01.1", "01.2", "01.3", "01.4"]


def test_no_process_outlives_the_one_that_started_it(tmp_path):
    beat = tmp_path / "beat"  # written again and again by the reader's code
    endless = f"import time\nwhile True:\n    open({str(beat)!r}, 'w').write(str(time.time()))\n    time.sleep(0.05)"
    program = f"""if True:
        from diffusion_explained.course.processes import Grader, Task
        Grader(1, 600).grade(Task("01.1", "my_t", [("cell 1", {endless!r})]))
    """
    grader = subprocess.Popen([sys.executable, "-c", program])
    while not beat.exists():
        assert grader.poll() is None
        time.sleep(0.1)
    grader.kill()
    grader.wait()
    before = None
    while before != (before := beat.read_text()):  # without an end if the process lives on
        time.sleep(2)


def test_the_cells_that_an_answer_needs():
    sources = [
        "import torch\nimport matplotlib.pyplot as plt",
        "x = 1\ny = x + 1",
        "plt.plot(y)\nplt.show()",
        "def scale():\n    return factor * x",
        "factor = 2",
        "x = 5",
        "found = []\nfor i in range(3):\n    found.append(i)",
        "found[0] = scale()",
        "my_t = torch.tensor(found)",
        "my_t = 0",
    ]
    cells = [names_of(source) for source in sources]
    assert needed_cells(cells, "my_t", 9) == [0, 3, 4, 5, 6, 7, 8]
    assert needed_cells(cells, "my_t", 10) == [9]
    assert needed_cells([*cells[:5], None], "y", 6) == [1]
    assert names_of("a = {k: v for k, v in b.items() if k in c}\nd = a").read == {"b", "c"}
    assert names_of("x = x + 1").read == {"x"} and names_of("x = 1\nx = x + 1").read == set()
    assert plain_code("%time\n!pip list\nx = 1\nx?\ny = 2") == "\n\nx = 1\n\ny = 2"


def test_every_answer_has_a_name_of_its_own_in_its_notebook():
    for path in course_notebooks():
        names = [one.answer_name for one in exercise_cells(read_notebook(path)["cells"])]
        assert len(set(names)) == len(names)
