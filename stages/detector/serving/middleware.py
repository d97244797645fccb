"""For every request: an id, a log line, metrics, and no traceback for the client."""

from __future__ import annotations

import time
import uuid
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detector.serving import metrics
from detector.serving.errors import describe_error
from detector.serving.logs import LOGGER

CLIENT_DISCONNECTED = 499  # nginx's status for this; nobody receives it
# Polled every few seconds: logged only when they fail.
PROBES = (
    "/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready", "/v2/models/{name}/ready",
)  # fmt: skip


class ObservabilityMiddleware:
    """An ASGI middleware. What a handler puts into `request.state.notes` becomes fields of the log line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, number, status = time.perf_counter(), uuid.uuid4().hex, CLIENT_DISCONNECTED
        notes: dict[str, Any] = {}
        scope.setdefault("state", {})["notes"] = notes

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", number.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_DISCONNECTED
        except Exception:
            LOGGER.exception("a request failed", extra={"fields": {"request": number}})
            if status == CLIENT_DISCONNECTED:  # nothing was sent yet
                detail = f"the service failed; its log has more under request {number}"
                await JSONResponse(describe_error(scope, detail), 500)(scope, receive, send_with_id)
        self._note(scope, status, time.perf_counter() - began, {"request": number, **notes})

    def _note(self, scope: Scope, status: int, seconds: float, fields: dict[str, Any]) -> None:
        path = getattr(scope.get("route"), "path", "other")  # not the raw path: its values are unbounded
        metrics.REQUESTS.labels(path, status).inc()
        metrics.REQUEST_SECONDS.labels(path).observe(seconds)
        if path in PROBES and status < 400:
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
