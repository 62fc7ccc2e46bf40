"""Serves the page. The address answers at once with a small waiting page while Gradio is imported and the page built.

Nothing here imports Gradio or FastAPI before the address answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvicorn

from apps.connections import Connection, Repeats, close_idle
from apps.guard import App, Guard, Receive, Scope, Send, answer
from studio.config import Config
from studio.errors import Unsupported
from studio.studio import Studio

log = logging.getLogger(__name__)

WAITING = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Image Studio</title><style>
:root{color-scheme:light dark;background:#fbfbf9;color:#5b5e63}
@media(prefers-color-scheme:dark){:root{background:#131416;color:#a3a7ae}}
body{margin:0;min-height:100vh;display:grid;place-items:center;font:15px/1.45 Inter,system-ui,sans-serif}
i{display:block;width:160px;height:3px;border-radius:2px;margin:16px auto 0;opacity:.35;overflow:hidden;
background:color-mix(in srgb,currentColor 30%,transparent)}
i:after{content:"";display:block;height:100%;width:30%;background:currentColor;
animation:a 1.4s ease-in-out infinite alternate}
@keyframes a{to{margin-left:70%}}@media(prefers-reduced-motion:reduce){i:after{animation:none;width:100%}}
</style><div>Image Studio is starting<i></i></div>
<script>const look=()=>fetch("face/ready").then(r=>r.json())
.then(r=>r.ready?location.reload():setTimeout(look,250),()=>setTimeout(look,500));look()</script></html>"""

READY_S = 60.0
# How long a visitor's things wait for them after their last page was closed.
STAY_S = {"space": 6 * 3600.0, "kiosk": 60.0}
BACKLOG = 128

# In the page's head from the first byte on, so that nothing flashes and every piece finds its script.
HEAD = '<link rel="stylesheet" href="face/theme.css"><script src="face/studio.js"></script></head>'


class Front:
    """The ASGI app the server knows: a waiting page until the real app is put behind it.

    Who asks for anything but the page meanwhile waits for the answer; after READY_S they get 503 and may try again.
    """

    def __init__(self) -> None:
        self.app: App | None = None
        self._is_ready = asyncio.Event()
        self._lifespan = contextlib.AsyncExitStack()

    async def adopt(self, app: Any) -> None:
        """Starts a FastAPI app and serves it from now on."""
        await self._lifespan.enter_async_context(app.router.lifespan_context(app))
        self.app = app
        self._is_ready.set()

    async def close(self) -> None:
        await self._lifespan.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return None
        if scope["path"] == "/face/ready":
            ready = b'{"ready": true}' if self.app is not None else b'{"ready": false}'
            return await reply(send, b"application/json", ready)
        if self.app is None and scope["path"] == "/":
            return await reply(send, b"text/html; charset=utf-8", WAITING.encode())
        if self.app is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_ready.wait(), READY_S)
        if self.app is None:
            return await answer(send, 503, "The studio is still starting.", "Try again in a moment.", 5)
        if scope["path"] == "/" and scope["method"] == "GET":
            send = Headed(send)
        return await self.app(scope, receive, send)


