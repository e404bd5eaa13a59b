"""Who the explorer is served to: the options of `diffusion-explained app`, and who may enter, without a server."""

import socket
import string

import pytest
from test_cli import assert_refused, run

from diffusion_explained.cli import launch
from diffusion_explained.serving import (
    LOCAL_NAMES,
    LOCALHOST,
    Serving,
    is_shared,
    most_visitors,
    names_of,
    refusal,
    serving,
)  # fmt: skip

CLASS = "class.example.edu"


# The options


def test_alone_it_serves_this_machine_only():
    assert serving() == serving("localhost") == Serving()
    assert serving().url(8501) == "http://127.0.0.1:8501"
    assert not is_shared(serving().environment()) and names_of(serving().environment()) == LOCAL_NAMES
    assert serving("::1").url(8501) == serving("[::1]").url(8501) == "http://[::1]:8501"
    assert serving("127.0.0.2").address == "127.0.0.2"


def test_shared_it_serves_others_and_its_pages_and_the_hubs_client_know():
    served = serving("0.0.0.0", "/explorer", shared=True, allowed_hosts=[CLASS, "Other.Example.EDU.", CLASS])
    assert served.address == "0.0.0.0" and served.url(80) == "http://127.0.0.1:80/explorer"
    assert served.allowed_hosts == (CLASS, "other.example.edu")
    environment = served.environment()
    assert is_shared(environment) and environment["HF_HUB_OFFLINE"] == "1"
    assert names_of(environment) == (*LOCAL_NAMES, CLASS, "other.example.edu")
    assert "HF_HUB_OFFLINE" not in serving().environment()


@pytest.mark.parametrize("visitors", [0, -1, 1001, 10**30, 2.5, "many", True, "²"])
def test_the_bound_on_visitors_is_a_whole_number(visitors):
    with pytest.raises(ValueError, match="--visitors must be a whole number from 1 to 1000; got"):
        serving(shared=True, visitors=visitors)
    with pytest.raises(ValueError, match="DIFFUSION_EXPLAINED_VISITORS must be a whole number"):
        most_visitors({"DIFFUSION_EXPLAINED_VISITORS": str(visitors)})


def test_a_bound_on_visitors_without_shared_is_refused():
    with pytest.raises(ValueError, match=r"--visitors 5 limits a shared explorer, and .* Add --shared"):
        serving(visitors=5)


def test_the_bound_on_visitors_is_60_unless_it_is_given():
    assert most_visitors({}) == most_visitors(serving(shared=True).environment()) == 60
    assert most_visitors(serving(shared=True, visitors=5).environment()) == 5


@pytest.mark.parametrize("value", ["1", "true", "yes", "no"])
def test_whoever_sets_the_variable_by_hand_means_shared(value: str):
    assert is_shared({"DIFFUSION_EXPLAINED_SHARED": value})
    assert not is_shared({"DIFFUSION_EXPLAINED_SHARED": "0"}) and not is_shared({})


def test_a_name_of_this_machine_is_allowed_by_being_served_on(monkeypatch: pytest.MonkeyPatch):
    found = [(socket.AF_INET6, 1, 6, "", ("::1", 0, 0, 0)), (socket.AF_INET, 1, 6, "", ("192.0.2.7", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    served = serving("Lab-PC", shared=True)
    assert (served.address, served.allowed_hosts) == ("192.0.2.7", ("lab-pc",))
    assert_refused(run("app", "--host", "Lab-PC"), "--host Lab-PC", "--shared")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "[2001:db8::1]"])
def test_others_are_served_only_from_a_shared_explorer(host: str):
    assert_refused(run("app", "--host", host), f"--host {host}", "--shared", "ssh -L 8501:localhost:8501")


def test_another_name_is_for_a_shared_explorer_too():
    assert_refused(run("app", "--allowed-host", CLASS), f"--allowed-host {CLASS}", "--shared")
    assert serving(allowed_hosts=["localhost"]).allowed_hosts == ("localhost",)


@pytest.mark.parametrize(
    "name",
    ["", " ", "http://localhost", "localhost:8501", "a b", "a/b", "user@host", "*", "*.example.edu", "999.1.1.1", "1.2",
     "münchen.de", "-a", "a..b", "a" * 64, "[localhost]", "unix:///tmp/socket", "fe80::1::2"],
)  # fmt: skip
@pytest.mark.parametrize("option", ["--host", "--allowed-host"])
def test_what_is_no_name_of_a_host_is_refused(option: str, name: str):
    assert_refused(run("app", "--shared", f"{option}={name}"), option, "not a host name or IP address")


def test_a_host_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch):
    def unknown(*_, **__):
        raise socket.gaierror("Name or service not known")

    assert_refused(
        run("app", "--shared", "--host", "192.0.2.1"), "192.0.2.1 is not an address of this machine", "0.0.0.0"
    )
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert_refused(
        run("app", "--shared", "--host", "nosuch.example"), "nosuch.example", "has no known address", "0.0.0.0"
    )


