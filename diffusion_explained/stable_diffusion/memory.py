"""Out of memory: free the memory of the failed attempt, and raise an error that says what to reduce."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

CPU_ALLOCATOR = "DefaultCPUAllocator"  # it names itself in the RuntimeError that a CPU raises


class NotEnoughMemoryError(OSError):
    """The device has too little free memory for the request; the message says what to reduce."""


@contextmanager
def enough_memory(doing: str, facts: Callable[[], str] = str) -> Iterator[None]:
    """Turn torch's out-of-memory error into `NotEnoughMemoryError`, after freeing the memory of the failed attempt.

    facts: makes a sentence for the message about what is needed and what is there, which ends in a space.
    """
    reason = None
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and CPU_ALLOCATOR not in str(error):
            raise
        reason = str(error).split(". ")[0]
        traceback.clear_frames(error.__traceback__)  # their local variables hold the tensors
    # outside the except block the old error is deleted, so it no longer keeps the frames alive
    if reason is not None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise NotEnoughMemoryError(
            f"The memory did not suffice for {doing} ({reason}). {facts()}Reduce the number of images or their size, "
            "load with slicing=True and tiling=True (decodes in parts), offload=True (keeps parts on the CPU) or "
            "float8=True (weights in 8 bits), or close other programs that use the GPU. The memory of this attempt is "
            "free again."
        )
