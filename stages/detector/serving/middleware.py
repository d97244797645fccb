"""Around every request: its number, its line in the log, its metrics, and no traceback to the client."""

from __future__ import annotations

import time
import uuid
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detector.serving import metrics
from detector.serving.logs import LOGGER

CLIENT_GONE = 499  # as nginx calls it; nobody receives it
QUIET = ("/healthz", "/readyz", "/metrics")  # asked every few seconds: not in the log unless they fail


class Watched:
    """An ASGI application around another one. What a handler puts into `request.state.notes` goes into the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, number, status = time.perf_counter(), uuid.uuid4().hex, CLIENT_GONE
        notes: dict[str, Any] = {}
        scope.setdefault("state", {})["notes"] = notes

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", number.encode())]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception:
            LOGGER.exception("a request failed", extra={"fields": {"request": number}})
            if status == CLIENT_GONE:  # nothing was sent yet
                detail = f"the service failed; its log has more under request {number}"
                await JSONResponse({"detail": detail}, 500)(scope, receive, sending)
        self._note(scope, status, time.perf_counter() - began, {"request": number, **notes})

    def _note(self, scope: Scope, status: int, seconds: float, fields: dict[str, Any]) -> None:
        path = getattr(scope.get("route"), "path", "other")  # not as the client wrote it: those have no end
        metrics.REQUESTS.labels(path, status).inc()
        metrics.REQUEST_SECONDS.labels(path).observe(seconds)
        if path in QUIET and status < 400:
            return
        client = scope.get("client")
        fields |= {
            "method": scope["method"],
            "path": path,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "client": client[0] if client else None,
        }
        LOGGER.info("request", extra={"fields": fields})
