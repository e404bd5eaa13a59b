"""Which cells of a notebook an answer depends on, from the names that the cells bind and read; no cell is run.

From the answer's name, upwards: the last cell that binds a needed name is needed, and so are the names that it reads.
A function's body reads its names when it is called, so for these the last cell that binds them counts, wherever it is.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

MAGIC = re.compile(r"^\s*[%!?]|\?\s*$")  # a line that only IPython reads
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Names:
    """What the code of a cell does with names.

    bound: given a new value; imported: those that an import binds; changed: altered in place (`x[0] = 1`,
    `x.append(1)`, `x += 1`); read: read when the cell runs, before the cell binds it; read_later: read in the body of a
    function.
    """

    bound: set[str] = field(default_factory=set)
    imported: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    read_later: set[str] = field(default_factory=set)


def plain_code(source: str) -> str:
    """The source of a cell without IPython's magic lines, whose places stay empty lines."""
    return "\n".join("" if MAGIC.search(line) else line for line in source.splitlines())


def names_of(source: str) -> Names:
    """The names of a cell's code. Raises SyntaxError for what is no Python."""
    found = Names()
    for node in ast.parse(source).body:
        _look(node, found)
    known = set(dir(builtins))
    found.read -= known
    found.read_later -= known
    return found


def needed_cells(cells: Sequence[Names | None], name: str, end: int) -> list[int]:
    """The indices of the cells before `end` that the value of a name depends on, in order.

    cells: the names of each cell; None for one that is not code or cannot be read.
    """
    modules = set[str]().union(*(names.imported for names in cells if names))  # `plt.show()` does not change plt
    late: set[str] = set()
    while True:
        needed, later, chosen = {name} | late, set(late), []
        for i in reversed(range(min(end, len(cells)))):
            names = cells[i]
            if names is None or not needed & (names.bound | (names.changed - modules)):
                continue
            chosen.append(i)
            needed = (needed - (names.bound - names.changed)) | names.read
            later |= names.read_later
        if later == late:
            return chosen[::-1]
        late = later


def _look(node: ast.AST, found: Names) -> None:
    """Add the names of a statement or an expression that runs at the top level of a cell, in the order of running."""
    if isinstance(node, SCOPES):
        inner = Names()
        body: list[ast.stmt] | list[ast.expr] = [node.body] if isinstance(node, ast.Lambda) else node.body
        for part in body:
            _look(part, inner)
        arguments = node.args
        given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        local = {one.arg for one in given if one} | inner.bound
        found.read_later |= (inner.read | inner.read_later | inner.changed) - local
        for default in (*arguments.defaults, *filter(None, arguments.kw_defaults)):
            _look(default, found)
        if not isinstance(node, ast.Lambda):
            for decorator in node.decorator_list:
                _look(decorator, found)
            found.bound.add(node.name)
    elif isinstance(node, ast.ClassDef):
        inner = Names()
        for above in (*node.bases, *(word.value for word in node.keywords), *node.decorator_list):
            _look(above, found)
        for statement in node.body:
            _look(statement, inner)
        found.read |= inner.read - found.bound
        found.read_later |= inner.read_later
        found.bound.add(node.name)
    elif isinstance(node, COMPREHENSIONS):
        inner = Names()
        _in_order(node, inner)
        found.read |= inner.read - found.bound
        found.read_later |= inner.read_later - inner.bound
    elif isinstance(node, ast.Import | ast.ImportFrom):
        names = {(one.asname or one.name).split(".")[0] for one in node.names}
        found.bound |= names
        found.imported |= names
    elif isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Load) and node.id not in found.bound:
            found.read.add(node.id)
        elif not isinstance(node.ctx, ast.Load):
            found.bound.add(node.id)
    else:
        if isinstance(node, ast.AugAssign):
            found.changed |= _owner(node.target)
            found.read |= _owner(node.target) - found.bound
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            found.changed |= _owner(node)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            found.changed |= _owner(node.value.func) if isinstance(node.value.func, ast.Attribute) else set()
        if isinstance(node, ast.ExceptHandler) and node.name:
            found.bound.add(node.name)
        _in_order(node, found)


def _in_order(node: ast.AST, found: Names) -> None:
    """Look at the parts of a node in the order of running: a value before its target, a loop before its body."""
    order = {"generators": 0, "iter": 1, "value": 2}
    parts = sorted(ast.iter_fields(node), key=lambda part: order.get(part[0], 3))
    for _, part in parts:
        for child in part if isinstance(part, list) else [part]:
            if isinstance(child, ast.AST):
                _look(child, found)


def _owner(node: ast.AST) -> set[str]:
    """The name at the beginning of `name.field[0]`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()
