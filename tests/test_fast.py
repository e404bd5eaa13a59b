"""What `make check` runs is chosen by path, and the notebooks that it runs are those that were changed."""

import importlib.util
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("fast", ROOT / "tests" / "fast.py")
fast = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fast)


def test_fast_are_the_theory_and_what_only_reads_files():
    chosen = fast.fast_tests()
    assert {"tests/test_schedules.py", "tests/test_samplers.py", "tests/test_docstrings.py"} <= set(chosen)
    assert not {"tests/test_training.py", "tests/test_stable_diffusion.py", "tests/test_packaging.py"} & set(chosen)
    assert all((ROOT / path).is_file() for path in chosen)


def test_the_notebooks_that_were_changed(tmp_path: Path):
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    source = tmp_path / "notebooks" / "src"
    source.mkdir(parents=True)
    for name in ("01_one", "02_two", "03_three"):
        (source / f"{name}.py").write_text("x = 1\n")
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text("{}\n")
    git("init", "--initial-branch", "main")
    git("add", ".")
    git("commit", "--message", "first")
    assert fast.changed_notebooks(tmp_path) == []
    git("checkout", "-b", "branch")
    (source / "01_one.py").write_text("x = 2\n")
    git("commit", "--all", "--message", "one")
    (tmp_path / "notebooks" / "03_three.ipynb").write_text("{ }\n")  # not committed
    assert fast.changed_notebooks(tmp_path) == ["notebooks/01_one.ipynb", "notebooks/03_three.ipynb"]
