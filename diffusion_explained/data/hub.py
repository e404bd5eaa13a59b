"""A file of a Hugging Face data set: the local hub cache first, then the network, and at once a clear no."""

from __future__ import annotations

import os
import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from diffusion_explained.extras import extra


class DataUnavailableError(OSError):
    """The data is not on this machine and cannot be fetched now; the message says what to do."""


class DamagedDataError(OSError):
    """A file is there but is not what it should be; the message names it and how to fetch it again."""


def hub_is_reachable(timeout_s: float = 1.5) -> bool:
    """Whether a download could work: True if the hub (or the proxy on the way to it) accepts a connection.

    Left alone, the hub's client retries for about 23 seconds before it gives up; this asks once.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    proxy = urllib.request.getproxies().get(hub.scheme)
    if proxy and not urllib.request.proxy_bypass(hub.hostname or ""):
        hub = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    address = (hub.hostname or "", hub.port or (80 if hub.scheme == "http" else 443))
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(address, timeout_s).close()
        except OSError:
            return
        answered.set()

    # in a thread of its own because the name look-up, before the connection, knows no time limit
    probe = threading.Thread(target=connect, daemon=True)
    probe.start()
    probe.join(timeout_s)
    return answered.is_set()


def fetch_command(repo_id: str, filename: str, *, again: bool = False) -> str:
    """The shell command that downloads one file of a data set; `again`: over what the cache holds."""
    return f"hf download {repo_id} {filename} --repo-type dataset" + (" --force-download" if again else "")


def hub_file(repo_id: str, filename: str, *, download: bool = True) -> Path:
    """The local path of one file of a data set on the hub, downloaded if it must and can be.

    Raises DataUnavailableError when the file is in no cache and `download` is off, or the network is.
    """
    with extra("data"):
        from huggingface_hub import hf_hub_download  # lazy: it costs 0.3 s, and reads its environment at import

    where: dict[str, Any] = {"repo_id": repo_id, "filename": filename, "repo_type": "dataset"}
    # given by hand so that a notebook may set HF_HUB_CACHE after huggingface_hub was imported
    where["cache_dir"] = os.environ.get("HF_HUB_CACHE")
    try:
        return Path(hf_hub_download(**where, local_files_only=True))
    except OSError as error:
        if not download:
            raise DataUnavailableError(f"{filename} of {repo_id} is not in the hub's local cache") from error
    if not hub_is_reachable():
        raise DataUnavailableError(
            f"{filename} of {repo_id} is not in the hub's local cache, and there is no network to fetch it "
            f"(or HF_HUB_OFFLINE is set). Run once with a network:\n"
            f"    {fetch_command(repo_id, filename)}\n"
            f"or set HF_HUB_CACHE to a folder that has it."
        )
    try:
        return Path(hf_hub_download(**where))
    except Exception as error:  # the client's own errors, its HTTP library's, the disk's: all mean no file
        raise DataUnavailableError(
            f"downloading {filename} of {repo_id} failed: {type(error).__name__}: {error}. "
            f"Try again later, or run\n    {fetch_command(repo_id, filename)}"
        ) from error
