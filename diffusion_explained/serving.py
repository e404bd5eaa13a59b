"""How the explorer is served: on which address, below which path, under which names, to one person or to several.

Alone, it answers this machine only, for whoever reaches it may open model folders, start downloads and long work.
Shared, those doors are closed (`app/explorer/sharing.py`), and other machines may come. In both cases a request must
name the explorer by a name that is its own, and come from no other web page: a page of a stranger that is open in a
visitor's browser can send requests to any address (cross-site WebSockets), and can give its own name to this machine's
address (DNS rebinding).
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
SHARED, ALLOWED_HOSTS = "DIFFUSION_EXPLAINED_SHARED", "DIFFUSION_EXPLAINED_ALLOWED_HOSTS"  # of the server's environment
LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
NAME = re.compile(rf"{LABEL}(\.{LABEL})*\.?", re.ASCII)
SEGMENT = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)
LONGEST_NAME, LONGEST_PATH = 253, 200  # letters
SHOWN = 80  # letters of a stranger's header that are repeated
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Serving:
    """How the explorer is served, checked by `serving`.

    host: as it was given; address: the IP address that it stands for; base_path: "" or "/one/two"; allowed_hosts: names
    by which it may be called beside this machine's own.
    """

    host: str = "localhost"
    address: str = LOCALHOST
    base_path: str = ""
    shared: bool = False
    allowed_hosts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What this machine's own browser calls it; an IPv6 address in brackets."""
        local = ipaddress.ip_address(self.address).is_unspecified
        name = LOCALHOST if local else self.address
        return f"[{name}]" if ":" in name else name

    def url(self, port: int) -> str:
        """Where this machine's own browser finds it."""
        return f"http://{self.name}:{port}{self.base_path}"

    @property
    def known_as(self) -> str:
        """By which names visitors may call it, in a sentence or two."""
        if is_loopback(self.address):
            named = f", as {', '.join(self.allowed_hosts)}" if self.allowed_hosts else ""
            return f"Other machines reach it only through a proxy{named}; --host 0.0.0.0 lets them in directly."
        named = f" or as {', '.join(self.allowed_hosts)}" if self.allowed_hosts else ""
        return f"Visitors call it by an IP address of this machine{named}; --allowed-host adds a name."

    def environment(self) -> dict[str, str]:
        """What `app/server.py` and the pages know of it; shared, the hub's client is told to stay offline too."""
        return {
            SHARED: "1" if self.shared else "0",
            ALLOWED_HOSTS: " ".join(self.allowed_hosts),
            **({"HF_HUB_OFFLINE": "1"} if self.shared else {}),
        }


ALONE = Serving()


def serving(
    host: str | None = None, base_path: str = "", *, shared: bool = False, allowed_hosts: Sequence[str] = ()
) -> Serving:
    """The checked options of the command line. Raises ValueError, or OSError for a host that nothing here knows."""
    given = "localhost" if host is None else host.strip()
    address, path = address_of(given), checked_base_path(base_path)
    names = [checked_name(name, "--allowed-host") for name in allowed_hosts]
    if not shared and not is_loopback(address):
        raise ValueError(
            f"--host {given} would serve other machines, whose users could open this machine's folders and start "
            "downloads and long work. Add --shared, which closes and bounds all that; or leave --host out and come "
            f"through a tunnel: ssh -L 8501:localhost:8501 {socket.gethostname()}"
        )
    if not shared and (strange := [name for name in names if not is_local(name)]):
        raise ValueError(
            f"--allowed-host {strange[0]} would serve whoever calls this machine by that name, through a proxy say, "
            "and such visitors could open its folders and start downloads and long work. Add --shared, which closes "
            "and bounds all that; or leave --allowed-host out."
        )
    own = [] if is_local(given) or _is_ip(normal(given)) else [given]
    return Serving(given, address, path, shared, tuple(dict.fromkeys(normal(name) for name in [*own, *names])))


def address_of(host: str) -> str:
    """The IP address of this machine that --host stands for. Raises OSError for a name that is not known here."""
    name = checked_name(host, "--host")
    if _is_ip(name):
        return str(ipaddress.ip_address(name))
    if name.lower() == "localhost":
        return LOCALHOST
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        raise OSError(
            f"--host {name} stands for no address that is known here. Give localhost, an IP address of this machine, "
            "or 0.0.0.0 for all of them."
        ) from None
    return str(min(found, key=lambda one: one[0] != socket.AF_INET)[4][0])


