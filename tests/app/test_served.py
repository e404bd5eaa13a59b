"""The explorer as a server: another web page cannot drive it, and it lives below a path and under a name."""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import server as app_server
from explorer import sharing
from in_browser import finished, ready
from servers import UPGRADE, answer, request, server, unused_port
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec

from diffusion_explained.cli import launch

NAME, BASE = "class.example.edu", "/course/explorer"


def of_machine() -> str:
    """An address of this machine by which others reach it; nothing is sent to find it. Loopback where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.2"
        return probe.getsockname()[0]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The explorer as it starts without options; its port."""
    port = unused_port()
    with server("app", "--port", port, "--no-browser", cwd=tmp_path_factory.mktemp("alone")) as process:
        assert answer(process, f"http://127.0.0.1:{port}/_stcore/health") == "ok"
        yield port


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The explorer for a class, below a path and on all addresses; its port, and its log."""
    port, folder = unused_port(), tmp_path_factory.mktemp("shared")
    options = ("--shared", "--host", "0.0.0.0", "--base-path", BASE, "--allowed-host", NAME)
    with server("app", "--port", port, "--no-browser", *options, cwd=folder) as process:
        assert answer(process, f"http://127.0.0.1:{port}{BASE}/_stcore/health") == "ok"
        yield port, folder / "log"


PATHS = ("/", "/forward", "/_stcore/health", "/_stcore/host-config", "/static/index.html", "/nothing/here")


def test_its_own_pages_are_served(alone: int):
    for host in (f"localhost:{alone}", f"127.0.0.1:{alone}", "localhost"):
        for path in PATHS[:4]:
            status, headers, _ = request(alone, path, {"Host": host})
            assert status == 200, path
            assert headers["content-security-policy"] == "frame-ancestors 'self'"
            assert request(alone, path, {"Host": host, "Origin": f"http://{host}"})[0] == 200
        own = {"Host": host, "Origin": f"http://{host}", **UPGRADE}
        assert request(alone, "/_stcore/stream", own)[0] == 101
    assert request(alone, "/_stcore/stream", UPGRADE)[0] == 101, "a program sends no Origin"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8501", "192.0.2.7", NAME, "localhost.evil.example"])
def test_a_name_that_is_not_its_own_is_refused(alone: int, host: str):
    """As a page sends it that gave its own name to this machine's address; same-origin, as its browser sees it."""
    for path in PATHS:
        status, _, said = request(alone, path, {"Host": host})
        assert status == 403 and "is not a host name of this explorer" in said and "--allowed-host" in said
    for origin in ({}, {"Origin": f"http://{host}"}):
        assert request(alone, "/_stcore/stream", {"Host": host, **origin, **UPGRADE})[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9", "http://127.0.0.1"])
def test_a_page_that_is_not_its_own_is_refused(alone: int, origin: str):
    assert request(alone, "/_stcore/stream", {"Origin": origin, **UPGRADE})[0] == 403
    for method, path in (("GET", "/"), ("GET", "/_stcore/health"), ("PUT", "/_stcore/upload_file/a/b"), ("POST", "/"),
                         ("DELETE", "/_stcore/upload_file/a/b"), ("OPTIONS", "/_stcore/upload_file/a/b")):  # fmt: skip
        status, headers, said = request(alone, path, {"Origin": origin}, method=method, body=b"x")
        assert status == 403 and "page of" in said, (method, path)
        assert "access-control-allow-origin" not in headers


def test_no_other_page_may_send_messages_to_a_framed_one(alone: int):
    assert '"allowedOrigins":[]' in request(alone, "/_stcore/host-config", {})[2]


def test_shared_it_is_known_by_its_address_and_by_the_name_that_was_given(shared: tuple[int, Path]):
    port, log = shared
    address = of_machine()
    stream, health = f"{BASE}/_stcore/stream", f"{BASE}/_stcore/health"
    for host in (f"{address}:{port}", NAME, f"{NAME}:{port}", f"localhost:{port}"):
        where = {"Host": host, "Origin": f"http://{host}"}
        assert request(port, health, where, address=address)[0] == 200, host
        assert request(port, stream, where | UPGRADE, address=address)[0] == 101, host
    behind_tls = {"Host": NAME, "Origin": f"https://{NAME}"}
    assert request(port, stream, behind_tls | UPGRADE)[0] == 101
    for host in ("evil.example", f"sub.{NAME}", "192.0.2.99"):
        assert request(port, health, {"Host": host}, address=address)[0] == 403, host
        assert request(port, stream, {"Host": host, **UPGRADE}, address=address)[0] == 403, host
    for origin in ("http://evil.example", f"http://{NAME}:9", f"http://{address}"):
        assert request(port, stream, {"Host": NAME, "Origin": origin, **UPGRADE})[0] == 403, origin
    assert "evil.example is not a host name" in log.read_text(), "who runs it reads why a WebSocket was refused"


def test_below_a_path_nothing_is_served_above_it(shared: tuple[int, Path]):
    port, _ = shared
    assert request(port, f"{BASE}/", {})[0] == request(port, f"{BASE}/reverse", {})[0] == 200
    for path in ("/_stcore/health", "/_stcore/host-config", "/course/_stcore/health"):
        assert request(port, path, {})[0] == 404, path


@pytest.mark.browser
def test_below_a_path_pages_films_and_addresses_work(shared: tuple[int, Path], chromium):
    """Pages by link, films and their frames, pictures, uploads: all from below the path, and nothing from elsewhere."""
    port, _ = shared
    top = f"http://127.0.0.1:{port}{BASE}"
    page, foreign, failed, errors, sockets = chromium.new_page(), [], [], [], []
    page.set_default_timeout(400_000)
    page.on("request", lambda r: foreign.append(r.url) if not r.url.startswith((f"{top}/", "data:", "blob:")) else None)
    page.on("response", lambda r: failed.append((r.status, r.url)) if r.status >= 400 else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("websocket", lambda one: sockets.append(one.url))
    page.goto(f"{top}/")
    finished(page)
    ready(page)
    page.get_by_test_id("stMain").get_by_role("link", name="Reverse").click()
    page.wait_for_url(f"{top}/reverse")
    finished(page)
    _, slider = ready(page)
    slider.fill("2")
    page.wait_for_url(f"{top}/reverse?frame=2")
    page.goto(f"{top}/forward?digit=7&frame=9&number=3")
    finished(page)
    _, slider = ready(page)
    assert slider.input_value() == "9"
    page.wait_for_url(f"{top}/forward?digit=7&number=3&frame=9")  # the page writes its address after it is drawn
    page.get_by_role("paragraph").filter(has_text="Your own image").first.click()
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(Path(__file__).parents[2] / "app" / "icon.png")
    page.get_by_text("It leaves out your own image").wait_for()
    too_large = {"name": "large.png", "mimeType": "image/png", "buffer": bytes(launch.UPLOAD_MB_SHARED * 2**20 + 1)}
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(too_large)
    page.get_by_text(f"{launch.UPLOAD_MB_SHARED}.0MB or smaller").wait_for()
    page.goto(f"{top}/schedules")
    finished(page)
    assert page.get_by_test_id("stMain").locator("img").first.evaluate("e => e.naturalWidth") > 0
    assert sockets and all(url == f"ws://127.0.0.1:{port}{BASE}/_stcore/stream" for url in sockets)
    # Streamlit's client asks whether the page's own address is where the server lives, one word after the other
    assert [one for one in failed if not one[1].endswith(("/_stcore/health", "/_stcore/host-config"))] == []
    assert (foreign, errors) == ([], [])
    page.close()


# -- a visitor's files --------------------------------------------------------------------------------------


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch):
    """send(session, name, megabytes) -> the names of that visitor's files that are kept after this one arrived."""
    manager = MemoryUploadedFileManager("")
    monkeypatch.setattr(app_server.runtime, "get_instance", lambda: SimpleNamespace(uploaded_file_mgr=manager))

    async def received(scope, receive, respond) -> None:
        *_, session, name = scope["path"].split("/")
        manager.add_file(session, UploadedFileRec(name, name, "image/png", bytes(scope["megabytes"] * 2**20)))

    def sent(session: str, name: str, megabytes: int = 0) -> list[str]:
        path, headers = f"{BASE}/_stcore/upload_file/{session}/{name}", [(b"host", b"localhost")]
        scope = {"type": "http", "method": "PUT", "path": path, "headers": headers, "server": ("127.0.0.1", 8501)}
        scope["megabytes"] = megabytes
        with ThreadPoolExecutor(1) as thread:  # this one may have a loop, the browser's
            thread.submit(asyncio.run, app_server.Door(received)(scope, None, None)).result()
        return list(manager.file_storage[session])

    return sent


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_visitor_s_files_are_bounded_and_nobody_else_s_are_touched(send, monkeypatch, is_shared):
    monkeypatch.setattr(sharing, "is_shared", lambda: is_shared)
    most, megabytes = sharing.uploads()
    assert (most, megabytes) == ((8, 40) if is_shared else (20, 100))
    send("other", "kept", megabytes)
    for k in range(3 * most):
        kept = send("visitor", f"file{k}")
        assert kept == [f"file{number}" for number in range(max(0, k + 1 - most), k + 1)]
    each = megabytes // 2
    for k in range(6):
        kept = send("visitor", f"large{k}", each)
    assert kept == ["large4", "large5"]
    assert send("other", "small") == ["kept", "small"]


def test_the_bounds_are_said_beside_each_file(open_page):
    for name, number in (("forward", 1), ("latents", 1)):
        helps = [one.proto.help for one in open_page(name).get("file_uploader")]
        assert len(helps) == number and all("the newest 20 are kept, at most 100 MB in all" in help for help in helps)
