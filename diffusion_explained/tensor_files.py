"""Read a safetensors file into memory, so that truncating or replacing the file later does no harm.

    tensors, metadata = read_tensors(path)

safetensors' own reader maps the file into memory; if a mapped file is truncated, the system kills the process (SIGBUS)
at the next access to a tensor, without an exception.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from diffusion_explained.files import read_bytes


def read_tensors(path: Path, what: str = "file", most: int | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, on the CPU, and the texts in its metadata; what, most: as for `read_bytes`.

    Raises FileNotFoundError, and OSError, naming the file, if it cannot be read, is truncated or of another format.
    """
    content = read_bytes(path, what, most)
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")  # the header is JSON, and `load` has checked it
        words = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, AssertionError) as error:
        raise OSError(f"{path} is damaged: cut short, or not a safetensors file ({error}).") from error
    return tensors, words
