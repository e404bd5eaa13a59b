"""Write each notebooks/NN_name.ipynb from its twin notebooks/src/NN_name.py, and execute it.

    python notebooks/execute.py                 every notebook
    python notebooks/execute.py 01 03_training  those whose names begin so
    python notebooks/execute.py --prose 01      copy changed prose only; no cell is run, and no code may have changed

The twin in src/ is what is edited. A notebook is replaced only when every cell has run: one that fails, is
interrupted or hangs leaves the old file as it was. The cells run as strict nbval runs them (a blocking client that
plays no Output widgets), because nbclient, which nbconvert uses, was seen to hang; the outputs have nbval's order.
"""

import base64
import io
import os
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from jupyter_client.manager import start_new_kernel
from nbformat import NotebookNode
from PIL import Image

from diffusion_explained.files import atomic_path, check_file

FOLDER = Path(__file__).resolve().parent
SECONDS_PER_CELL = 300  # as `make test` allows
SECONDS_TO_START = 600  # of a kernel, on a machine that does other work too; as `make test` allows
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}


class CellError(RuntimeError):
    """A cell raised, or did not end in time."""


def sources(names: list[str]) -> list[Path]:
    """The twins whose names begin with one of `names`; all of them for none. ValueError for a name without a twin."""
    twins = sorted((FOLDER / "src").glob("[0-9]*.py"))
    for name in names:
        if not any(twin.stem.startswith(name) for twin in twins):
            raise ValueError(f"There is no notebook {name!r}; there are {', '.join(twin.stem for twin in twins)}.")
    return [twin for twin in twins if not names or twin.stem.startswith(tuple(names))]


def notebook_of(twin: Path) -> NotebookNode:
    """The notebook that a twin describes, without outputs; the same twin gives the same bytes."""
    notebook = jupytext.read(twin, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i:02d}"
    return notebook


def in_few_colours(figure: str) -> str:
    """A PNG in base64 with 256 colours, if that is smaller: committed notebooks have to stay below a megabyte."""
    with Image.open(io.BytesIO(base64.b64decode(figure))) as image:
        few = image.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, "PNG", optimize=True)
    return min(figure, base64.b64encode(buffer.getvalue()).decode(), key=len)


def collect(cell: NotebookNode, message: dict) -> None:
    """Add one message of the kernel to the cell's outputs; neighbouring pieces of one stream become one output."""
    if message["msg_type"] not in ("stream", "display_data", "execute_result", "error"):
        return
    output = nbformat.v4.output_from_msg(message)
    if figure := output.get("data", {}).get("image/png"):
        output.data["image/png"] = in_few_colours(figure)
    last = cell.outputs[-1] if cell.outputs else None
    if output.output_type == "stream" and last and last.output_type == "stream" and last.name == output.name:
        last.text += output.text
    else:
        cell.outputs.append(output)


def execute(notebook: NotebookNode, seconds_per_cell: float = SECONDS_PER_CELL) -> None:
    """Run the code cells in a fresh kernel, offline, in the notebooks' folder. Raises CellError at the first fault."""
    manager, client = start_new_kernel(
        startup_timeout=SECONDS_TO_START,
        kernel_name="python3",
        cwd=str(FOLDER),
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # it warns that its local socket is not encrypted
    )
    try:
        for n, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), start=1):
            cell.outputs, cell.execution_count = [], n
            try:
                reply = client.execute_interactive(
                    cell.source,
                    timeout=seconds_per_cell,
                    output_hook=lambda message, cell=cell: collect(cell, message),
                )
            except TimeoutError:
                raise CellError(f"cell {n} did not end in {seconds_per_cell:.0f} s:\n{cell.source}") from None
            if reply["content"]["status"] != "ok":
                traceback = "\n".join(reply["content"].get("traceback", []))
                raise CellError(f"cell {n} failed:\n{cell.source}\n{traceback}")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def with_outputs_of(notebook: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """The notebook with the outputs of an executed one. Raises ValueError unless both have the same code cells."""
    cells, old = ([cell for cell in each.cells if cell.cell_type == "code"] for each in (notebook, executed))
    if [cell.source for cell in cells] != [cell.source for cell in old]:
        raise ValueError("its code has changed, so its outputs are stale: execute it, without --prose.")
    for cell, before in zip(cells, old, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    return notebook


def main(names: list[str]) -> int:
    """Write and execute the named notebooks, or copy their prose; 1 when one of them failed."""
    failed = 0
    if "--prose" in names:
        for twin in sources([name for name in names if name != "--prose"]):
            path = FOLDER / f"{twin.stem}.ipynb"
            try:
                notebook = with_outputs_of(notebook_of(twin), nbformat.read(path, as_version=4))
            except ValueError as error:
                print(f"{twin.stem}: {error}", file=sys.stderr)
                failed = 1
                continue
            with atomic_path(path) as part:
                nbformat.write(notebook, part)
        return failed
    for twin in sources(names):
        check_file(FOLDER / f"{twin.stem}.ipynb", "")  # before minutes of execution
        started, notebook = time.monotonic(), notebook_of(twin)
        try:
            execute(notebook)
        except CellError as error:
            print(f"{twin.stem}: {error}\n{twin.stem}.ipynb is left as it was.", file=sys.stderr)
            failed = 1
            continue
        with atomic_path(FOLDER / f"{twin.stem}.ipynb") as part:
            nbformat.write(notebook, part)
        size = (FOLDER / f"{twin.stem}.ipynb").stat().st_size
        print(f"{twin.stem}: {time.monotonic() - started:.0f} s, {size / 1e3:.0f} kB", flush=True)
    return failed


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
