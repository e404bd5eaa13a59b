"""The committed notebooks: executed whole from their twins, small, complete, and safe to compare strictly.

That they run, and print the same again, is what `pytest --nbval notebooks` tests; nbval never compares pictures.
"""

import base64
import html
import importlib.util
import io
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MACHINE_PATHS = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|usr|opt|mnt)/|[A-Z]:\\Users")

spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
execute = importlib.util.module_from_spec(spec)
spec.loader.exec_module(execute)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@cache
def read(path):
    """The notebook, read and validated once for all tests, which do not change it."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.fixture
def notebook(path):
    return read(path)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_lab(path):
    return path.stem[3:].startswith("lab_")


def prose(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_every_twin_has_its_notebook_and_the_other_way_round():
    twins = {path.stem for path in (FOLDER / "src").glob("[0-9]*.py")}
    assert {path.stem for path in NOTEBOOKS} == twins and len(twins) >= 3


def test_in_step_with_its_twin(path, notebook):
    """Edit notebooks/src, then `make notebooks`: it writes and executes in one go, so outputs are never stale."""
    expected = execute.notebook_of(FOLDER / "src" / f"{path.stem}.py")
    assert [(c.cell_type, c.source, c.id) for c in notebook.cells] == [
        (c.cell_type, c.source, c.id) for c in expected.cells
    ]
    assert [c.metadata for c in notebook.cells] == [c.metadata for c in expected.cells]
    assert notebook.metadata == expected.metadata  # the kernel's name, and no widget state


def test_executed_once_from_top_to_bottom(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


def test_no_errors_no_warnings_no_machine_paths(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", f"a notebook prints nothing to stderr, but: {output.text}"
            words = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
            assert not MACHINE_PATHS.search(words), words


def test_nothing_that_strict_nbval_cannot_compare(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            plain = str(output.get("data", {}).get("text/plain", ""))
            assert " at 0x" not in plain, f"end the cell in plt.show() or a value: {plain}"
        for forbidden in ("interact(", "interactive_output", "Output(", "clear_output", "%%time"):
            assert forbidden not in cell.source


def test_figures_are_kept_in_few_colours_and_small_ones_as_they_are():
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    large, flat = (png_of(pixels) for pixels in (noise, np.zeros((2, 2, 3), np.uint8)))
    few = execute.in_few_colours(large)
    with Image.open(io.BytesIO(base64.b64decode(few))) as image:
        kept = np.asarray(image.convert("RGB")).astype(int)
    assert len(few) < len(large) / 2 and abs(kept - noise).mean() < 20
    assert len(execute.in_few_colours(flat)) <= len(flat)


def png_of(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_under_one_megabyte(path):
    assert path.stat().st_size < 1_000_000


def test_learning_goals_exercises_and_references(notebook):
    first = notebook.cells[0].source
    assert first.startswith("# ") and "**When you have worked through it, you can**" in first
    assert len(re.findall(r"^- ", first, re.MULTILINE)) >= 3
    assert len(re.findall(r"^## ", prose(notebook), re.MULTILINE)) >= 4
    references = prose(notebook).split("## References")
    assert len(references) == 2 and len(re.findall(r"\]\(https?://", references[1])) >= 2


def test_opens_with_few_imports(notebook):
    """At most eight import lines in all; those of an exercise's solution are not shown, and do not count."""
    shown = [cell for cell in code_cells(notebook) if "solution" not in cell.metadata.get("tags", ())]
    lines = [line for cell in shown for line in cell.source.splitlines() if line.startswith(("import ", "from "))]
    assert len(lines) <= 8, "\n".join(["several names on one line from diffusion_explained, not", *lines])


def test_every_exercise_is_open_solved_and_checked(path, notebook):
    """**Exercise n**, then the reader's cell with its dots, a folded solution, and a check that ran."""
    numbers = [int(n) for n in re.findall(r"^\*\*Exercise (\d+)", prose(notebook), re.MULTILINE)]
    least, most = (4, 5) if is_lab(path) else (2, 4)
    assert numbers == list(range(1, len(numbers) + 1)) and least <= len(numbers) <= most
    cells = notebook.cells
    for i, cell in enumerate(cells):
        titled = re.search(r"^\*\*Exercise (\d+)", cell.source, re.MULTILINE)
        if cell.cell_type != "markdown" or titled is None:
            continue
        answer, solution, checked = cells[i + 1 : i + 4]
        assert answer.source.strip().endswith("= ...")
        assert solution.metadata["jupyter"]["source_hidden"] and "solution" in solution.metadata["tags"]
        first = solution.source.splitlines()[0]  # JupyterLab shows the first line of a folded cell
        assert first == "# Sample solution: open this cell when you have tried."
        assert re.fullmatch(rf'check\("{path.stem[:2]}\.{titled[1]}", my_\w+, solution_\w+\)', checked.source)
        assert checked.outputs[0].text.startswith("Open: ")


def test_every_figure_stands_beside_an_assertion(notebook):
    for cell in code_cells(notebook):
        if "plt.show()" in cell.source:
            assert "assert" in cell.source, (
                f"nbval does not compare pictures, so assert what this shows:\n{cell.source}"
            )


GENERIC = ("Images", "Filmstrip", "Latents", "Tables", "Paths", "Cases", "Attention", "Feature shapes", "Density")


def test_a_lab_is_committed_small_and_names_its_open_questions(path, notebook):
    if is_lab(path):
        assert re.search(
            r"^FULL = False  # True: .* minutes? on two cores", code_cells(notebook)[0].source, re.MULTILINE
        )
        questions = prose(notebook).split("## Open questions")[1].split("## What to remember")[0]
        assert len(re.findall(r"^\d\. \*★+ · \d+ minutes\.\*", questions, re.MULTILINE)) >= 2
        assert "(../docs/course/answers.md#labs)" in questions


