"""The four packages of the npm registry with the emoji: pinned, verified, and kept in the cache folder."""

from __future__ import annotations

import base64
import hashlib
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from diffusion_explained.data.hub import DamagedDataError, DataUnavailableError
from diffusion_explained.data.load import cache_folder
from diffusion_explained.files import atomic_path

REGISTRY = "https://registry.npmjs.org"


@dataclass(frozen=True)
class NpmPackage:
    """One version of one package, with the SHA-512 of its archive that the registry publishes (`dist.integrity`)."""

    name: str
    version: str
    sha512: str  # base64, as npm writes it
    licence: str  # the licence of the parts that are used
    credit: str

    @property
    def filename(self) -> str:
        """The archive's file name, without the scope (`@twemoji/`)."""
        return f"{self.name.split('/')[-1]}-{self.version}.tgz"

    @property
    def url(self) -> str:
        """The archive's address in the registry."""
        return f"{REGISTRY}/{self.name}/-/{self.filename}"


FLUENT = NpmPackage(
    "@iconify-json/fluent-emoji-flat",
    "1.2.6",
    "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
    "MIT",
    "Fluent Emoji (flat), Microsoft Corporation, https://github.com/microsoft/fluentui-emoji",
)
NOTO = NpmPackage(
    "@iconify-json/noto",
    "1.2.9",
    "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
    "Apache-2.0",
    "Noto Emoji, Google Inc, https://github.com/googlefonts/noto-emoji",
)
# The package states MIT, which is the licence of Twemoji's code; the graphics are CC BY 4.0 (its LICENSE-GRAPHICS).
TWEMOJI = NpmPackage(
    "@twemoji/svg",
    "15.0.0",
    "ZSPef2B6nBaYnfgdTbAy4jgW95o7pi2xPGwGCU+WMTxo7J6B1lMPTWwSq/wTuiMq+N0khQ90CcvYp1wFoQpo/w==",
    "CC-BY-4.0",
    "Twemoji, Twitter Inc and other contributors, https://github.com/jdecked/twemoji",
)
EMOJIBASE = NpmPackage(
    "emojibase-data",
    "17.0.0",
    "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    "MIT",
    "emojibase-data, Miles Johnson, https://github.com/milesj/emojibase",
)
PACKAGES = (FLUENT, NOTO, TWEMOJI, EMOJIBASE)


def package_archive(package: NpmPackage, timeout_s: float = 60.0) -> Path:
    """The path of the package's verified archive in the cache folder; it is downloaded if it is not there.

    Raises DataUnavailableError if the registry cannot be reached, DamagedDataError if the downloaded or cached file is
    not the pinned archive.
    """
    path = cache_folder() / "npm" / package.filename
    if not path.is_file():
        try:
            with urllib.request.urlopen(package.url, timeout=timeout_s) as answer:
                content = answer.read()
        except OSError as error:  # URLError, time-outs and refused connections are all OSErrors
            raise DataUnavailableError(
                f"{package.name} {package.version} cannot be fetched from {package.url}: {error}. Try again with a "
                f"network; or fetch it on another machine and put it at {path}:\n"
                f"    curl -o {package.filename} {package.url}"
            ) from error
        check_integrity(package, content, package.url, f"Try again; nothing was kept in {path.parent}.")
        with atomic_path(path) as part:
            part.write_bytes(content)
    else:
        check_integrity(package, path.read_bytes(), str(path), "Delete it, and it is fetched again.")
    return path


def check_integrity(package: NpmPackage, content: bytes, where: str, what_to_do: str) -> None:
    """Compare an archive with the pinned SHA-512; raise DamagedDataError, which says where it is and what to do."""
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != package.sha512:
        raise DamagedDataError(
            f"{where} is not {package.name} {package.version}: {len(content):,} bytes with sha512-{found}, "
            f"expected sha512-{package.sha512}. {what_to_do}"
        )


def read_members(package: NpmPackage, suffix: str) -> dict[str, bytes]:
    """The contents of the files of a package whose path ends in `suffix`, by path: {"en/data.json": ...}."""
    with tarfile.open(package_archive(package), "r:gz") as archive:
        found = {}
        for member in archive:
            file = archive.extractfile(member) if member.isfile() and member.name.endswith(suffix) else None
            if file is not None:
                found[member.name.removeprefix("package/")] = file.read()
        return found
