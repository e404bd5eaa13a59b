"""What `make check` runs: the fast tests, and the notebooks that were changed.

    python tests/fast.py               # test files, chosen by their path
    python tests/fast.py --notebooks   # notebooks whose source differs from the one on the main branch

Fast are the tests of the rooms of the theory (`ORDER` of assets/structure.py), tests/test_<room>.py, and those that
only read files: they import nothing but pytest and the standard library, and start no process.
"""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STOREY = "theory, in reading order"
MAIN = ("origin/main", "main")


def order() -> dict[str, tuple[str, ...]]:
    """The rooms of each storey, as assets/structure.py has them."""
    for node in ast.parse((ROOT / "assets" / "structure.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ORDER":
            return ast.literal_eval(node.value)
    raise ValueError("assets/structure.py has no ORDER.")


def only_reads(path: Path) -> bool:
    """Whether a test file imports nothing but pytest and the standard library, and starts no process."""
    tops = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            tops |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            tops.add((node.module or "").split(".")[0])
    return tops <= {"pytest", *sys.stdlib_module_names} - {"subprocess"}


def fast_tests() -> list[str]:
    """The test files to run, relative to the repository."""
    rooms = order()[STOREY]
    files = sorted((ROOT / "tests").glob("test_*.py"))
    return [f"tests/{path.name}" for path in files if path.stem.removeprefix("test_") in rooms or only_reads(path)]


def git(*arguments: str, root: Path) -> list[str]:
    """What git answers, line by line; nothing where there is no repository, or no such commit."""
    run = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return run.stdout.splitlines() if run.returncode == 0 else []


def changed_notebooks(root: Path = ROOT) -> list[str]:
    """The notebooks that differ, they or their source, from the commit at which the branch left the main one."""
    bases = [base for name in MAIN for base in git("merge-base", "HEAD", name, root=root)]
    changed = git("diff", "--name-only", bases[0] if bases else "HEAD", "--", "notebooks", root=root)
    changed += git("ls-files", "--others", "--exclude-standard", "--", "notebooks", root=root)
    names = {Path(path).stem for path in changed if Path(path).suffix in (".py", ".ipynb")}
    return [f"notebooks/{name}.ipynb" for name in sorted(names) if (root / "notebooks" / f"{name}.ipynb").is_file()]


if __name__ == "__main__":
    print(*(changed_notebooks() if "--notebooks" in sys.argv[1:] else fast_tests()))
