"""When the memory does not suffice: an error that says what to lower, after freeing what was taken."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CPU_ALLOCATOR = "DefaultCPUAllocator"  # it names itself in the RuntimeError that a CPU raises


class NotEnoughMemoryError(OSError):
    """The device has too little free memory for what was asked; the message says what to lower."""


@contextmanager
def enough_memory(doing: str) -> Iterator[None]:
    """Turn torch's out-of-memory error into `NotEnoughMemoryError`, once all that the attempt held is free again."""
    reason = None
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and CPU_ALLOCATOR not in str(error):
            raise
        reason = str(error).split(". ")[0]
        traceback.clear_frames(error.__traceback__)  # their local variables hold the tensors
    # out here the old error is gone, and with it its hold on the frames
    if reason is not None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise NotEnoughMemoryError(
            f"The memory did not suffice for {doing} ({reason}). Lower the number of images or their size, load with "
            "slicing=True and tiling=True (decodes in parts) or offload=True (keeps parts on the CPU), or close what "
            "else uses the GPU. What was taken is free again."
        )
