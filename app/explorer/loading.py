"""How a model is loaded: the visitor's choices of its type, of what saves memory, and of what makes it fast."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st

from diffusion_explained.devices import choose_device
from diffusion_explained.stable_diffusion.forecasts import possible_on, usual_dtype
from diffusion_explained.stable_diffusion.on_disk import AUTOENCODER, MODEL
from diffusion_explained.stable_diffusion.part_sizes import SIZES
from diffusion_explained.stable_diffusion.single_files import PREDICTIONS
from explorer import controls, on_disk, part_labels

AUTOMATIC, ON, OFF = "automatic", "on", "off"
FAST_AND_OFFLOAD = "Fast keeps every part on the GPU, and offload moves parts away: switch one of them off."
NO_GPU = "there is no GPU here"


@dataclass(frozen=True)
class Loading:
    """The options of `load` that a visitor chooses; None where the page chooses by the free memory (`fitting`).

    safety_checker: None uses the model's safety checker if there is one, False leaves it out. in_parts: slicing and
    tiling. vae: the file of another autoencoder; parts_from, prediction: for a single file (`find_weights`); each empty
    for none.
    """

    safety_checker: bool | None = None
    dtype: str | None = None
    offload: bool | None = None
    in_parts: bool = False
    float8: bool = False
    fast: bool = False
    vae: str = ""
    parts_from: str = ""
    prediction: str = ""

    def files(self) -> dict[str, Any]:
        """The options of `find_weights`, without those that have their default."""
        given = {
            "safety_checker": self.safety_checker,
            "vae": self.vae or None,
            "parts_from": self.parts_from or None,
            "prediction": self.prediction or None,
        }
        return {name: value for name, value in given.items() if value is not None}

    @property
    def of_refiner(self) -> "Loading":
        """How the refiner of a model that is loaded so is loaded."""
        return replace(self, safety_checker=None, vae="", parts_from="", prediction="")

    def options(self) -> dict[str, Any]:
        """The options of `load`, without those that have their default."""
        given = {
            "dtype": self.dtype,
            "offload": self.offload or None,
            "slicing": self.in_parts or None,
            "tiling": self.in_parts or None,
            "float8": self.float8 or None,
            "fast": self.fast or None,
        }
        return {**self.files(), **{name: value for name, value in given.items() if value is not None}}

    @property
    def refused(self) -> str:
        """Why these choices do not go together; empty if they do."""
        return FAST_AND_OFFLOAD if self.fast and self.offload else ""


USUAL = Loading()


def pick(name: str, safety_checker: bool | None) -> Loading:
    """The visitor's choices for a model of theirs; other pages keep them."""
    kept = st.session_state.setdefault("sd_kept", {})
    possible, device = possible_on(choose_device()), choose_device().type
    with st.expander(part_labels.Loading.how, icon=":material/memory:"):
        dtype = controls.choice(
            st, part_labels.Loading.dtype, [AUTOMATIC, *SIZES], kept.get("dtype", AUTOMATIC), key="sd_dtype",
            always=True,
            help=part_labels.Loading.dtype_help.format(
                automatic=AUTOMATIC, usual=str(usual_dtype(choose_device())).removeprefix("torch.")
            ),
        )  # fmt: skip
        offload = AUTOMATIC
        if "offload" in possible:
            offload = controls.choice(
                st, part_labels.Loading.offload, [AUTOMATIC, ON, OFF], kept.get("offload", AUTOMATIC), key="sd_offload",
                always=True, help=part_labels.Loading.offload_help.format(automatic=AUTOMATIC),
            )  # fmt: skip
        else:
            _not_available("Offload", f"it moves parts from the CPU to a GPU while they compute, and {NO_GPU}.")
        in_parts = _switch(
            "Decode in parts", "in_parts", kept, "",
            "Decode picture by picture (slicing), and pictures of more than 512 pixels a side in tiles.",
        )  # fmt: skip
        float8 = _switch(
            "Weights in float8", "float8", kept,
            "" if "float8" in possible else "Apple's GPUs have no type of 8 bits.",
            "The network's weights take half of float16 and are rounded to 3 bits of mantissa; what is computed with "
            "them has the type above. LoRAs need it off.",
        )  # fmt: skip
        no_cuda = NO_GPU if device == "cpu" else "this GPU does not have it"
        fast = _switch(
            "Fast", "fast", kept, "" if device == "cuda" else f"it compiles the network for CUDA, and {no_cuda}.",
            "Compile the network and the decoder for this GPU: the first picture of each size waits about a minute, "
            "later ones are faster (on one H200 Stable Diffusion 1.5 took 0.2 s per picture, and not 1.8).",
        )  # fmt: skip
        files = _files(name, kept)
    kept.update(dtype=dtype, offload=offload, in_parts=in_parts, float8=float8, fast=fast, **files)
    return Loading(
        safety_checker,
        None if dtype == AUTOMATIC else dtype,
        {AUTOMATIC: None, ON: True, OFF: False}[offload],
        in_parts,
        float8,
        fast,
        **files,
    )


def _files(name: str, kept: Mapping[str, Any]) -> dict[str, str]:
    """The visitor's files for a model beside its own: vae, and for a single file parts_from and prediction."""
    vae = on_disk.pick_file(
        "Autoencoder", AUTOENCODER, "sd_vae",
        "A .safetensors file with another autoencoder of this model's family, or a folder with such files. Empty: the "
        "model's own.", kept.get("vae", ""),
    )  # fmt: skip
    if Path(name).suffix != ".safetensors":
        return {"vae": vae}
    parts_from = on_disk.pick_file(
        "Parts from", MODEL, "sd_parts_from",
        "owner/model on the hub or a folder in diffusers' format, whose parts are used where this file has none: an "
        "autoencoder, text encoders, T5 with its tokenizer.", kept.get("parts_from", ""),
    )  # fmt: skip
    prediction = controls.choice(
        st, part_labels.Loading.prediction, [AUTOMATIC, *PREDICTIONS], kept.get("prediction") or AUTOMATIC,
        key="sd_prediction", always=True, help=part_labels.Loading.prediction_help.format(automatic=AUTOMATIC),
    )  # fmt: skip
    return {"vae": vae, "parts_from": parts_from, "prediction": "" if prediction == AUTOMATIC else prediction}


def _switch(words: str, name: str, kept: Mapping[str, Any], lacking: str, help: str) -> bool:
    """A switch, or why this machine lacks what it would switch on."""
    if lacking:
        _not_available(words, lacking)
        return False
    return controls.switch(st, words, kept.get(name, False), key=f"sd_{name}", always=True, help=help)


def _not_available(words: str, why: str) -> None:
    """A switch that cannot be used on this machine, and why."""
    st.toggle(words, False, key=f"no_{words}", disabled=True)
    st.caption(part_labels.Loading.unavailable.format(words=words, why=why))
