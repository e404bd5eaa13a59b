"""What the pages have in common to choose: data set and network. Kept in the address, and for the whole visit."""

from dataclasses import dataclass

import streamlit as st

from explorer import address, controls
from explorer.kinds import OneOf

DATA = {"mnist": "MNIST digits", "cifar10": "CIFAR-10 pictures"}
NETWORKS = {  # what each network is, in its data set's group; the first of a group is the one to begin with
    "mnist_unet_flow": "U-Net · flow matching",
    "mnist_unet_eps": "U-Net · DDPM, predicts ε",
    "mnist_dit_flow": "DiT · flow matching",
    "cifar10_unet_flow": "U-Net · flow matching",
    "cifar10_unet_flow_fine": "larger U-Net · flow matching",
    "cifar10_unet_eps": "U-Net · DDPM, predicts ε",
    "cifar10_dit_flow": "DiT · flow matching",
    "cifar10_unet_reflow": "U-Net · rectified flow",
}
FIRST = next(iter(NETWORKS))
SLOW = ("cifar10_unet_flow_fine", "cifar10_dit_flow")
PATIENCE = "This network takes some seven times as long as the small U-Nets, so the pages ask less of it to begin with."
NO_GUIDANCE = "Guidance was trained into this network when its flow was rectified, so it is sampled at w = 1."


def networks_of(data: str) -> list[str]:
    """The networks of a data set, by name."""
    return [name for name in NETWORKS if data_of(name) == data]


def data_of(model: str) -> str:
    """The data set that a network was trained on."""
    return model.split("_")[0]


def pace_of(model: str) -> str:
    """How much can be asked of a network while a visitor waits: that of "digits", of "pictures", or of a "slow" one."""
    return "slow" if model in SLOW else "digits" if data_of(model) == "mnist" else "pictures"


@dataclass(frozen=True)
class Choice:
    """The visitor's data set and network; renewed: whether the data set was changed just now."""

    data: str
    model: str
    renewed: bool

    @property
    def noun(self) -> str:
        """What one image of the data set is called."""
        return "digit" if self.data == "mnist" else "picture"

    @property
    def pace(self) -> str:
        """`pace_of` the network."""
        return pace_of(self.model)

    def default(self, key: str, value: float) -> float:
        """A widget's default for this data set, which the widget takes on when the data set is changed."""
        if self.renewed:
            st.session_state[key] = value
        return value


def _other_data() -> None:
    st.session_state.chosen = networks_of(st.session_state.data)[0]
    st.session_state.renewed = True
    address.forget()


def _other_model() -> None:
    st.session_state.chosen = st.session_state.model


def choose(*, network: bool = True) -> Choice:
    """The switch between the data sets; with `network`, `pick_network` is to follow, and the address names that.

    The address may name a network, or a data set; it wins over what was chosen on another page.
    """
    chosen = st.session_state.setdefault("chosen", FIRST)
    data = address.read("data", OneOf(tuple(DATA)), None)
    model = address.read("model", OneOf(tuple(NETWORKS)), None)
    if model is not None:
        chosen = model
    elif data is not None and data != data_of(chosen):
        chosen = networks_of(data)[0]
    if chosen not in NETWORKS:  # a list sends back whatever it was sent, and this becomes a file's name
        chosen = FIRST
    st.session_state.chosen, st.session_state.data = chosen, data_of(chosen)
    if network:
        address.put("model", [chosen] if chosen != FIRST else None)
    else:
        address.put("data", [data_of(chosen)] if data_of(chosen) != data_of(FIRST) else None)
    st.segmented_control(
        "Data set",
        list(DATA),
        format_func=DATA.get,
        required=True,
        key="data",
        on_change=_other_data,
        label_visibility="collapsed",
    )
    renewed = st.session_state.pop("renewed", False)
    return Choice(data_of(chosen), chosen, renewed)


def pick_network(choice: Choice, label: str = "Network") -> None:
    """The networks of the chosen data set, in words."""
    st.session_state.model = choice.model
    st.selectbox(label, networks_of(choice.data), format_func=NETWORKS.get, key="model", on_change=_other_model)
    if choice.pace == "slow":
        st.caption(PATIENCE)


def guidance_slider(choice: Choice, key: str, most: float, usual: float, *, rectified: bool) -> float:
    """The guidance scale w, `usual` by default; a rectified network stays at 1, and the disabled slider says why."""
    if rectified:
        st.slider("Guidance scale w", 0.0, most, 1.0, 0.5, key="no_guidance", disabled=True)
        st.caption(NO_GUIDANCE)
        return 1.0
    what = "1 is off, 0 ignores the class."
    return controls.slider(st, "Guidance scale w", 0.0, most, choice.default(key, usual), 0.5, key=key, help=what)
