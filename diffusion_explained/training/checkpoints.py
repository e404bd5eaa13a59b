"""Checkpoints of a training run: all it needs to resume as if it had never stopped, in safetensors files.

A checkpoint holds the network, its moving average, the optimizer's state, the random generators' states and the step;
the file's metadata describe the training run and hold a SHA-256 of the whole content. Nothing is pickled.

A folder keeps the newest two checkpoints, such as `step-00001000.safetensors` and the one before it. Each file appears
whole or not at all, so if the process is killed at any moment, even while it writes, an intact checkpoint is left.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from diffusion_explained.files import NotWrittenError, atomic_path
from diffusion_explained.weight_files import fingerprint, read_tensors

KEPT = 2
NAME = re.compile(r"step-(\d+)\.safetensors")


class DamagedCheckpointError(OSError):
    """The file is truncated, altered, or not a checkpoint of this package."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of one file: a description of the training run, its progress (such as the step), and the tensors."""

    description: dict[str, Any]
    progress: dict[str, float]
    tensors: dict[str, Tensor]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `folder/step-<progress["step"]>.safetensors`, then remove all but the newest two.

    Raises NotWrittenError (an OSError) if it cannot be written, on a full disk for example; older ones are then kept.
    """
    words = json.dumps({"description": checkpoint.description, "progress": checkpoint.progress}, sort_keys=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    path = folder / f"step-{checkpoint.progress['step']:08d}.safetensors"
    kept, needed = checkpoint_files(folder), len(words) + sum(tensor.nbytes for tensor in tensors.values())
    try:
        with atomic_path(path, needed) as part:
            save_file(tensors, part, metadata={"checkpoint": words, "sha256": fingerprint(words, tensors)})
    except NotWrittenError as error:
        remedy = "There is no earlier checkpoint."
        if kept:
            remedy = f"{kept[0].name}, the last whole checkpoint, is kept: the same training run resumes from it."
        raise NotWrittenError(f"{error} {remedy}") from error
    for old in checkpoint_files(folder)[KEPT:]:
        old.unlink()
    for abandoned in folder.glob(".step-*.part"):  # left by a process that was killed while it wrote
        abandoned.unlink()
    return path


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one file. Raises DamagedCheckpointError unless its content is exactly as it was written."""
    try:
        tensors, metadata = read_tensors(path, "checkpoint")
        words, expected = metadata["checkpoint"], metadata["sha256"]
        content = json.loads(words)
        description, progress = content["description"], content["progress"]
        if not isinstance(description, dict) or not isinstance(progress, dict):
            raise ValueError("its description and progress are no tables")
    except (KeyError, TypeError, ValueError, RecursionError, OSError) as error:
        raise DamagedCheckpointError(
            f"{path} is cut short, or is not a checkpoint of this package: {error!r}"
        ) from error
    if fingerprint(words, tensors) != expected:
        raise DamagedCheckpointError(f"{path} was altered after it was written: its SHA-256 does not match")
    return Checkpoint(description, progress, tensors)


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest intact checkpoint in a folder, or None if the folder has none; a warning names damaged ones.

    Raises DamagedCheckpointError if there are checkpoints, but all are damaged.
    """
    damaged = []
    for path in checkpoint_files(folder):
        try:
            checkpoint = read_checkpoint(path)
        except DamagedCheckpointError as error:
            damaged.append(str(error))
            continue
        for message in damaged:
            warnings.warn(f"{message}. Training resumes from the checkpoint before it, {path.name}.", stacklevel=2)
        return checkpoint
    if damaged:
        raise DamagedCheckpointError(f"{'; '.join(damaged)}. Remove {folder} to train from the beginning.")
    return None


def checkpoint_files(folder: Path) -> list[Path]:
    """The paths of a folder's checkpoints, the newest first."""
    found = [
        (int(match[1]), path) for path in folder.glob("step-*.safetensors") if (match := NAME.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found, reverse=True)]


def resume(state: Any, description: Mapping[str, Any], folder: Path | None) -> None:
    """Resume: load the newest checkpoint in a folder, if there is one, into the state of the same training run.

    state: an object whose `load(checkpoint)` restores it. Raises ValueError if the checkpoints are of another training
    run, and DamagedCheckpointError if none of them is intact.
    """
    if folder is not None and (saved := latest_checkpoint(folder)) is not None:
        check_same(description, saved, folder)
        try:
            state.load(saved)
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise DamagedCheckpointError(
                f"the newest checkpoint in {folder} does not fit this training run, although its description does: "
                f"{error}. Remove it to resume from the checkpoint before it, or to train from the beginning."
            ) from error


def check_same(description: Mapping[str, Any], checkpoint: Checkpoint, folder: Path) -> None:
    """Raise ValueError, naming each difference, unless a checkpoint is of the training run that is described."""
    asked, found = dict(_leaves(description)), dict(_leaves(checkpoint.description))
    differing = sorted(key for key in asked.keys() | found.keys() if asked.get(key) != found.get(key))
    if differing:
        listed = "; ".join(f"{key} is {found.get(key)!r} there and {asked.get(key)!r} here" for key in differing)
        raise ValueError(
            f"{folder} holds the checkpoint of another training: {listed}. Give the settings of that checkpoint, "
            f"or give another folder, or remove this one to train from the beginning."
        )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value
