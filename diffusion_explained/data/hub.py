"""Get a file of a Hugging Face data set from the local hub cache or the network, or raise a clear error at once."""

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
    """A file exists but its content is wrong; the message names the file and says how to fetch it again."""


def hub_is_reachable(timeout_s: float = 1.5) -> bool:
    """Whether a download could work: True if the hub (or the proxy on the way to it) accepts a connection.

    The hub's own client retries for about 23 seconds before it gives up; this function tries once.
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

    # in a separate thread because the name look-up before the connection has no time limit
    probe = threading.Thread(target=connect, daemon=True)
    probe.start()
    probe.join(timeout_s)
    return answered.is_set()


def fetch_command(repo_id: str, filename: str, *, again: bool = False) -> str:
    """The shell command that downloads one file of a data set; `again`: even if it is in the cache."""
    return f"hf download {repo_id} {filename} --repo-type dataset" + (" --force-download" if again else "")


def hub_file(repo_id: str, filename: str, *, download: bool = True) -> Path:
    """The local path of one file of a data set on the hub; it is downloaded if it is not in the cache.

    Raises DataUnavailableError when the file is not in the cache, and `download` is off or there is no network.
    """
    with extra("data"):
        from huggingface_hub import hf_hub_download  # lazy: the import takes 0.3 s, and reads environment variables

    where: dict[str, Any] = {"repo_id": repo_id, "filename": filename, "repo_type": "dataset"}
    # passed explicitly so that a notebook may set HF_HUB_CACHE after huggingface_hub was imported
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
    except Exception as error:  # errors of the client, its HTTP library or the disk: all mean that there is no file
        raise DataUnavailableError(
            f"downloading {filename} of {repo_id} failed: {type(error).__name__}: {error}. "
            f"Try again later, or run\n    {fetch_command(repo_id, filename)}"
        ) from error
