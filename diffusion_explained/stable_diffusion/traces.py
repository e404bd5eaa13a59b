"""A recorded run of Stable Diffusion: small enough to hand out, and opened where there is no GPU and no diffusers.

    trace = Trace.load("cat.safetensors")
    trace.label, trace.settings["prompt"]       # "recorded", "a photo of a cat"
    trace.x_0[step, image]                      # a thumbnail of the decoded predicted x_0, bytes [h, w, 3]

One safetensors file: pictures as bytes, everything else as JSON in its metadata. Nothing in it can run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from diffusion_explained.files import atomic_path

FORMAT = "diffusion_explained trace 1"
LABELS = ("live", "recorded", "stand-in")
PICTURES = {"x_0": 5, "latents": 5, "pictures": 4}  # names of the arrays, and their dimensions
WORDS = ("label", "settings", "tokens", "rows")


@dataclass(frozen=True)
class Trace:
    """What a run did, step by step, for B images in n steps.

    label: "live" of a run that was made now, "recorded" of one that was loaded, "stand-in" of random weights, always.
    settings: model, prompt, negative, sampler, scale, steps, seeds, size, shapes, device, date, seconds by stage.
    tokens: of each prompt, each text encoder's: encoder, ids, pieces, words, used, cut.
    rows: one a step: i, t, alpha, sigma, and, one number an image, the norms of x_t, of the noise predicted with the
        prompt (eps_cond) and without it (eps_uncond), and of their difference; None where guidance is off.
    x_0: thumbnails of the decoded predicted x_0, [n, B, h, w, 3]; latents: linear previews of x_t, [n + 1, B, h, w, 3],
        the last one of the end; pictures: [B, H, W, 3]. All are bytes.
    """

    label: str
    settings: dict[str, Any]
    tokens: list[list[dict[str, Any]]]
    rows: list[dict[str, Any]]
    x_0: np.ndarray
    latents: np.ndarray
    pictures: np.ndarray

    def save(self, path: str | Path) -> Path:
        """Write it, whole or not at all, as a .safetensors file."""
        path = Path(path)
        if path.suffix != ".safetensors":
            raise ValueError(f"A trace is a .safetensors file, got {path}.")
        words = {name: json.dumps(getattr(self, name)) for name in WORDS}
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in PICTURES}
        with atomic_path(path) as part:
            save_file(arrays, part, metadata={"format": FORMAT, **words})
        return path

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read what `save` wrote; a run that was live is a recorded one from now on.

        Raises FileNotFoundError, or OSError for a file that is damaged or is no trace.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no trace {path}")
        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError(f"its format is {metadata.get('format')!r}, not {FORMAT!r}")
                words = {name: json.loads(metadata[name]) for name in WORDS}
                arrays = {name: file.get_tensor(name) for name in PICTURES}
            _check(words, arrays)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise OSError(f"{path} is damaged, or is no trace of this package: {error}") from error
        if words["label"] == "live":
            words["label"] = "recorded"
        return cls(**words, **arrays)


def _check(words: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError where the parts of a trace do not belong together."""
    if words["label"] not in LABELS:
        raise ValueError(f"its label is {words['label']!r}")
    if not isinstance(words["settings"], dict) or not isinstance(words["rows"], list):
        raise ValueError("its settings or rows are none")
    for name, dimensions in PICTURES.items():
        if arrays[name].dtype != np.uint8 or arrays[name].ndim != dimensions or arrays[name].shape[-1] != 3:
            raise ValueError(f"{name} are no pictures")
    steps, count = arrays["x_0"].shape[:2]
    if len(words["rows"]) != steps or arrays["latents"].shape[:2] != (steps + 1, count):
        raise ValueError(f"it has {len(words['rows'])} rows for {steps} steps")
    if len(arrays["pictures"]) != count:
        raise ValueError(f"it has {len(arrays['pictures'])} pictures of {count}")
