"""Reading a safetensors file into memory, so that nobody who cuts it short or replaces it meanwhile can do any harm.

    tensors, words = read_tensors(path)

safetensors' own reader maps the file; where a mapped file is cut short, the system ends the process (SIGBUS) at the
next look at a tensor, and no exception says why.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from diffusion_explained.files import read_bytes


def read_tensors(path: Path, what: str = "file", most: int | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, on the CPU, and the words of its metadata; what, most: of `read_bytes`.

    Raises FileNotFoundError, or OSError that names the file for one that cannot be read, is cut short or is another's.
    """
    content = read_bytes(path, what, most)
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")  # the header is JSON, and `load` has checked it
        words = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, AssertionError) as error:
        raise OSError(f"{path} is damaged: cut short, or no safetensors file ({error}).") from error
    return tensors, words
