"""Slide types for `jupyter nbconvert --to slides`: what a lecture shows, what the lecturer says, what is skipped.

A heading begins a slide. Shown are headings, displayed equations, tables, lists, quotations, programs and paragraphs
with words in bold, which carry the notebook's ideas; other prose goes to the speaker's notes, in the same order, so
that the notebook reads as before. Figures and printed numbers are shown, one figure per slide; cells without output are
skipped, and the code of a longer cell is folded and has the tag for which nbconvert removes the input.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from diffusion_explained.course.notebook_files import Cell

SHOWN = re.compile(r"^(?:#|\$\$|\||- |\d+\. |>|```|!\[)|\*\*[^*]+\*\*")
MOST_LINES = 8  # of code on a slide
REMOVED_INPUT = "remove-input"  # a tag: nbconvert --TagRemovePreprocessor.remove_input_tags=remove-input


def as_slides(cells: Sequence[Cell]) -> list[Cell]:
    """The cells with a slide type each; Markdown cells are divided into what is shown and what is said."""
    made: list[Cell] = []
    figures = 0  # on the present slide
    for cell in cells:
        if cell["cell_type"] != "code":
            for part in _parts(cell):
                made.append(part)
                figures = figures if _slide_type(part) in ("notes", "fragment", "-") else 0
            continue
        new = copy.deepcopy(cell)
        has_figure = any("image/png" in output.get("data", {}) for output in new["outputs"])
        kind = "skip" if not new["outputs"] else "subslide" if has_figure and figures else "-"
        figures = int(has_figure) if kind == "subslide" else figures + has_figure
        _mark(new, kind)
        if len(new["source"].splitlines()) > MOST_LINES:
            new["metadata"]["jupyter"] = {"source_hidden": True}
            new["metadata"]["tags"] = [*new["metadata"].get("tags", []), REMOVED_INPUT]
        made.append(new)
    return made


def _parts(cell: Cell) -> Iterator[Cell]:
    """A Markdown cell as cells of one slide type each."""
    typed = [(block, _type_of(block)) for block in blocks(cell["source"])]
    sections: list[list[tuple[str, str]]] = []
    for block, kind in typed:
        if kind in ("slide", "subslide") or not sections:
            sections.append([])
        sections[-1].append((block, kind))
    n = 0
    for section in sections:
        head = section[0][1]
        for said, group in groupby(section, lambda one: one[1] == "notes"):
            text = "\n\n".join(block for block, _ in group)
            new = {**copy.deepcopy(cell), "source": text, "id": f"{cell['id']}-{n}"}
            _mark(new, "notes" if said else head if head != "notes" else "-")
            yield new
            n, head = n + 1, head if said else "-"


def blocks(markdown: str) -> list[str]:
    """The paragraphs, equations, lists, tables and programs of a Markdown text."""
    found: list[str] = []
    inside = ""  # the mark that ends a displayed equation or a program
    for line in markdown.splitlines():
        begins = line.startswith(("```", "$$"))
        if not inside and (not line.strip() or (begins and found and found[-1])):
            found.append("")
        if not found:
            found.append("")
        found[-1] += f"{line}\n"
        if inside:
            inside = "" if line.rstrip().endswith(inside) or line.startswith(inside) else inside
        elif begins and not (line.startswith("$$") and len(line.strip()) > 2 and line.rstrip().endswith("$$")):
            inside = line[:3] if line.startswith("```") else "$$"
    return [block.strip("\n") for block in found if block.strip()]


def _type_of(block: str) -> str:
    if re.match(r"##? ", block):
        return "slide"
    if re.match(r"###+ ", block):
        return "subslide"
    return "-" if SHOWN.search(block) else "notes"


def _mark(cell: Cell, kind: str) -> None:
    cell["metadata"] = {**cell.get("metadata", {}), "slideshow": {"slide_type": kind}}


def _slide_type(cell: Cell) -> str:
    return cell["metadata"]["slideshow"]["slide_type"]
