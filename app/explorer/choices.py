"""The choice that the pages share: data set and network, kept in the address and for the whole visit."""

from dataclasses import dataclass

import streamlit as st

from explorer import address, controls, taught
from explorer.setting_types import OneOf, one

DATA = {"mnist": "MNIST digits", "cifar10": "CIFAR-10 pictures"}
NETWORKS = {  # what each network is, grouped by data set; the first of a group is the default
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
PATIENCE = (
    "This network takes about seven times as long as the small U-Nets, so the pages start with fewer steps and images."
)
NO_GUIDANCE = "Guidance was trained into this network when its flow was rectified, so it is sampled at w = 1."


def networks_of(data: str) -> list[str]:
    """The networks of a data set, by name; those that the visitor trained on the page Training are the last."""
    names = [*NETWORKS, *st.session_state.get("taught", ())]
    return [name for name in names if data_of(name) == data]


def words_of(name: str) -> str:
    """What a network is."""
    lesson = taught.lesson_of(name)
    return NETWORKS[name] if lesson is None else lesson.words


def use(name: str) -> None:
    """Make a network that the visitor trained the chosen one of the other pages."""
    st.session_state.chosen = name
    st.session_state.taught = list(dict.fromkeys([*st.session_state.get("taught", ()), name]))


@dataclass(frozen=True)
class Network:
    """The name of a network: one that ships with the package, or one that was trained in this explorer."""

    def read(self, texts: list[str]) -> str:
        name = one(texts)
        if not self.has(name):
            raise ValueError("No network that is known here.")
        return name

    def write(self, value: str) -> list[str]:
        return [value]

    def has(self, value: object) -> bool:
        return value in NETWORKS or taught.is_finished(value)


def data_of(model: str) -> str:
    """The data set that a network was trained on."""
    return model.split("_")[0]


def pace_of(model: str) -> str:
    """How much a network can compute while a visitor waits: "digits", "pictures" or "slow"."""
    return "slow" if model in SLOW else "digits" if data_of(model) == "mnist" else "pictures"


@dataclass(frozen=True)
class Choice:
    """The visitor's data set and network; renewed: whether the visitor has just changed the data set."""

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
        """A widget's default for this data set; the widget is set to it when the visitor changes the data set."""
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
    """The switch between the data sets. With `network`, call `pick_network` next; the address then names the network.

    The address may name a network or a data set; it overrides what was chosen on another page.
    """
    chosen = st.session_state.setdefault("chosen", FIRST)
    data = address.read("data", OneOf(tuple(DATA)), None)
    model = address.read("model", Network(), None)
    if model is not None:
        chosen = model
    elif data is not None and data != data_of(chosen):
        chosen = networks_of(data)[0]
    if not Network().has(chosen):  # a client can send any value back, and this becomes a file's name
        chosen = FIRST
    if chosen not in NETWORKS:
        use(chosen)
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
    """The list of the networks of the chosen data set."""
    st.session_state.model = choice.model
    st.selectbox(label, networks_of(choice.data), format_func=words_of, key="model", on_change=_other_model)
    if choice.pace == "slow":
        st.caption(PATIENCE)


def guidance_slider(choice: Choice, key: str, most: float, usual: float, *, rectified: bool) -> float:
    """The guidance scale w, `usual` by default. A rectified network stays at 1; a caption says why."""
    if rectified:
        st.slider("Guidance scale w", 0.0, most, 1.0, 0.5, key="no_guidance", disabled=True)
        st.caption(NO_GUIDANCE)
        return 1.0
    what = "1 is off, 0 ignores the class."
    return controls.slider(st, "Guidance scale w", 0.0, most, choice.default(key, usual), 0.5, key=key, help=what)