class Headed:
    """A `send` that puts HEAD into the page as it passes."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Any = None
        self._body = b""

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return None
        if message["type"] != "http.response.body":
            return await self._send(message)
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return None
        body = self._body.replace(b"</head>", HEAD.encode(), 1)
        kept = [(k, v) for k, v in self._start["headers"] if k.lower() not in (b"content-length", b"cache-control")]
        length = (b"content-length", str(len(body)).encode())
        await self._send({**self._start, "headers": [*kept, length, (b"cache-control", b"no-store")]})
        return await self._send({"type": "http.response.body", "body": body})


async def reply(send: Send, media: bytes, body: bytes) -> None:
    headers = [(b"content-type", media), (b"cache-control", b"no-store"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def create_app(studio: Studio) -> Any:
    """The whole web app: the page's own routes, and Gradio for the rest. Imports Gradio."""
    import gradio as gr
    from fastapi import FastAPI

    from apps import api, routes, sessions, shell
    from apps.theme import StudioTheme

    is_local = studio.config.mode == "local"
    app = FastAPI(
        title=shell.TITLE, openapi_url="/openapi.json" if is_local else None, docs_url=None, redoc_url=None
    )
    routes.add_handlers(app)
    app.include_router(routes.router(studio))
    if is_local:
        app.include_router(api.router(studio))
    gr.mount_gradio_app(
        app,
        shell.build(studio),
        path="/",
        theme=StudioTheme(),
        favicon_path=str(routes.FACE / "icon.png"),
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size="40mb",
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        allowed_paths=[],
        blocked_paths=[str(studio.config.home)],
    )
    mount: Any = app.router.routes.pop()  # answers everything, so what replaces some of it has to come first
    leave = None if is_local else (partial(routes.end_visit, studio), STAY_S[studio.config.mode])
    for router in sessions.routers(mount.app, leave):
        app.include_router(router)
    app.router.routes.append(mount)
    return app


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile, and never again of what was made: importing Gradio and building the page make
    a million objects that stay, and looking through them over and over takes a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def quiet_gradio(config: Config) -> None:
    """Tells Gradio, before it is imported, to send nothing anywhere and to keep its files in a folder of ours."""
    folder = config.cache / "gradio"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False", GRADIO_SHARE="False", GRADIO_MCP_SERVER="False", GRADIO_TEMP_DIR=str(folder),
        GRADIO_RUN_HISTORY="False", GRADIO_SSR_MODE="False", HF_HUB_DISABLE_TELEMETRY="1",
    )  # fmt: skip


def launch(studio: Studio, config: Config, *, say: Callable[[str], None] = print) -> None:
    """Serves until interrupted, then closes the studio.

    Raises Unsupported when the address cannot be taken, and whatever building the page raised.
    """
    quiet_gradio(config)
    logging.getLogger("asyncio").addFilter(Repeats())
    listener = listen(config)
    front = Front()
    server = Server(
        uvicorn.Config(
            Guard(front, config),
            log_level="warning",
            lifespan="off",
            ws="none",
            http=Connection,
            backlog=BACKLOG,
            timeout_graceful_shutdown=2,
            timeout_keep_alive=30,
            server_header=False,
        ),
        studio.close,
    )
    failure: list[BaseException] = []

    def grow(loop: asyncio.AbstractEventLoop) -> None:
        began = time.monotonic()
        try:
            with uncollected():
                app = create_app(studio)
            studio.start()
            asyncio.run_coroutine_threadsafe(front.adopt(app), loop).result()
        except BaseException as error:  # noqa: BLE001 - raised again by `launch`, in the thread that can end the app
            failure.append(error)
            server.should_exit = True
            return
        log.info("the page took %.1f s", time.monotonic() - began)
        studio.prewarm()

    async def serve() -> None:
        threading.Thread(target=grow, args=(asyncio.get_running_loop(),), name="page", daemon=True).start()
        try:
            await server.serve(sockets=[listener])
        finally:
            await front.close()

    host, port = listener.getsockname()[:2]
    say(f"Image Studio is on http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{port}")
    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
    if failure:
        raise failure[0]


class Server(uvicorn.Server):
    """Ends on Ctrl+C or a termination signal and leaves the rest to `launch`. Closes connections that only stay.

    Args:
        config: of uvicorn.
        end: ends what is behind the server; begun while the last answers are on their way, since some wait for it.
    """

    def __init__(self, config: uvicorn.Config, end: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._ending = threading.Thread(target=end, name="end")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending.start()
        await super().shutdown(sockets)

    def close(self) -> None:
        """Returns when all has ended, also where the server never came to its own end."""
        if self._ending.ident is None:
            self._ending.start()
        self._ending.join()

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if counter % 10 == 0:
            close_idle(self.server_state.connections)
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn's own raises the signal once more at the end, and then the studio would never be closed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {name: signal.signal(name, self.handle_exit) for name in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)


def listen(config: Config) -> socket.socket:
    """The bound address. Raises Unsupported with what to do when it is taken."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for sockets that name their protocol; with it every answer, sent as head
    # and body, waits 40 ms for an acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        raise Unsupported(
            f"{config.host}:{config.port} cannot be used: {error.strerror}.",
            "Close what uses it, or choose another port with --port (0 takes a free one).",
        ) from error
    listener.listen(BACKLOG)
    return listener