def test_a_port_is_looked_for_on_the_address_that_is_served():
    with socket.socket() as other:
        other.bind(("127.0.0.2", 0))
        other.listen()
        busy = other.getsockname()[1]
        assert_refused(run("app", "--host", "127.0.0.2", "--port", busy), f"Port {busy} is in use")
        assert launch.free_port(busy, exact=True) == busy


@pytest.mark.parametrize(
    ("given", "path"),
    [("", ""), ("/", ""), ("explorer", "/explorer"), ("/one/two/", "/one/two"), ("a.b_c~d-1", "/a.b_c~d-1")],
)
def test_a_base_path_may_have_slashes_around_it(given: str, path: str):
    assert serving(base_path=given).base_path == path
    assert f"--server.baseUrlPath={path}" in launch.streamlit_command(1, browser=False, serving=serving(None, given))


@pytest.mark.parametrize(
    "path",
    ["http://a/b", "/a/../b", "/a/./b", "//a//b", "a b", "a?b", "a#b", "a%2fb", "a\\b", "é", "a\x00", "{x}", "a" * 201],
)
def test_what_is_no_path_is_refused(path: str):
    assert_refused(run("app", f"--base-path={path}"), "--base-path", "not a path of a URL")


# Who may enter


def enters(host: str, origin: str | None = None, *, address: str = LOCALHOST, shared: bool = False, names=LOCAL_NAMES):
    return refusal([host], [] if origin is None else [origin], address, names, shared=shared) is None


@pytest.mark.parametrize(
    "host", ["localhost:8501", "LOCALHOST:8501", "localhost", "localhost.:8501", "127.0.0.1:8501", "[::1]:8501"]
)
def test_this_machine_may_enter(host: str):
    assert enters(host) and enters(host, f"http://{host}")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8501", "localhost.evil.example", "evil.localhost", "127.0.0.1.evil.example",
     "0.0.0.0", "192.0.2.7:8501", "localhost@evil.example", "localhost:8501/", "localhost:port", "[localhost]", "", " ",
     "a,localhost", "localhost:8501:1", "127.1", "2130706433", "0x7f.1", "[::ffff:192.0.2.7]"],
)  # fmt: skip
def test_a_name_that_a_stranger_gave_to_this_machine_does_not_enter(host: str):
    assert not enters(host)
    assert not enters(host, address="192.0.2.7")


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://evil.example:8501", "null", "", "http://localhost", "http://localhost:8888",
     "http://127.0.0.1:8501", "https://localhost", "http://localhost:8501.evil.example", "http://localhost:8501/",
     "http://evil.example@localhost:8501", "file://localhost:8501", "ws://localhost:8501", "localhost:8501",
     "http://localhost:85010", "http://LOCALHOST.evil.example:8501", "chrome-extension://abcdef"],
)  # fmt: skip
def test_a_page_of_another_host_or_port_does_not_enter(origin: str):
    assert enters("localhost:8501", "http://localhost:8501")
    assert not enters("localhost:8501", origin)


def test_a_request_has_one_host_and_at_most_one_origin():
    assert refusal([], [], LOCALHOST, LOCAL_NAMES, shared=False)
    assert refusal(["localhost", "localhost"], [], LOCALHOST, LOCAL_NAMES, shared=False)
    assert refusal(["localhost"], ["http://localhost", "http://localhost"], LOCALHOST, LOCAL_NAMES, shared=False)


def test_shared_the_address_of_the_connection_will_do_and_names_that_were_given():
    lan = {"address": "192.0.2.7", "shared": True}
    assert enters("192.0.2.7:8501", "http://192.0.2.7:8501", **lan)
    assert enters("192.0.2.7:8501", address="::ffff:192.0.2.7", shared=True)
    assert enters("[2001:db8::1]:8501", address="2001:0db8::0001", shared=True)
    assert not enters("192.0.2.8:8501", **lan) and not enters(CLASS, **lan)
    assert not enters("192.0.2.7:8501", address="192.0.2.7"), "alone it is for this machine"
    names = (*LOCAL_NAMES, CLASS)
    assert enters(CLASS.upper(), f"https://{CLASS}", names=names, **lan)
    assert enters(CLASS, f"http://{CLASS}:80", names=names, **lan)
    assert enters(f"{CLASS}:443", f"https://{CLASS}", names=names, **lan)
    assert not enters(CLASS, f"http://{CLASS}:8080", names=names, **lan)
    assert not enters(f"sub.{CLASS}", names=names, **lan)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "\x1b[31m\r\nSet-Cookie: a", "é" * 500, "a" * 5000])
def test_what_a_stranger_says_is_repeated_as_plain_letters_and_cut(text: str):
    for said in (
        refusal([text], [], LOCALHOST, LOCAL_NAMES, shared=False),
        refusal(["localhost"], [text], LOCALHOST, LOCAL_NAMES, shared=False),
    ):
        assert set(said) <= set(string.printable) - set("\r\n\x1b") and len(said) < 700
