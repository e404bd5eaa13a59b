"""The course's notebooks as files: where they come from, how one is read, and the bytes that one is written as.

A notebook is the dictionary that its JSON describes (nbformat 4); here the source of every cell is one string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusion_explained.files import read_bytes, shipped
from diffusion_explained.messages import unknown_name

Cell = dict[str, Any]
Notebook = dict[str, Any]
MOST_BYTES = 50_000_000  # of a notebook that is read
READING = re.compile(r"About\s+(\d+)\s+minutes\s+to\s+read")


def course_notebooks(names: Sequence[str] = ()) -> list[Path]:
    """The course's notebooks whose names begin with one of `names`, all of them for none, in reading order.

    They are the repository's, or in an installed package those that it carries. Raises ValueError for a name that is
    the beginning of no notebook's name.
    """
    paths = sorted(shipped("notebooks").glob("[0-9]*.ipynb"))
    for name in names:
        if not name or not any(path.stem.startswith(name) for path in paths):
            raise unknown_name("notebook", name, [path.stem for path in paths])
    return [path for path in paths if not names or path.stem.startswith(tuple(names))]


def read_notebook(path: Path) -> Notebook:
    """Read a notebook. Raises OSError, naming the file, for one that cannot be read, and ValueError for a damaged one.

    Damaged is what is no JSON, has no list of cells, or has a cell without a type and a source.
    """
    content = read_bytes(path, "notebook", MOST_BYTES)
    try:
        notebook = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: it is not JSON ({error}). Save it again from JupyterLab.") from error
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise ValueError(f"{path} is not a notebook of format 4: it has no list of cells. Give a .ipynb file.")
    for n, cell in enumerate(notebook["cells"], start=1):
        source = cell.get("source") if isinstance(cell, dict) else None
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = cell["source"] = "".join(source)
        if not isinstance(source, str) or cell.get("cell_type") not in ("code", "markdown", "raw"):
            raise ValueError(f"{path} is damaged: its cell {n} has no type or no source. Save it again.")
        if not isinstance(cell.get("metadata", {}), dict):
            raise ValueError(f"{path} is damaged: the metadata of its cell {n} is not a table.")
    return notebook


def notebook_bytes(notebook: Notebook) -> bytes:
    """A notebook as the bytes of its file, as nbformat writes it; the same notebook gives the same bytes."""
    cells = [{**cell, "source": cell["source"].splitlines(keepends=True)} for cell in notebook["cells"]]
    text = json.dumps({**notebook, "cells": cells}, indent=1, ensure_ascii=False, sort_keys=True)
    return f"{text}\n".encode()


def reading_minutes(notebook: Notebook) -> int:
    """How long a reader needs without the exercises, in minutes, as the first cell says.

    Raises ValueError for a notebook that does not say it.
    """
    found = READING.search(notebook["cells"][0]["source"])
    if not found:
        raise ValueError('the first cell does not say "About N minutes to read"')
    return int(found[1])
