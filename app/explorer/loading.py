"""How a model is loaded: the visitor's choices of its type, of what saves memory, and of what makes it fast."""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from diffusion_explained.devices import choose_device
from diffusion_explained.stable_diffusion.forecasts import possible_on, usual_dtype
from diffusion_explained.stable_diffusion.part_sizes import SIZES
from explorer import controls

AUTOMATIC, ON, OFF = "automatic", "on", "off"
FAST_AND_OFFLOAD = "Fast keeps every part on the GPU, and offload moves parts away: switch one of them off."
NO_GPU = "there is no GPU here"


@dataclass(frozen=True)
class Loading:
    """The options of `load` that a visitor chooses; None where the page chooses by the free memory (`fitting`).

    safety_checker: None uses the model's safety checker if there is one, False leaves it out. in_parts: slicing and
    tiling.
    """

    safety_checker: bool | None = None
    dtype: str | None = None
    offload: bool | None = None
    in_parts: bool = False
    float8: bool = False
    fast: bool = False

    def options(self) -> dict[str, Any]:
        """The options of `load`, without those that have their default."""
        given = {
            "safety_checker": self.safety_checker,
            "dtype": self.dtype,
            "offload": self.offload or None,
            "slicing": self.in_parts or None,
            "tiling": self.in_parts or None,
            "float8": self.float8 or None,
            "fast": self.fast or None,
        }
        return {name: value for name, value in given.items() if value is not None}

    @property
    def refused(self) -> str:
        """Why these choices do not go together; empty if they do."""
        return FAST_AND_OFFLOAD if self.fast and self.offload else ""


USUAL = Loading()


def pick(safety_checker: bool | None) -> Loading:
    """The visitor's choices for a model of theirs; other pages keep them."""
    kept = st.session_state.setdefault("sd_kept", {})
    possible, device = possible_on(choose_device()), choose_device().type
    with st.expander("How it is loaded", icon=":material/memory:"):
        dtype = controls.choice(
            st, "Type of numbers", [AUTOMATIC, *SIZES], kept.get("dtype", AUTOMATIC), key="sd_dtype", always=True,
            help=f"{AUTOMATIC}: {str(usual_dtype(choose_device())).removeprefix('torch.')} here. float16 and bfloat16 "
            "take half of the memory of float32.",
        )  # fmt: skip
        offload = AUTOMATIC
        if "offload" in possible:
            offload = controls.choice(
                st, "Offload", [AUTOMATIC, ON, OFF], kept.get("offload", AUTOMATIC), key="sd_offload", always=True,
                help=f"Keep on the GPU only the part that computes. {AUTOMATIC}: only if the model fits no other way.",
            )  # fmt: skip
        else:
            _not_available("Offload", f"it moves parts from the CPU to a GPU while they compute, and {NO_GPU}.")
        in_parts = controls.switch(
            st, "Decode in parts", kept.get("in_parts", False), key="sd_in_parts", always=True,
            help="Decode picture by picture (slicing), and pictures of more than 512 pixels a side in tiles.",
        )  # fmt: skip
        float8 = False
        if "float8" in possible:
            float8 = controls.switch(
                st, "Weights in float8", kept.get("float8", False), key="sd_float8", always=True,
                help="The network's weights take half of float16 and are rounded to 3 bits of mantissa; what is "
                "computed with them has the type above. LoRAs need it off.",
            )  # fmt: skip
        else:
            _not_available("Weights in float8", "Apple's GPUs have no type of 8 bits.")
        fast = False
        if device == "cuda":
            fast = controls.switch(
                st, "Fast", kept.get("fast", False), key="sd_fast", always=True,
                help="Compile the network and the decoder for this GPU: the first picture of each size waits about a "
                "minute, later ones are faster (on one H200 Stable Diffusion 1.5 took 0.2 s per picture, and not 1.8).",
            )  # fmt: skip
        else:
            _not_available("Fast", f"it compiles the network for CUDA, and {NO_GPU}." if device == "cpu" else
                           "it compiles the network for CUDA, which this GPU does not have.")  # fmt: skip
    kept.update(dtype=dtype, offload=offload, in_parts=in_parts, float8=float8, fast=fast)
    return Loading(
        safety_checker,
        None if dtype == AUTOMATIC else dtype,
        {AUTOMATIC: None, ON: True, OFF: False}[offload],
        in_parts,
        float8,
        fast,
    )


def _not_available(words: str, why: str) -> None:
    """A switch that cannot be used on this machine, and why."""
    st.toggle(words, False, key=f"no_{words}", disabled=True)
    st.caption(f"{words} is not available: {why}")
