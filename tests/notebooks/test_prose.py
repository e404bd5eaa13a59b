"""The notebooks' prose: each displayed equation names its code and its test; changed prose is copied without a run."""

import importlib
import re

import nbformat
import pytest
from test_notebooks import FOLDER, NOTEBOOKS, execute

PROVED = re.compile(r"<small>In code: (`[\w.]+`(?:, `[\w.]+`)*)\. Test:\n`(tests/[\w/]+\.py)::([\w:]+)`\.</small>")


def displayed(text):
    """What follows each displayed equation of a Markdown text."""
    return re.split(r"^\$\$.*?\$\$\n*", text, flags=re.MULTILINE | re.DOTALL)[1:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_displayed_equation_names_its_code_and_its_test(path):
    for after in (
        after
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "markdown"
        for after in displayed(cell.source)
    ):
        proved = PROVED.match(after)
        assert proved, f"after an equation stands its code and its test, not: {after[:80]}"
        tests = (FOLDER.parent / proved[2]).read_text(encoding="utf-8")
        for name in re.findall(r"[\w.]+", proved[1]):
            assert found(name) is not None, f"there is no diffusion_explained.{name}"
            assert set(name.split(".")[1:]) & set(re.findall(r"\w+", tests)), f"{proved[2]} does not test {name}"
        for part in proved[3].split("::"):
            assert re.search(rf"^ *(?:def|class) {part}\b", tests, re.MULTILINE), f"{proved[2]} has no {part}"


def found(name):
    """What the package has under a dotted name, such as samplers.ddim."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(["diffusion_explained", *parts[:k]]))
        except ModuleNotFoundError:
            continue
        for part in parts[k:]:
            thing = getattr(thing, part, None)
        return thing
    return None


def test_prose_is_copied_without_a_run_and_only_beside_the_same_code(tmp_path, monkeypatch, capsys):
    (tmp_path / "src").mkdir()
    twin, monkey = tmp_path / "src" / "01_a.py", monkeypatch
    monkey.setattr(execute, "FOLDER", tmp_path)
    twin.write_text("# %% [markdown]\n# New.\n\n# %%\nprint(1)\n", encoding="utf-8")
    old = execute.notebook_of(twin)
    old.cells[0].source = "Old."
    old.cells[1].outputs, old.cells[1].execution_count = [nbformat.v4.new_output("stream", text="1\n")], 1
    nbformat.write(old, tmp_path / "01_a.ipynb")
    assert execute.main(["--prose", "01"]) == 0
    new = nbformat.read(tmp_path / "01_a.ipynb", as_version=4)
    assert new.cells[0].source == "New." and new.cells[1] == old.cells[1]
    twin.write_text("# %% [markdown]\n# Newer.\n\n# %%\nprint(2)\n", encoding="utf-8")
    assert execute.main(["--prose", "01"]) == 1 and "execute it, without --prose" in capsys.readouterr().err
    assert nbformat.read(tmp_path / "01_a.ipynb", as_version=4) == new
