"""How the explorer is served: its address, its path, its host names, and whether to one person or to several.

For one person, it answers only this machine, because every visitor can open model folders, start downloads and long
computations. Shared, these functions are disabled (`app/explorer/sharing.py`), and other machines are admitted. In both
cases a request must use one of the explorer's host names, and must not come from another web page: any web page that is
open in a visitor's browser can send requests to any address (cross-site WebSockets), and can point its own host name to
this machine's address (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

LOCALHOST = "127.0.0.1"
LOCAL_NAMES = ("localhost", LOCALHOST, "::1")
SHARED, ALLOWED_HOSTS, VISITORS = (
    "DIFFUSION_EXPLAINED_SHARED",
    "DIFFUSION_EXPLAINED_ALLOWED_HOSTS",
    "DIFFUSION_EXPLAINED_VISITORS",
)  # environment variables of the server
MOST_VISITORS, LARGEST_BOUND = 60, 1000  # of a shared explorer at once: the default, and the largest choice
LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
NAME = re.compile(rf"{LABEL}(\.{LABEL})*\.?", re.ASCII)
SEGMENT = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)
LONGEST_NAME, LONGEST_PATH = 253, 200  # letters
SHOWN = 80  # letters of a request's header that a message repeats
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Serving:
    """The settings with which the explorer is served, checked by `serving`.

    host: as the user gave it; address: its IP address; base_path: "" or "/one/two"; allowed_hosts: host names that
    requests may use in addition to those of this machine; visitors: how many may use a shared explorer at once.
    """

    host: str = "localhost"
    address: str = LOCALHOST
    base_path: str = ""
    shared: bool = False
    allowed_hosts: tuple[str, ...] = ()
    visitors: int = MOST_VISITORS

    @property
    def name(self) -> str:
        """The host name for a browser on this machine; an IPv6 address is in brackets."""
        local = ipaddress.ip_address(self.address).is_unspecified
        name = LOCALHOST if local else self.address
        return f"[{name}]" if ":" in name else name

    def url(self, port: int) -> str:
        """The URL for a browser on this machine."""
        return f"http://{self.name}:{port}{self.base_path}"

    @property
    def known_as(self) -> str:
        """A sentence or two about the host names that visitors can use."""
        if is_loopback(self.address):
            named = f", as {', '.join(self.allowed_hosts)}" if self.allowed_hosts else ""
            return f"Other machines reach it only through a proxy{named}; --host 0.0.0.0 admits them directly."
        named = f" or as {', '.join(self.allowed_hosts)}" if self.allowed_hosts else ""
        return f"Visitors reach it by an IP address of this machine{named}; --allowed-host adds a name."

    def environment(self) -> dict[str, str]:
        """Environment variables for `app/server.py` and the pages; shared, the Hugging Face client is offline too."""
        return {
            SHARED: "1" if self.shared else "0",
            ALLOWED_HOSTS: " ".join(self.allowed_hosts),
            VISITORS: str(self.visitors),
            **({"HF_HUB_OFFLINE": "1"} if self.shared else {}),
        }


ALONE = Serving()


def serving(
    host: str | None = None,
    base_path: str = "",
    *,
    shared: bool = False,
    allowed_hosts: Sequence[str] = (),
    visitors: int | None = None,
) -> Serving:
    """Check the options of the command line. Raises ValueError, and OSError for a host name without a known address."""
    given = "localhost" if host is None else host.strip()
    if visitors is not None and not shared:
        raise ValueError(
            f"--visitors {visitors} limits a shared explorer, and this one serves one person. Add --shared, or leave "
            "--visitors out."
        )
    most = MOST_VISITORS if visitors is None else most_visitors({VISITORS: str(visitors)}, "--visitors")
    address, path = address_of(given), checked_base_path(base_path)
    names = [checked_name(name, "--allowed-host") for name in allowed_hosts]
    if not shared and not is_loopback(address):
        raise ValueError(
            f"--host {given} would serve other machines, whose users could open this machine's folders and start "
            "downloads and long computations. Add --shared, which disables or limits these; or leave --host out and "
            f"connect through a tunnel: ssh -L 8501:localhost:8501 {socket.gethostname()}"
        )
    if not shared and (strange := [name for name in names if not is_local(name)]):
        raise ValueError(
            f"--allowed-host {strange[0]} would serve all visitors who use that host name, for example through a "
            "proxy, and they could open this machine's folders and start downloads and long computations. Add "
            "--shared, which disables or limits these; or leave --allowed-host out."
        )
    own = [] if is_local(given) or _is_ip(normal(given)) else [given]
    return Serving(given, address, path, shared, tuple(dict.fromkeys(normal(name) for name in [*own, *names])), most)


def address_of(host: str) -> str:
    """The IP address of this machine that --host means. Raises OSError for a host name without a known address."""
    name = checked_name(host, "--host")
    if _is_ip(name):
        return str(ipaddress.ip_address(name))
    if name.lower() == "localhost":
        return LOCALHOST
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        raise OSError(
            f"--host {name} has no known address. Give localhost, an IP address of this machine, or 0.0.0.0 for all "
            "addresses of this machine."
        ) from None
    return str(min(found, key=lambda one: one[0] != socket.AF_INET)[4][0])


def checked_name(text: str, option: str) -> str:
    """Check a host name or IP address given to an option; an IPv6 address may be in brackets, which are removed.

    Raises ValueError for anything else.
    """
    name = text.strip()
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if _is_ip(bare):
        return bare
    if len(name) > LONGEST_NAME or not NAME.fullmatch(name) or re.fullmatch(r"[0-9.]+", name):
        raise ValueError(
            f"{option} {text!r} is not a host name or IP address. Give the name alone, in ASCII letters, without "
            "http:// and without a port (--port): localhost, class.example.edu, 192.168.1.5, ::1."
        )
    return name


def checked_base_path(text: str) -> str:
    """ "" or "/one/two" from a path given with or without slashes around it. Raises ValueError for anything else."""
    path = text.strip().strip("/")
    segments = path.split("/") if path else []
    if len(path) > LONGEST_PATH or any(not SEGMENT.fullmatch(one) or set(one) == {"."} for one in segments):
        raise ValueError(
            f"--base-path {text!r} is not a path of a URL. Allowed are words of ASCII letters, digits and . _ ~ - "
            "between slashes, such as /diffusion or /course/explorer."
        )
    return "".join(f"/{one}" for one in segments)


def is_loopback(address: str) -> bool:
    """Whether an IP address is a loopback address, which only this machine can reach."""
    return ipaddress.ip_address(address).is_loopback


def is_local(name: str) -> bool:
    """Whether a name means this machine in every browser, so that no web page can point it to another machine."""
    return normal(name) == "localhost" or (_is_ip(name) and is_loopback(name))


# -- which requests are admitted ----------------------------------------------------------------------------


def is_shared(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process serves several people: the variable SHARED is set to anything but 0 or an empty text."""
    return environment.get(SHARED, "").strip() not in ("", "0")


