"""The explorer behind a check of every request; `diffusion-explained app` runs `streamlit run app/server.py`.

Streamlit itself checks the Host header of its WebSocket only, and accepts pages from any port of this machine.
"""

import logging
import re
import threading
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import streamlit as st
from explorer import sharing
from explorer.turns import warm_up
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from streamlit import runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

from diffusion_explained.serving import is_shared, most_visitors, names_of, refusal

UPLOAD = re.compile(r".*/_stcore/upload_file/([^/]+)/[^/]+")  # the path of a visitor's file; the group: the session
LOG = logging.getLogger(__name__)
HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'self'",  # no foreign page can embed this one to catch clicks
    "X-Content-Type-Options": "nosniff",
}


class Door:
    """Accept requests to the explorer's own host from its own pages; answer the others with 403 and the reason."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.names, self.shared = app, names_of(), is_shared()
        self.connections, self.most = 0, 2 * most_visitors()  # visitors.py tells those beyond the bound so, in words

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers, (address, _) = HTTPConnection(scope).headers, scope["server"]
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        why = refusal(hosts, origins, address, self.names, shared=self.shared)
        socket = scope["type"] == "websocket"
        if why is None and socket and self.shared and self.connections >= self.most:
            why = f"{self.connections} pages are connected, twice as many as --visitors allows: one more was refused."
        if why is None:
            self.connections += socket
            try:
                await self.app(scope, receive, guarded(send))
            finally:
                self.connections -= socket
            if scope.get("method") == "PUT" and (upload := UPLOAD.fullmatch(scope["path"])):
                keep_newest(runtime.get_instance().uploaded_file_mgr, upload[1])
            return
        if scope["type"] == "http":
            await PlainTextResponse(f"{why}\n", 403, HEADERS)(scope, receive, send)
        else:  # a browser does not show why a WebSocket was refused, so the reason goes to the server's log
            LOG.warning(why)
            await WebSocket(scope, receive, send).close(1008)


def guarded(send: Send) -> Send:
    """Wrap `send` so that each HTTP response carries HEADERS."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sent


def keep_newest(manager: MemoryUploadedFileManager, session: str) -> None:
    """Drop a visitor's oldest files, beyond the bounds of `sharing.uploads`.

    Streamlit keeps each file until its visitor leaves, although a page that is left has forgotten its files.
    """
    files, (most, megabytes) = list(manager.file_storage.get(session, {}).values()), sharing.uploads()
    while len(files) > most or sum(len(file.data) for file in files) > megabytes * 2**20:
        manager.remove_file(session, files.pop(0).file_id)


@asynccontextmanager
async def opened(_: st.App) -> AsyncIterator[None]:
    """Warm up, and open the browser unless the server is headless; Streamlit does not open it for an app like this one.

    The server's socket already listens, so the browser waits for the first answer.
    """
    threading.Thread(target=warm_up, daemon=True).start()  # because importing torch takes seconds
    if not st.get_option("server.headless"):
        path = st.get_option("server.baseUrlPath").strip("/")
        url = f"http://{st.get_option('browser.serverAddress')}:{st.get_option('server.port')}/{path}"
        # not awaited: the call may last as long as the browser runs
        threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
    yield


app = st.App("main.py", middleware=[Middleware(Door)], lifespan=opened)
