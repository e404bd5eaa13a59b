"""Results of long measurements, which ship with the package so that the course can show them.

    rows = read_measured("samplers")["rows"]       # one setting each: quality by sampler and network evaluations
    rows = rows_of("micro", "guidance")            # the rows of one part of a study that has several parts

The scripts of benchmarks/ write these files; each file names its machine, its date and its number of samples.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_explained.checks import typed_arguments
from diffusion_explained.files import atomic_path, read_json
from diffusion_explained.messages import unknown_name
from diffusion_explained.tables import check_file_name

MEASURED = Path(__file__).parent / "measured"


def studies() -> list[str]:
    """The names of the studies."""
    return sorted(path.stem for path in MEASURED.glob("*.json"))


@typed_arguments
def read_measured(study: str) -> dict[str, Any]:
    """Read one study. Raises ValueError for a name that does not exist, OSError for a damaged file."""
    if study not in studies():
        raise unknown_name("study", study, studies())
    path = MEASURED / f"{study}.json"
    found = read_json(path, "study")
    rows = found.get("rows") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise OSError(f"the study {path} is damaged: it must be a table with rows. Install the package again.")
    return found


def rows_of(study: str, part: str) -> list[dict[str, Any]]:
    """The rows of one part of a study with several parts, such as "micro". Raises ValueError for an unknown name."""
    rows = read_measured(study)["rows"]
    parts = {row["part"] for row in rows if "part" in row}
    if part not in parts:
        raise unknown_name(f"part of the study {study}", part, parts)
    return [row for row in rows if row.get("part") == part]


def write_measured(study: str, values: dict[str, Any], folder: Path = MEASURED) -> Path:
    """Write a study, whole or not at all: numbers with six digits, one row per line.

    Raises ValueError unless the name is a plain file name.
    """
    values, path = _rounded(values), folder / f"{check_file_name(study, 'study')}.json"
    head = json.dumps({key: value for key, value in values.items() if key != "rows"})
    rows = ",\n".join(json.dumps(row) for row in values["rows"])
    with atomic_path(path) as part:
        part.write_text(f'{head[:-1]}{", " if len(head) > 2 else ""}"rows": [\n{rows}\n]}}\n', encoding="utf-8")
    return path


@typed_arguments
def picture_to_text(pixels: Tensor) -> str:
    """A picture, uint8 [H, W] or [H, W, 3], as a PNG file in base64, to be kept in a row of a study.

    Raises ValueError for another shape or dtype.
    """
    from PIL import Image

    if pixels.dtype != torch.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] == 3)):
        raise ValueError(f"A picture in a study is uint8 [H, W] or [H, W, 3]; got {pixels.dtype} {list(pixels.shape)}.")
    file = io.BytesIO()
    Image.fromarray(pixels.cpu().numpy()).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


@typed_arguments
def picture_from_text(text: str) -> Tensor:
    """The picture uint8 [H, W] that `picture_to_text` wrote. Raises OSError for damaged text."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
            return torch.from_numpy(np.array(image.convert("RGB" if image.mode == "RGB" else "L")))
    except (binascii.Error, OSError, SyntaxError) as error:
        raise OSError("the picture in this study is damaged. Install the package again.") from error


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
