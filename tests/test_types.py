"""What the types say: of the names that are imported late, and of what a network must be. `make lint` runs mypy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAZY = ("diffusion_explained", "diffusion_explained.stable_diffusion")


def imported_for_type_checkers(module: str) -> set[str]:
    """The names that the `if TYPE_CHECKING:` of a package's __init__.py binds."""
    tree = ast.parse((ROOT / module.replace(".", "/") / "__init__.py").read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {
        name.asname or name.name
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }


@pytest.mark.parametrize("module", LAZY)
def test_late_names_are_seen_by_dir_and_by_editors_before_they_are_imported(module: str):
    code = f"import sys, {module} as m; print(*m.__all__); print(*dir(m)); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, listed, loaded = (set(line.split()) for line in run.stdout.splitlines())
    assert names <= listed
    assert imported_for_type_checkers(module) == names
    assert "torch" not in loaded  # dir() imports nothing


def test_every_package_with_late_names_is_tested_here():
    found = [path for path in (ROOT / "diffusion_explained").rglob("*.py") if "\ndef __getattr__" in path.read_text()]
    assert {".".join(path.parent.relative_to(ROOT).parts) for path in found} == set(LAZY)


def check(tmp_path: Path, program: str) -> str:
    """What mypy says of a program that uses the package as an installed, typed one."""
    (tmp_path / "program.py").write_text(program)
    mypy = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(tmp_path / "program.py")]
    return subprocess.run(mypy, cwd=ROOT, capture_output=True, text=True, check=False).stdout


NETWORKS = """
from torch import Tensor, nn

from diffusion_explained import DDPMSchedule, NetworkDenoiser


class Ours(nn.Module):
    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        return x


def zero(x: Tensor, t: Tensor, cond: object) -> Tensor:
    return 0 * x


def wrong(x: Tensor) -> Tensor:
    return x


NetworkDenoiser(Ours(), DDPMSchedule.linear(), "eps")
NetworkDenoiser(zero, DDPMSchedule.linear(), "eps")
NetworkDenoiser(wrong, DDPMSchedule.linear(), "eps")
"""


def test_a_users_type_checker_knows_what_a_network_must_be(tmp_path: Path):
    errors = [line for line in check(tmp_path, NETWORKS).splitlines() if "program.py:" in line and "error:" in line]
    assert len(errors) == 1 and 'expected "Network"' in errors[0], errors
