"""The header of a .safetensors file: the name, type and shape of every tensor, read before any weight is read.

8 bytes: n, little endian        n bytes of JSON: {name: {dtype, shape, data_offsets}, "__metadata__": {...}}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

MOST = 100_000_000  # bytes of a header, as the library safetensors allows
BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
         "I8": 1, "U8": 1, "BOOL": 1}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What a file holds: shapes and types by the tensors' names, and the notes that its author wrote into it."""

    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str]
    notes: Mapping[str, str]

    def count(self, *beginnings: str) -> int:
        """The number of values in the tensors whose names begin in one of these ways; of all, if none is given."""
        return sum(math.prod(shape) for name, shape in self.shapes.items() if name.startswith(beginnings or ("",)))

    def begins(self, beginning: str) -> bool:
        """Whether a tensor's name begins so."""
        return any(name.startswith(beginning) for name in self.shapes)


def read_header(file: Path) -> Header:
    """Read the header of a .safetensors file. Raises OSError for a file that is damaged, cut off, or something else."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 2 <= length <= min(MOST, size - 8):
            raise OSError(f"{file} is not a .safetensors file, or is cut off: copy or download it again.")
        content = opened.read(length)
    try:
        listed = json.loads(content)
        notes = {str(key): str(value) for key, value in listed.pop("__metadata__", {}).items()}
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in listed.items()}
        types = {name: str(entry["dtype"]) for name, entry in listed.items()}
        ends = max((int(entry["data_offsets"][1]) for entry in listed.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise OSError(f"the header of {file} is damaged: copy or download it again.") from error
    if 8 + length + ends > size:
        raise OSError(f"{file} is cut off: its header describes {(8 + length + ends) / 1e9:.2f} GB, and it has "
                      f"{size / 1e9:.2f} GB. Copy or download it again.")  # fmt: skip
    return Header(shapes, types, notes)


def tensors_of(file: Path, beginnings: tuple[str, ...] = ("",)) -> dict[str, Tensor]:
    """The tensors whose names begin in one of these ways; all, if none is given. Raises OSError as `read_header`."""
    names = [name for name in read_header(file).shapes if name.startswith(beginnings)]
    with safe_open(file, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in names}
