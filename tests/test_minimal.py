"""`examples/minimal.py`: the whole idea on one screen, with torch alone."""

import ast
import re
import subprocess
import sys
from pathlib import Path

MINIMAL = Path(__file__).parents[1] / "examples" / "minimal.py"
WARM_UP = Path(__file__).parents[1] / "notebooks" / "src" / "00_warm_up.py"


def test_it_needs_only_torch():
    tree = ast.parse(MINIMAL.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    assert names | {node.module for node in imports if isinstance(node, ast.ImportFrom)} == {"math", "torch"}


def test_it_trains_and_samples_both_classes():
    run = subprocess.run([sys.executable, MINIMAL], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    shares = {float(w): float(share) for w, share in re.findall(r"scale (\S+): (\S+)% of", run.stdout)}
    assert shares.keys() == {1.0, 2.0}
    assert shares[1.0] > 95
    assert shares[2.0] > 98


def test_notebook_00_shows_the_file_line_for_line():
    """Its cells with the tag "minimal" are the file, without its docstring and its last part, which prints shares."""
    program = MINIMAL.read_text(encoding="utf-8")
    shown = program.partition('"""\n\n')[2].partition('\n\nif __name__ == "__main__":')[0]
    cells = re.split(r"^# %%(.*)\n", WARM_UP.read_text(encoding="utf-8"), flags=re.MULTILINE)
    tagged = [cell for header, cell in zip(cells[1::2], cells[2::2], strict=True) if 'tags=["minimal"]' in header]
    assert len(tagged) == 5
    assert re.sub(r"\n{2,}", "\n\n", "\n\n".join(cell.strip() for cell in tagged)) == re.sub(
        r"\n{2,}", "\n\n", shown.strip()
    )