def checked_name(text: str, option: str) -> str:
    """A host's name or IP address as it is given to an option; an IPv6 address may stand in brackets.

    Raises ValueError for what is no name or address.
    """
    name = text.strip()
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if _is_ip(bare):
        return bare
    if len(name) > LONGEST_NAME or not NAME.fullmatch(name) or re.fullmatch(r"[0-9.]+", name):
        raise ValueError(
            f"{option} {text!r} is no name or IP address of a host. Give it alone, without http:// and port (which has "
            "an option of its own), in ASCII letters: localhost, class.example.edu, 192.168.1.5, ::1."
        )
    return name


def checked_base_path(text: str) -> str:
    """ "" or "/one/two" from what was given, with or without slashes around it. Raises ValueError for anything else."""
    path = text.strip().strip("/")
    segments = path.split("/") if path else []
    if len(path) > LONGEST_PATH or any(not SEGMENT.fullmatch(one) or set(one) == {"."} for one in segments):
        raise ValueError(
            f"--base-path {text!r} is no path of an address. Allowed are words of ASCII letters, digits and . _ ~ - "
            "between slashes, as /diffusion or /course/explorer."
        )
    return "".join(f"/{one}" for one in segments)


def is_loopback(address: str) -> bool:
    """Whether an IP address reaches this machine only."""
    return ipaddress.ip_address(address).is_loopback


def is_local(name: str) -> bool:
    """Whether a name stands for this machine in any browser, so that no stranger can give it to another."""
    return normal(name) == "localhost" or (_is_ip(name) and is_loopback(name))


# -- who may enter ------------------------------------------------------------------------------------------


def is_shared(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process serves several people. Anything but nothing or 0 says so."""
    return environment.get(SHARED, "").strip() not in ("", "0")


def names_of(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The names by which this process may be called."""
    return (*LOCAL_NAMES, *map(normal, environment.get(ALLOWED_HOSTS, "").split()))


def refusal(
    hosts: Iterable[str], origins: Iterable[str], address: str, names: Sequence[str], *, shared: bool
) -> str | None:
    """Why a request may not enter, in words for whoever sent it; None if it may.

    hosts, origins: its Host and Origin headers, of which a browser sends one and at most one; address: the one of this
    machine to which the connection was made; names: by which it may be called.

    The Host must be one of the names. An IP address cannot be given to another machine as a name can: where several
    people are served, that of the connection will do. The Origin, if there is one, must be the Host: a page of this
    very explorer.
    """
    hosts, origins = tuple(hosts), tuple(origins)
    host = _authority(hosts[0]) if len(hosts) == 1 else None
    if host is None:
        return "This request does not say which host it means (one Host header), so the explorer does not answer it."
    name, port = host
    if name not in names and not (_is_ip(name) and name == normal(address) and (shared or is_loopback(address))):
        own = f"{', '.join(names)}{' and to its IP address' if shared else ''}"
        how = f"diffusion-explained app --shared --allowed-host {_said(name)}"
        return (
            f"This explorer is not known as {_said(name)}, so it does not answer: another web page may have sent this "
            f"request. It answers to {own}. If that name is meant to be its own, whoever runs it starts it with: {how}"
        )
    if origins and not (len(origins) == 1 and _same(origins[0], name, port)):
        return (
            f"This request comes from a page of {_said(origins[0])}, and only pages of {_said(hosts[0])} itself may "
            "use this explorer. If a proxy stands between, let it pass the Host header on unchanged."
        )
    return None


def _authority(text: str) -> tuple[str, int | None] | None:
    """Name and port of a Host header, None for what is none."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#@\s\\]+)(?::([0-9]{1,5}))?", text, re.ASCII)
    return found and (normal(found[1]), int(found[2]) if found[2] else None)


def _same(origin: str, name: str, port: int | None) -> bool:
    """Whether an Origin header is a page of this host and port; a port that is not said is the scheme's own."""
    scheme, _, rest = origin.partition("://")
    theirs = _authority(rest)
    if scheme not in DEFAULT_PORTS or theirs is None:
        return False
    usual = DEFAULT_PORTS[scheme]
    return (theirs[0], theirs[1] or usual) == (name, port or usual)


def normal(name: str) -> str:
    """A name or IP address as it is compared: lower case, without brackets and last dot, IPv4 in IPv6 as IPv4."""
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
    """A stranger's words in a message: ASCII, and cut."""
    shown = ascii(text)[1:-1]
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
