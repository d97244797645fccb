"""How the service words its refusals."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from starlette.types import Scope

RETRY = {"Retry-After": "1"}
_LONGEST = 80  # characters of a name that are compared: somebody may send thousands


STATUSES = {
    400: "empty, truncated or malformed",
    401: "wrong token",
    404: "another model",
    408: "the upload took too long",
    413: "too many bytes, pixels, images or tiles",
    415: "not an image, or compressed",
    422: "an image that cannot be decoded, or a query parameter that is unknown or invalid",
    503: "overloaded; Retry-After says when to try again",
}


class ErrorResponse(BaseModel):
    """Why a request was refused."""

    detail: str


class ProtocolErrorResponse(BaseModel):
    """Why a request was refused, as the Open Inference Protocol words it."""

    error: str


def describe_statuses(model: type[BaseModel], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's description of refusals with these statuses and this body."""
    return {status: {"model": model, "description": STATUSES[status]} for status in statuses}


def describe_error(scope: Scope, detail: str) -> dict[str, str]:
    """The body of a refusal: `error` in the Open Inference Protocol, `detail` everywhere else."""
    is_protocol = scope["path"] == "/v2" or scope["path"].startswith("/v2/")
    return {"error" if is_protocol else "detail": detail}


def suggest(name: str, known: Iterable[str]) -> str:
    """The nearest known name as the end of a sentence; empty if there is none."""
    near = difflib.get_close_matches(name[:_LONGEST], list(known), n=1, cutoff=0.0)
    return f"; did you mean {near[0]!r}?" if near else ""