def test_every_figure_is_told_in_words(path, notebook):
    """Each image has an alt text of its own, which says what it shows and in numbers; figures repeat it as text."""
    told = []
    for cell in code_cells(notebook):
        for k, output in enumerate(cell.outputs):
            if "image/png" not in output.get("data", {}):
                continue
            words = output.metadata.get("image/png", {}).get("alt", "")
            title, _, shown = words.partition(": ")
            assert len(title) > 3 and title not in GENERIC and re.search(r"\d", shown), f"{words!r} of\n{cell.source}"
            told.append(words)
            if "application/vnd.jupyter.widget-view+json" not in output.data:  # a scrubber has texts of its own
                assert cell.outputs[k + 1].data["text/plain"] == f"The figure in words: {words}"
    assert len(told) == len(set(told)) >= (2 if is_lab(path) else 4)


def test_scrubbers_are_seen_where_no_kernel_runs(path, notebook):
    from nbconvert import HTMLExporter

    def widgets_of(cells):
        return [one for one in pictures_of(cells) if one.data["text/plain"].startswith("Scrubber(")]

    widgets = widgets_of(notebook.cells)
    shown = nbformat.from_dict({**notebook, "cells": [cell for cell in notebook.cells if widgets_of([cell])]})
    page = html.unescape(HTMLExporter(template_name="basic").from_notebook_node(shown)[0]) if widgets else ""
    for output in widgets:
        words = re.escape(output.metadata["image/png"]["alt"])  # which may hold either kind of quotation marks
        assert re.search(f"alt=[\"']{words}[\"']", page)
    expected = {**dict.fromkeys(("01", "02", "03", "04", "05", "06", "12", "14", "15", "17", "18", "19"), 1), "20": 3}
    assert len(widgets) == expected.get(path.stem[:2], 0)


def test_figures_do_not_depend_on_the_readers_environment(tmp_path, monkeypatch):
    """MPLBACKEND, a matplotlibrc, an ASCII locale and another working folder: the committed pictures all the same."""
    (tmp_path / "matplotlibrc").write_text("figure.dpi: 30\nsavefig.dpi: 20\nlines.linewidth: 9\nfont.size: 30\n")
    environment = {"MPLBACKEND": "Agg", "MATPLOTLIBRC": str(tmp_path), "LC_ALL": "C", "PYTHONUTF8": "0",
                   "PYTHONCOERCECLOCALE": "0"}  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(execute, "FOLDER", tmp_path)
    committed = nbformat.read(FOLDER / "02_schedules.ipynb", as_version=4)
    shows = [k for k, cell in enumerate(committed.cells) if "plt.show()" in cell.source]
    again = nbformat.from_dict({**committed, "cells": committed.cells[: shows[2] + 1]})
    as_committed = pictures_of(again.cells)
    execute.execute(again)
    assert len(as_committed) >= 3
    for ours, theirs in zip(as_committed, pictures_of(again.cells), strict=True):
        assert ours.metadata == theirs.metadata and abs(pixels_of(ours) - pixels_of(theirs)).mean() < 1


def pictures_of(cells):
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [output for output in outputs if "image/png" in output.get("data", {})]


def pixels_of(output):
    with Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))) as image:
        return np.asarray(image.convert("L")).astype(int)


def test_the_reading_order_names_every_notebook():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        assert f"({path.name})" in readme


def test_a_failing_notebook_leaves_the_old_one(tmp_path, monkeypatch, capsys):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "01_bad.py").write_text("# %%\nprint('fine')\n\n# %%\n1 / 0\n", encoding="utf-8")
    (tmp_path / "01_bad.ipynb").write_text("the old one", encoding="utf-8")
    monkeypatch.setattr(execute, "FOLDER", tmp_path)
    assert execute.main([]) == 1
    assert (tmp_path / "01_bad.ipynb").read_text(encoding="utf-8") == "the old one"
    assert "ZeroDivisionError" in capsys.readouterr().err and len(list(tmp_path.iterdir())) == 2


def test_a_cell_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "FOLDER", tmp_path)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import time; time.sleep(60)")])
    with pytest.raises(execute.CellError, match="did not end in 2 s"):
        execute.execute(notebook, seconds_per_cell=2)


def test_executing_keeps_outputs_in_order_and_no_widget_state(tmp_path, monkeypatch):
    cells = ["print('one')\nprint('two')", "from ipywidgets import IntSlider\nIntSlider(3)"]
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "01_good.py").write_text("".join(f"# %%\n{c}\n\n" for c in cells), encoding="utf-8")
    monkeypatch.setattr(execute, "FOLDER", tmp_path)
    assert execute.main(["01"]) == 0
    notebook = nbformat.read(tmp_path / "01_good.ipynb", as_version=4)
    first, second = notebook.cells
    assert [output.text for output in first.outputs] == ["one\ntwo\n"]
    assert "IntSlider" in second.outputs[0].data["text/plain"] and "widgets" not in notebook.metadata
    assert [first.execution_count, second.execution_count] == [1, 2]


def test_an_unknown_name_is_refused_with_those_that_exist():
    run = subprocess.run(
        [sys.executable, FOLDER / "execute.py", "99_nothing"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1 and "01_forward_noising" in run.stderr and "Traceback" not in run.stderr


def test_a_twin_gives_the_same_notebook_every_time(path):
    twin = FOLDER / "src" / f"{path.stem}.py"
    assert json.dumps(execute.notebook_of(twin)) == json.dumps(execute.notebook_of(twin))
