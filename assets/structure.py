"""Draw the rooms of the package and their imports: `make structure` writes docs/structure.md.

A room is a module or a package directly below `diffusion_explained/`; an arrow from A to B says that some module of A
imports one of B. `ORDER` is the order from the ground up: every arrow points downwards, to a room named earlier.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "diffusion_explained"
PAGE = ROOT / "docs" / "structure.md"
MOST_ROOMS = 38
ORDER = {
    "ground": (
        "messages",
        "checks",
        "tables",
        "files",
        "extras",
        "devices",
        "palette",
        "weight_files",
        "measured",
    ),
    "theory, in reading order": (
        "schedules",
        "noise",
        "forward",
        "predictions",
        "guidance",
        "denoisers",
        "samplers",
        "exact",
        "likelihood",
        "inverse",
    ),
    "networks and data": ("data", "models", "inside", "pretrained", "discrete"),
    "pictures": ("charts", "film", "stable_diffusion", "comparisons", "plots", "widgets"),
    "measuring and training": ("metrics", "training", "beyond", "micro", "exercises", "course"),
    "command line": ("serving", "cli"),
}


def rooms() -> list[str]:
    """The rooms that there are."""
    return sorted(
        path.stem
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").is_file()
    )


def arrows() -> dict[str, set[str]]:
    """For each room the other rooms that it imports, at the top of a file or later."""
    known, found = set(rooms()), {}
    for room in rooms():
        files = [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").is_file() else (PACKAGE / room).rglob("*.py")
        names: set[str] = set()
        for file in files:
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    names |= {f"{node.module}.{alias.name}" for alias in node.names}
        ours = {name.split(".")[1] for name in names if name.startswith(f"{PACKAGE.name}.")}
        found[room] = (ours & known) - {room}
    return found


def faults() -> list[str]:
    """What is wrong with the structure, in words: a room without a place, an arrow upwards, too many rooms."""
    places = {room: i for i, room in enumerate(room for storey in ORDER.values() for room in storey)}
    wrong = [f"{room} has no place in ORDER" for room in rooms() if room not in places]
    wrong += [f"ORDER names {room}, which there is not" for room in places if room not in rooms()]
    if len(rooms()) > MOST_ROOMS:
        wrong.append(f"there are {len(rooms())} rooms, and at most {MOST_ROOMS} are allowed")
    wrong += [
        f"{room} imports {other}, which stands above it"
        for room, others in arrows().items()
        for other in sorted(others)
        if places.get(other, 0) > places.get(room, len(places))
    ]
    return wrong


def page() -> str:
    """The picture as a page of the documentation: a table, and a Mermaid graph, storey by storey."""
    found = arrows()
    lines = ["flowchart BT"]
    for i, (storey, members) in enumerate(ORDER.items()):
        lines += [f'  subgraph s{i}["{storey}"]', *(f"    {room}" for room in members), "  end"]
    lines += [f"  {room} --> {other}" for room in sorted(found) for other in sorted(found[room])]
    count = sum(len(others) for others in found.values())
    graph = "\n".join(lines)
    rows = [
        f"| {storey} | `{room}` | {', '.join(f'`{other}`' for other in sorted(found[room])) or '–'} |"
        for storey, members in ORDER.items()
        for room in members
    ]
    table = "\n".join(["| storey | room | imports |", "|---|---|---|", *rows])
    return (
        "# The rooms of the package\n\n"
        "Written by `make structure`; do not edit. "
        f"{len(found)} rooms, {count} arrows, no circle, none upward: a test holds this.\n\n"
        f"{table}\n\n"
        "The same as a graph, which GitHub draws:\n\n"
        f"```mermaid\n{graph}\n```\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    for fault in faults():
        print(f"- {fault}")
