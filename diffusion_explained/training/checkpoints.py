"""Checkpoints of a training: everything that it needs to go on as if nothing had happened, in safetensors files.

A checkpoint holds the network, its moving average, the optimizer's state, the random generator's state and the step;
the file's metadata holds what was being trained, and a SHA-256 of it all. Nothing is pickled.

A folder keeps the newest two, `step-00001000.safetensors` and the one before it. Each appears whole or not at all,
so a kill at any moment, also while one is written, leaves a good one.
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
from diffusion_explained.tensor_files import read_tensors
from diffusion_explained.weight_files import fingerprint

KEPT = 2
NAME = re.compile(r"step-(\d+)\.safetensors")


class DamagedCheckpointError(OSError):
    """A checkpoint that is cut short, altered, or no checkpoint of this package."""


@dataclass(frozen=True)
class Checkpoint:
    """One file: what was trained (`description`), how far (`progress`: numbers such as the step), and the tensors."""

    description: dict[str, Any]
    progress: dict[str, float]
    tensors: dict[str, Tensor]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `folder/step-<progress["step"]>.safetensors`, then remove all but the newest two.

    Raises NotWrittenError (an OSError) where it cannot be written, a full disk say; the one before it is then kept.
    """
    words = json.dumps({"description": checkpoint.description, "progress": checkpoint.progress}, sort_keys=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    path = folder / f"step-{checkpoint.progress['step']:08d}.safetensors"
    kept, needed = checkpoint_files(folder), len(words) + sum(tensor.nbytes for tensor in tensors.values())
    try:
        with atomic_path(path, needed) as part:
            save_file(tensors, part, metadata={"checkpoint": words, "sha256": fingerprint(words, tensors)})
    except NotWrittenError as error:
        said = "No checkpoint was written before it."
        if kept:
            said = f"{kept[0].name}, the last whole checkpoint, is kept: the same training goes on from it."
        raise NotWrittenError(f"{error} {said}") from error
    for old in checkpoint_files(folder)[KEPT:]:
        old.unlink()
    for abandoned in folder.glob(".step-*.part"):  # of a process that was killed while it wrote
        abandoned.unlink()
    return path


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one file. Raises DamagedCheckpointError unless every byte is as it was written."""
    try:
        tensors, metadata = read_tensors(path, "checkpoint")
        words, expected = metadata["checkpoint"], metadata["sha256"]
        content = json.loads(words)
        description, progress = content["description"], content["progress"]
        if not isinstance(description, dict) or not isinstance(progress, dict):
            raise ValueError("its description and progress are no tables")
    except (KeyError, TypeError, ValueError, RecursionError, OSError) as error:
        raise DamagedCheckpointError(f"{path} is cut short, or is no checkpoint of a training: {error!r}") from error
    if fingerprint(words, tensors) != expected:
        raise DamagedCheckpointError(f"{path} was altered after it was written: its SHA-256 is another one")
    return Checkpoint(description, progress, tensors)


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest good checkpoint in a folder, or None if there is none at all; a damaged one is named in a warning.

    Raises DamagedCheckpointError if there are checkpoints, but no good one.
    """
    damaged = []
    for path in checkpoint_files(folder):
        try:
            checkpoint = read_checkpoint(path)
        except DamagedCheckpointError as error:
            damaged.append(str(error))
            continue
        for message in damaged:
            warnings.warn(f"{message}. Training goes on from the one before it, {path.name}.", stacklevel=2)
        return checkpoint
    if damaged:
        raise DamagedCheckpointError(f"{'; '.join(damaged)}. Remove {folder} to train from the beginning.")
    return None


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first."""
    found = [
        (int(match[1]), path) for path in folder.glob("step-*.safetensors") if (match := NAME.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found, reverse=True)]


def go_on(state: Any, description: Mapping[str, Any], folder: Path | None) -> None:
    """Give a training's state, by its `load`, the newest checkpoint of this training in a folder, if there is one.

    Raises ValueError for the checkpoints of another training, DamagedCheckpointError if there is no good one.
    """
    if folder is not None and (saved := latest_checkpoint(folder)) is not None:
        check_same(description, saved, folder)
        try:
            state.load(saved)
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise DamagedCheckpointError(
                f"the newest checkpoint in {folder} does not fit this training, though it says so: {error}. Remove it "
                "to train from the one before, or from the beginning."
            ) from error


def check_same(description: Mapping[str, Any], checkpoint: Checkpoint, folder: Path) -> None:
    """Raise ValueError, naming each difference, unless a checkpoint is of the training that is described."""
    asked, found = dict(_leaves(description)), dict(_leaves(checkpoint.description))
    differing = sorted(key for key in asked.keys() | found.keys() if asked.get(key) != found.get(key))
    if differing:
        listed = "; ".join(f"{key} is {found.get(key)!r} there and {asked.get(key)!r} here" for key in differing)
        raise ValueError(
            f"{folder} holds the checkpoint of another training: {listed}. Train as it was begun, "
            f"or give another folder, or remove this one to train from the beginning."
        )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value