def most_visitors(environment: Mapping[str, str] = os.environ, what: str = VISITORS) -> int:
    """How many visitors a shared explorer serves at once. Raises ValueError, naming `what`, for another bound."""
    text = environment.get(VISITORS, "").strip() or str(MOST_VISITORS)
    if not re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) or not 1 <= int(text) <= LARGEST_BOUND:
        raise ValueError(f"{what} must be a whole number from 1 to {LARGEST_BOUND}; got {_said(text)}.")
    return int(text)


def names_of(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The host names that requests to this process may use."""
    return (*LOCAL_NAMES, *map(normal, environment.get(ALLOWED_HOSTS, "").split()))


def refusal(
    hosts: Iterable[str], origins: Iterable[str], address: str, names: Sequence[str], *, shared: bool
) -> str | None:
    """Why a request is refused, as a message for the visitor; None if the request is admitted.

    hosts, origins: the request's Host and Origin headers (a browser sends exactly one Host and at most one Origin);
    address: the address of this machine to which the connection was made; names: the host names that are allowed.

    The Host must be one of the names. An IP address, unlike a name, cannot be pointed to another machine, so if several
    people are served, the connection's own address is allowed too. The Origin, if there is one, must be equal to the
    Host: the request then comes from a page of this explorer.
    """
    hosts, origins = tuple(hosts), tuple(origins)
    host = _authority(hosts[0]) if len(hosts) == 1 else None
    if host is None:
        return "This request does not name its host (with one Host header), so the explorer does not answer it."
    name, port = host
    if name not in names and not (_is_ip(name) and name == normal(address) and (shared or is_loopback(address))):
        own = f"{', '.join(names)}{' and to its IP address' if shared else ''}"
        how = f"diffusion-explained app --shared --allowed-host {_said(name)}"
        return (
            f"{_said(name)} is not a host name of this explorer, so it does not answer: another web page may have sent "
            f"this request. It answers to {own}. To allow that name, start the explorer with: {how}"
        )
    if origins and not (len(origins) == 1 and _same(origins[0], name, port)):
        return (
            f"This request comes from a page of {_said(origins[0])}, and only pages of {_said(hosts[0])} itself may "
            "use this explorer. If there is a proxy, it must pass the Host header on unchanged."
        )
    return None


def _authority(text: str) -> tuple[str, int | None] | None:
    """The name and port in a Host header; None if the header is not valid."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#@\s\\]+)(?::([0-9]{1,5}))?", text, re.ASCII)
    return found and (normal(found[1]), int(found[2]) if found[2] else None)


def _same(origin: str, name: str, port: int | None) -> bool:
    """Whether an Origin header is a page of this host and port; a missing port means the scheme's default."""
    scheme, _, rest = origin.partition("://")
    theirs = _authority(rest)
    if scheme not in DEFAULT_PORTS or theirs is None:
        return False
    usual = DEFAULT_PORTS[scheme]
    return (theirs[0], theirs[1] or usual) == (name, port or usual)


def normal(name: str) -> str:
    """Normalize a name or IP address for comparison: lower case, no brackets, no last dot, IPv4 in IPv6 as IPv4."""
    bare = name.strip("[]").lower().rstrip(".")
    if not _is_ip(bare):
        return bare
    ip = ipaddress.ip_address(bare)
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _said(text: str) -> str:
    """A text of a request as repeated in a message: in ASCII, and shortened."""
    shown = ascii(text)[1:-1]
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
