"""The explorer with its door, which is what `diffusion-explained app` starts: `streamlit run app/server.py`.

Streamlit itself looks at the Host of its WebSocket alone, and lets pages of any port of this machine in.
"""

import logging
import threading
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import streamlit as st
from explorer.turns import warm_up
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from diffusion_explained.serving import is_shared, names_of, refusal

LOG = logging.getLogger(__name__)
HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'self'",  # no other page lays this one under its visitors' clicks
    "X-Content-Type-Options": "nosniff",
}


class Door:
    """Lets in what calls the explorer by its name and comes from its own pages; the rest gets 403, and why."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.names, self.shared = app, names_of(), is_shared()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers, (address, _) = HTTPConnection(scope).headers, scope["server"]
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        why = refusal(hosts, origins, address, self.names, shared=self.shared)
        if why is None:
            await self.app(scope, receive, guarded(send))
            return
        if scope["type"] == "http":
            await PlainTextResponse(f"{why}\n", 403, HEADERS)(scope, receive, send)
        else:  # a browser shows no words of a WebSocket that is refused, so whoever runs the explorer gets them
            LOG.warning(why)
            await WebSocket(scope, receive, send).close(1008)


def guarded(send: Send) -> Send:
    """`send`, with HEADERS in each HTTP answer."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sent


@asynccontextmanager
async def opened(_: st.App) -> AsyncIterator[None]:
    """Warm up, and open the browser, unless there is none: with a server like this one Streamlit leaves that out.

    The server's socket listens already, so the browser waits for the first answer.
    """
    threading.Thread(target=warm_up, daemon=True).start()  # importing torch takes seconds
    if not st.get_option("server.headless"):
        path = st.get_option("server.baseUrlPath").strip("/")
        url = f"http://{st.get_option('browser.serverAddress')}:{st.get_option('server.port')}/{path}"
        # not awaited, because it may last as long as the browser
        threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
    yield


app = st.App("main.py", middleware=[Middleware(Door)], lifespan=opened)
