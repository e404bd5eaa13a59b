"""The pictures to which the pages add noise: digits, and CIFAR-10 if it is on this machine, or a model's pictures."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import streamlit as st
from torch import Tensor

from diffusion_explained.data import ImageDataset, bundled_mnist, load_dataset, made_by_model
from explorer import page, part_labels, sharing

CIFAR10_BYTES = 119_705_255  # the size of the train split's file on the hub
POLL = 0.25  # seconds between readings of a download's progress


@st.cache_resource(show_spinner="Unpacking the pictures")
def _unpacked(data: str) -> ImageDataset:
    if data == "mnist":
        return bundled_mnist()
    try:
        return load_dataset(data, "train", download=False)
    except OSError:  # the data set is missing, or damaged; the download reports which
        return made_by_model(data)


def pictures(data: str) -> ImageDataset:
    """The 10,000 digits that ship with the package; CIFAR-10's train split, or pictures made by a model."""
    with page.needed("The file of pictures that ships with the package"):
        return _unpacked(data)


def look_again() -> None:
    """Forget whether CIFAR-10 is on this machine, and look for it when it is next needed."""
    _unpacked.clear()


def real_images(data: str) -> bool:
    """Whether `pictures` returns images of the data set itself."""
    return pictures(data).split != "made"


def per_class(data: str) -> int:
    """How many pictures the smallest class has."""
    return int(pictures(data).labels.bincount().min())


def picture(data: str, label: int, number: int) -> Tensor:
    """The number-th picture of a class, x_0 [1, C, H, W]."""
    of_data = pictures(data)
    index = (of_data.labels == label).nonzero().flatten()[number]
    return of_data.batch(index[None])[0]


def origin(data: str) -> None:
    """Say whether CIFAR-10's pictures are real, and offer to download the real ones. Digits are always real."""
    if data == "mnist":
        return
    if real_images(data):
        st.caption(part_labels.Pictures.real)
        return
    words, offer = st.columns([2.2, 1], gap="medium", vertical_alignment="center")
    words.info(
        part_labels.Pictures.not_real,
        icon=":material/smart_toy:",
    )
    if sharing.is_shared():
        sharing.say(sharing.NO_DOWNLOAD)
        return
    if offer.button(
        part_labels.Pictures.download.format(megabytes=CIFAR10_BYTES / 1e6),
        icon=":material/download:",
        key="download",
        width="stretch",
        help=part_labels.Pictures.download_help,
    ):
        try:
            download()
        except (OSError, ValueError) as error:
            st.error(page.literal(part_labels.Pictures.failed.format(error=error)), icon=":material/cloud_off:")
        else:
            look_again()
            st.rerun()


def download() -> None:
    """Download and decode CIFAR-10's train split. Leaving the page does not stop it, and keeps what has arrived.

    Raises DataUnavailableError or DamagedDataError, whose messages say what to do; ValueError on a shared explorer.
    """
    sharing.refuse(sharing.NO_DOWNLOAD)
    worker = ThreadPoolExecutor(1)
    job = worker.submit(load_dataset, "cifar10", "train")
    worker.shutdown(wait=False)
    with page.progress("CIFAR-10") as tell:
        while not job.done():
            fetched = incomplete_bytes()
            doing = f"{fetched / 1e6:.0f} of {CIFAR10_BYTES / 1e6:.0f} MB" if fetched else "asking the hub, or decoding"
            tell(fetched / CIFAR10_BYTES, doing)
            time.sleep(POLL)
    job.result()


def incomplete_bytes() -> int:
    """How many bytes of a running download have arrived, from the cache of the hub's client."""
    from huggingface_hub.constants import HF_HUB_CACHE

    blobs = Path(os.environ.get("HF_HUB_CACHE") or HF_HUB_CACHE) / "datasets--uoft-cs--cifar10" / "blobs"
    return sum(part.stat().st_size for part in blobs.glob("*.incomplete"))
