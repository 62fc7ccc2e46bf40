"""An open page: what Gradio remembers of it, made small and ended with the visit, and the two routes of Gradio's that
it speaks over, in place of Gradio's own: a call is checked before it reaches a callback, an open connection is a visit.

Gradio copies the whole page's configuration for every session hash that it is told, 0.4 MB each, and keeps 10,000 of
them. The page needs only what callbacks changed of a control (the choices of a list, say), against which Gradio checks
what comes back; so a session here holds that and shares the rest.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections import ChainMap, Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from gradio import route_utils
from gradio.blocks import BlocksConfig
from gradio.components import State
from gradio.data_classes import PredictBodyInternal
from gradio.routes import ORJSONResponse
from gradio.state_holder import SessionState, StateHolder
from pydantic import BaseModel, Field

from apps.turns import Owner
from studio.errors import StudioError

log = logging.getLogger(__name__)

MOST = 500  # sessions; the one that was quiet for longest goes
HASH = re.compile(r"^[a-z0-9]{0,32}$")
BEAT_S = 15.0
AGAIN_S = 60.0  # a page that lost its connection may be back by then
OnLeave = Callable[[str], object]


class Session(SessionState):
    """The controls that callbacks changed; all others are the page's own."""

    def __init__(self, blocks: Any) -> None:
        shared = blocks.default_config
        config = BlocksConfig(blocks)
        config.blocks = ChainMap({}, shared.blocks)  # type: ignore[assignment]
        config.fns, config.fn_id, config.renderables = shared.fns, shared.fn_id, shared.renderables
        self.blocks_config = config
        self.config_values: dict[int, Any] = {}  # for deep links, which are closed
        self.state_data: dict[int, Any] = {}
        self._state_ttl: dict[int, Any] = {}
        self.is_closed = False
        self.closed_at = math.inf

    def __setitem__(self, key: int, value: Any) -> None:
        if isinstance(self.blocks_config.blocks.get(key), State):
            self.state_data[key] = value
        elif self.blocks_config.blocks.get(key) is not value:
            self.blocks_config.blocks[key] = value

    def _update_config(self, key: int) -> None:
        """Nothing: it would be for deep links."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Nothing: it would be for deep links."""


class Sessions(StateHolder):
    """Args:
    blocks: the page.
    """

    def __init__(self, blocks: Any) -> None:
        super().__init__()
        self.set_blocks(blocks)
        self.capacity = MOST

    def __getitem__(self, session_id: str) -> SessionState:
        """The session of an open page; one that nobody keeps for what no page would be called."""
        if not isinstance(session_id, str) or not session_id or not HASH.fullmatch(session_id):
            return Session(self.blocks)
        if session_id not in self.session_data:
            self.session_data[session_id] = Session(self.blocks)
        self.update(session_id)
        return self.session_data[session_id]

    def set_open(self, session_id: str, is_open: bool) -> None:
        """A page was closed, or is back."""
        session = self.session_data.get(session_id)
        if isinstance(session, Session):
            session.closed_at = math.inf if is_open else time.monotonic()

    def delete_all_expired_state(self) -> None:
        """Forgets pages that were closed AGAIN_S ago. Gradio calls this once a second."""
        since = time.monotonic() - AGAIN_S
        for id_, session in list(self.session_data.items()):
            if isinstance(session, Session) and session.closed_at < since:
                self.session_data.pop(id_, None)


def routers(app: Any, on_leave: tuple[OnLeave, float] | None) -> list[APIRouter]:
    """The two routes, for Gradio's web app.

    Args:
        app: Gradio's web app, which knows the page; its sessions become ours.
        on_leave: what to call with an owner, and how many seconds after their last page was closed.
    """
    app.state_holder = Sessions(app.get_blocks())
    return [calls(app), Visits(app.state_holder, on_leave).router()]


class Call(BaseModel):
    """What the page posts for an event: `fn_index` numbers the callback, `data` are the values of its inputs."""

    session_hash: str = Field("", pattern=HASH.pattern)
    fn_index: int
    data: list[Any]
    event_data: Any = None
    trigger_id: int | None = None


class CallbackError(Exception):
    """A callback of ours failed, as against values that no control of the page can have."""


def calls(app: Any) -> APIRouter:
    """The route for events.

    Args:
        app: Gradio's web app, which knows the page.
    """
    router = APIRouter(include_in_schema=False)
    callbacks = app.get_blocks().fns

    @router.post("/gradio_api/run/predict")
    async def predict(request: Request) -> Response:
        try:
            call = Call.model_validate(orjson.loads(await request.body()))
        except ValueError:  # of JSON and of fields alike; NaN and broken letters are no JSON
            return refusal(422, "This is no event of the page.")
        callback = callbacks.get(call.fn_index)
        if callback is None or len(call.data) != len(callback.inputs):
            return refusal(422, "The page has no such event. Reload it.")
        body = PredictBodyInternal(**call.model_dump(), request=request)  # type: ignore[arg-type]
        body.session_hash = call.session_hash if call.session_hash else None
        asker = route_utils.compile_gr_request(body, fn=callback, username=None, request=request)
        root = route_utils.get_root_url(request=request, route_path=request.url.path, root_path=app.root_path)
        try:
            return ORJSONResponse(await route_utils.call_process_api(app, body, asker, callback, root))
        except StudioError as error:
            return refusal(400, str(error))
        except CallbackError:
            return refusal(500, "Something went wrong inside the studio. It is written to the log.")
        except Exception as error:  # noqa: BLE001 - whatever a control of Gradio's says to a value it does not take
            log.info("callback %d was called with wrong values: %s", call.fn_index, error)
            return refusal(422, "A control of the page does not take this value.")

    return router


def refusal(code: int, message: str) -> Response:
    """As the page's Gradio part shows it."""
    return ORJSONResponse({"error": message, "visible": True}, code)


class Visits:
    """Which pages are open: each holds a connection for as long as it is.

    Args:
        sessions: what is forgotten when a page is closed.
        on_leave: see `routers`; called on another thread.
    """

    def __init__(self, sessions: Sessions, on_leave: tuple[OnLeave, float] | None) -> None:
        self._sessions = sessions
        self._on_leave = on_leave
        self._open: Counter[str] = Counter()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def router(self) -> APIRouter:
        """The route that Gradio's page opens, in place of Gradio's own."""
        router = APIRouter(include_in_schema=False)

        @router.get("/gradio_api/heartbeat/{session}")
        async def heartbeat(session: str, owner: Owner) -> StreamingResponse:
            return StreamingResponse(self._beats(session, owner), media_type="text/event-stream")

        return router

    async def _beats(self, session: str, owner: str) -> AsyncIterator[str]:
        self._open[owner] += 1
        self._sessions.set_open(session, True)
        self._cancel(owner)
        try:
            while True:
                yield "data: ALIVE\n\n"
                await asyncio.sleep(BEAT_S)
        finally:
            self._sessions.set_open(session, False)
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]
                if self._on_leave is not None and owner:
                    leave, seconds = self._on_leave
                    self._timers[owner] = asyncio.get_running_loop().call_later(seconds, self._leave, leave, owner)

    def _leave(self, leave: OnLeave, owner: str) -> None:
        del self._timers[owner]
        asyncio.get_running_loop().run_in_executor(None, leave, owner)

    def _cancel(self, owner: str) -> None:
        timer = self._timers.pop(owner, None)
        if timer is not None:
            timer.cancel()
