"""The memory of a model before it is loaded: what it takes on this machine, and the options with which it fits."""

from dataclasses import replace
from typing import Any

import streamlit as st
import torch

from diffusion_explained.devices import choose_device
from diffusion_explained.stable_diffusion import find_weights
from diffusion_explained.stable_diffusion.forecasts import (
    GB,
    Forecast,
    Need,
    forecast_of,
    possible_on,
    room_on,
    shortage,
    usual_dtype,
)
from explorer import sharing
from explorer.loading import Loading

FORGET = 60  # seconds after which the files are read again
HOW = {
    "offload": "parts move to the GPU when they compute",
    "t5": "T5 is left out",
    "float8": "the network's layers in float8",
    "slicing": "decoded in parts",
}


@st.cache_data(ttl=FORGET, show_spinner=False)
def told(
    name: str,
    loading: Loading,
    height: int | None = None,
    width: int | None = None,
    count: int = 1,
    guidance_scale: float | None = None,
) -> Forecast | None:
    """The forecast of a model on this machine; None for one that is not here, or a size that it does not draw."""
    try:
        weights = find_weights(name, **loading.files())
        return forecast_of(weights, height=height, width=width, batch_size=count, guidance_scale=guidance_scale)
    except (OSError, ValueError):
        return None  # the error is reported where the model is loaded


def options(name: str, loading: Loading) -> dict[str, Any]:
    """The options of `load`: the visitor's, and where they leave it open offload or no T5, if only that fits."""
    given = loading.options()
    if sharing.is_shared():  # only models run that fit everywhere
        return given
    found, device = told(name, loading), choose_device()
    room = room_on(device)
    if found is None or room is None:
        return given
    base, may = _need(found, loading, device), {"t5"} if loading.offload is False or loading.fast else {"offload", "t5"}
    ways = found.fitting(room, base, may & possible_on(device))
    if not ways:
        return given
    without_t5 = ways[0].t5 is False and base.t5
    return {**given, **({"offload": True} if ways[0].offload else {}), **({"t5": False} if without_t5 else {})}


def _need(found: Forecast, loading: Loading, device: torch.device, *, t5: bool | None = None) -> Need:
    """The way to run a model that the visitor chose."""
    usual = str(usual_dtype(device)).removeprefix("torch.")
    return found.need(
        loading.dtype or usual, t5=t5, offload=bool(loading.offload), in_parts=loading.in_parts, float8=loading.float8
    )


def words(name: str, loading: Loading, height: int, width: int, count: int, guidance_scale: float) -> tuple[str, bool]:
    """(What a run takes and what is free, in words; whether it is expected to fit.) No words for what is not known."""
    device = choose_device()
    found = told(name, loading, height, width, count, guidance_scale)
    room = room_on(device)
    if found is None or room is None:
        return "", True
    chosen = options(name, loading)
    need = _need(found, replace(loading, offload=chosen.get("offload", False)), device, t5=chosen.get("t5"))
    if short := shortage(found, need, room, device):
        return short, False
    how = "".join(f", {said}" for option, said in HOW.items() if option in chosen)
    run = "" if need.activations is None else f", and about {need.activations / GB:.1f} GB (estimated) for this run"
    weights = f"{sum(need.weights.values()) / GB:.1f} GB of weights in {need.dtype}{how}"
    return f"Memory: {weights}{run}. {room / GB:.1f} GB are free on {device.type}.", True
