"""What a public docstring says, held over the syntax tree: that it is there, what is raised, the shapes of tensors."""

import ast
import doctest
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "diffusion_explained"
FILES = sorted(PACKAGE.rglob("*.py"))
RAISES = re.compile(r"\bRaises?\b|\bErrors as\b|\w+Error\b")
# [B, C, H, W], [] for a single number; not the range [-1, 1] or [0, 1]
SHAPE = re.compile(r"\[(?!-1, 1\]|0, 1\]|\")[^\]]*\]|any shape|x_t, .*as for `ddim`")
# Python and torch call these, and what they do is said by the class; __call__ and forward are a class's own point.
OF_THE_CLASS = {"__init__", "__post_init__", "__call__", "forward"}


@dataclass
class Callable:
    """A public function, or a method with the class that it is of; `docs` are the docstrings that speak for it."""

    where: str
    node: ast.FunctionDef
    docs: list[str]

    @property
    def said(self) -> str:
        return "\n".join(self.docs)


def classes() -> dict[str, ast.ClassDef]:
    """The package's classes by name."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in FILES)
    return {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


CLASSES = classes()


def inherited(of: ast.ClassDef, method: str) -> Iterator[str]:
    """The docstrings of a method in the base classes that are the package's own."""
    for base in of.bases:
        parent = CLASSES.get(ast.unparse(base).split("[")[0].split(".")[-1])
        if parent is not None:
            for node in parent.body:
                if isinstance(node, ast.FunctionDef) and node.name == method:
                    yield ast.get_docstring(node) or ""
            yield from inherited(parent, method)


def is_stub(node: ast.FunctionDef) -> bool:
    """Whether there is nothing but `...`: a protocol's method, or an overload."""
    return ast.unparse(node.body[-1]) == "..." and len(node.body) == 1


def public(path: Path) -> Iterator[Callable]:
    """The public functions of a module, and the methods of its public classes."""
    where = path.relative_to(PACKAGE.parent).as_posix()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not is_stub(node):
            yield Callable(f"{where}:{node.lineno} {node.name}", node, [ast.get_docstring(node) or ""])
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            of_class = ast.get_docstring(node) or ""
            for method in node.body:
                if not isinstance(method, ast.FunctionDef) or is_stub(method):
                    continue
                if method.name.startswith("_") and method.name not in OF_THE_CLASS:
                    continue
                docs = [ast.get_docstring(method) or "", *inherited(node, method.name)]
                docs += [of_class] if method.name in OF_THE_CLASS else []
                yield Callable(f"{where}:{method.lineno} {node.name}.{method.name}", method, docs)


def own(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function, without those of the functions within it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from own(child)


def raises(node: ast.FunctionDef) -> bool:
    """Whether a function raises an error of its own: `raise ValueError(...)`, `raise unknown_name(...)`."""
    return any(
        isinstance(one, ast.Raise) and isinstance(one.exc, ast.Call) and "NotImplementedError" not in ast.unparse(one)
        for one in own(node)
    )


def takes_tensors(node: ast.FunctionDef) -> bool:
    """Whether a parameter is a tensor, or holds tensors; a callable that is given some says so where it is typed."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    types = [ast.unparse(one.annotation) for one in arguments if one.annotation]
    return any(re.search(r"\bTensor\b", kind) and not kind.startswith("Callable") for kind in types)


PUBLIC = [one for path in FILES for one in public(path)]


def test_the_package_is_looked_through():
    assert len(PUBLIC) > 500
    assert any(one.where.endswith("NetworkDenoiser.__call__") and raises(one.node) for one in PUBLIC)


def test_every_public_class_has_a_docstring():
    assert [name for name, node in CLASSES.items() if not name.startswith("_") and not ast.get_docstring(node)] == []


def test_every_public_callable_has_a_docstring():
    assert [one.where for one in PUBLIC if not one.said.strip()] == []


def test_what_raises_says_so():
    silent = [one.where for one in PUBLIC if raises(one.node) and not RAISES.search(one.said)]
    assert [where for where in silent if "/cli/" not in where] == []  # a command's docstring is its help


def test_tensors_have_shapes():
    assert [one.where for one in PUBLIC if takes_tensors(one.node) and not SHAPE.search(one.said)] == []


WITH_EXAMPLES = [path for path in FILES if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_examples_run_and_print_what_they_say(path: Path):
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0 and found.failed == 0
