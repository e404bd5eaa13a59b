"""The safety checker that some models ship; it is applied if the model has one."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def checked(pipe: Any, images: Tensor, device: torch.device) -> Tensor:
    """Pictures [B, 3, H, W] in [-1, 1]; those that the pipeline's safety checker flags become black, with a warning."""
    checker = getattr(pipe, "safety_checker", None)
    if checker is None:
        return images
    array = (images / 2 + 0.5).cpu().permute(0, 2, 3, 1).numpy()
    _, flags = pipe.run_safety_checker(array, device, next(checker.parameters()).dtype)
    if any(flags):
        warnings.warn(f"The model's safety checker blanked {sum(flags)} of {len(flags)} pictures.", stacklevel=3)
    keep = torch.tensor([not flag for flag in flags], device=images.device, dtype=torch.bool).reshape(-1, 1, 1, 1)
    return torch.where(keep, images, -1.0)
