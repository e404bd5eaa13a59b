"""A recorded run of Stable Diffusion: small enough to hand out, and readable without a GPU and without diffusers.

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
from diffusion_explained.stable_diffusion.trace_rules import PICTURES, check_shapes, check_words

FORMAT = "diffusion_explained trace 1"
WORDS = ("label", "settings", "tokens", "rows")
MOST_BYTES = 256 * 2**20  # 60 steps of four images, all as large as pictures may be
MOST_HEADER = 8 * 2**20  # of the words; 1,000 steps of four images have 0.5 MB


@dataclass(frozen=True)
class Trace:
    """A run of n steps for B images, step by step.

    label: "live" for a run that was made now, "recorded" for one that was loaded; for random weights always "stand-in".
    settings: model, prompt, negative, sampler, spacing (null for the model's own; files of earlier releases do not
        have it), safety_checker_left_out (likewise: true where the model ships a safety checker that the run was made
        without), scale, steps, seeds, size, shapes, device, date, seconds of each stage.
    tokens: for each prompt and each text encoder: encoder, ids, pieces, words, used, cut (see `text.Tokens`).
    rows: one per step: i, t, alpha, sigma, and, with one number per image, the norms of x_t, of the noise predicted
        with the prompt (eps_cond) and without it (eps_uncond), and of their difference; None where guidance is off.
    x_0: thumbnails of the decoded predicted x_0, [n, B, h, w, 3]; latents: linear previews of x_t, [n + 1, B, h, w, 3],
        the last one after the last step; pictures: the results [B, H, W, 3]. All are bytes.
    """

    label: str
    settings: dict[str, Any]
    tokens: list[list[dict[str, Any]]]
    rows: list[dict[str, Any]]
    x_0: np.ndarray
    latents: np.ndarray
    pictures: np.ndarray

    def save(self, path: str | Path) -> Path:
        """Write the trace as a .safetensors file, whole or not at all. Raises ValueError for another suffix."""
        path = _path(path)
        if path.suffix != ".safetensors":
            raise ValueError(f"A trace is a .safetensors file, got {path}.")
        words = {name: json.dumps(getattr(self, name)) for name in WORDS}
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in PICTURES}
        with atomic_path(path) as part:
            save_file(arrays, part, metadata={"format": FORMAT, **words})
        return path

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read a file that `save` wrote; the label "live" becomes "recorded".

        Every field is checked by `trace_rules` before a picture is read.
        Raises FileNotFoundError, OSError for a file that is damaged or is not a trace, or ValueError for no path.
        """
        path = _path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no trace {path}")
        try:
            _check_length(path)
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError(f"its format is {str(metadata.get('format'))[:60]!r}, not {FORMAT!r}")
                if unknown := sorted(metadata.keys() - {"format", *WORDS}):
                    raise ValueError(f"it has words that are not known: {', '.join(unknown)[:60]}")
                if missing := [name for name in WORDS if name not in metadata]:
                    raise ValueError(f"it lacks {', '.join(missing)}")
                shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118, no mapping
                check_shapes(shapes)
                if kinds := {name: kind for name in shapes if (kind := file.get_slice(name).get_dtype()) != "U8"}:
                    raise ValueError(f"its pictures are not bytes: {kinds}")
                words = {name: _parsed(name, metadata[name]) for name in WORDS}
                check_words(words, shapes)
                arrays = {name: file.get_tensor(name) for name in PICTURES}
        except (SafetensorError, ValueError, OSError) as error:
            raise OSError(
                f"{path} is damaged, or is not a trace of this package: {error}. Copy it again, or record the run anew "
                "(diffusion-explained record --help)."
            ) from error
        if words["label"] == "live":
            words["label"] = "recorded"
        return cls(**words, **arrays)


def _path(path: Any) -> Path:
    """Raises ValueError for what is not a path; `checks` does it elsewhere, and would import torch here."""
    if not isinstance(path, str | Path):
        raise ValueError(f"path must be a text or a path (pathlib.Path); got a {type(path).__name__}.")
    return Path(path)


def _check_length(path: Path) -> None:
    """Raise ValueError if the file, or the header that it declares, is longer than a trace may be."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"it is {size / 1e6:,.0f} MB; allowed are {MOST_BYTES / 1e6:,.0f}")
    with path.open("rb") as file:
        declared = int.from_bytes(file.read(8), "little")
    if declared > min(MOST_HEADER, size):
        raise ValueError(f"it declares a header of {declared:,} bytes; allowed are {MOST_HEADER:,}")


def _parsed(name: str, words: str) -> Any:
    """Parse JSON. Raises ValueError for text that is not JSON, and for NaN and infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(f"its {name} hold {constant}, which is not a number")

    try:
        return json.loads(words.removeprefix("\ufeff"), parse_constant=refuse)
    except RecursionError:
        raise ValueError(f"its {name} are nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"its {name} are not JSON: {error}") from None
