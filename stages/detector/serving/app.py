"""The routes."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles

from detector.engine.environment import keep_freed_memory
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import ModelMetadata, Runner
from detector.serving import metrics
from detector.serving.middleware import ObservabilityMiddleware
from detector.serving.schemas import ErrorResponse, ModelResponse, PredictResponse, build_model_response
from detector.serving.service import Service
from detector.serving.settings import Settings
from detector.serving.uploads import MULTIPART
from detector.serving.watchdog import watch

PAGE = Path(__file__).with_name("page")
# The pages load nothing from elsewhere, whatever file or class names contain.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
BEARER = HTTPBearer(auto_error=False, description="only where the service was started with a token")
IMAGE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        MULTIPART: {
            "schema": {
                "type": "object",
                "properties": {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    },
}
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": why}
    for status, why in {
        400: "empty, truncated or malformed",
        401: "wrong token",
        408: "the upload took too long",
        413: "too many bytes, pixels or images",
        415: "not an image",
        422: "an image that cannot be decoded, or an invalid threshold",
        503: "overloaded; Retry-After says when to try again",
    }.items()
}
protected_routes = APIRouter()
public_routes = APIRouter()


def create_app(settings: Settings) -> FastAPI:
    """The service of a model file, which is opened when the server starts. Raises UserError when it cannot be read."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        keep_freed_memory()
        metrics.remove_dead_workers()
        async with run_service(app, settings, *open_onnx(settings.model, settings.threads, settings.provider)):
            watch(app.state.service)
            yield

    return build_app(settings, lifespan)


@asynccontextmanager
async def run_service(app: FastAPI, settings: Settings, facts: ModelMetadata, runner: Runner) -> AsyncIterator[None]:
    """Attach a running service to the routes."""
    app.state.service = Service(facts, runner, settings)
    app.state.model = build_model_response(facts, settings)
    yield
    await app.state.service.close()


def build_app(settings: Settings, lifespan: Any) -> FastAPI:
    """The routes; lifespan as FastAPI takes it, around `run_service`."""
    app = FastAPI(
        title="Detector",
        version="1",
        description="Detects objects in images. Authorization is needed only where the service requires a token.",
        docs_url=None,  # FastAPI's own pages load scripts from a CDN; ours is page/docs.html
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.token = settings.token
    app.add_middleware(ObservabilityMiddleware)
    app.add_exception_handler(RequestValidationError, _explain_validation_error)
    app.include_router(public_routes)
    app.include_router(protected_routes, dependencies=[Depends(check_token)])
    app.mount("/page", StaticFiles(directory=PAGE))
    return app


async def check_token(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> None:
    """Raises HTTPException 401 without the token; compares in constant time."""
    token: str | None = request.app.state.token
    sent = given.credentials.encode("latin-1") if given else b""
    if token is not None and not hmac.compare_digest(sent, token.encode()):
        raise HTTPException(401, "wrong or missing token: send `Authorization: Bearer TOKEN`",
                            headers={"WWW-Authenticate": "Bearer"})  # fmt: skip


async def _explain_validation_error(request: Request, error: Exception) -> JSONResponse:
    """An invalid parameter as one sentence, like every other error."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()[0]
    return JSONResponse({"detail": f"`{found['loc'][-1]}`: {found['msg']}"}, 422)


@protected_routes.post(
    "/v1/predict", response_model=PredictResponse, responses=ERROR_RESPONSES, openapi_extra={"requestBody": IMAGE_BODY}
)
async def predict_route(
    request: Request,
    threshold: Annotated[
        float | None,
        Query(ge=0, le=1, description="minimum score; default: the operating threshold of each class"),
    ] = None,
) -> JSONResponse:
    """Detect objects in one image (its bytes as the body) or in several (files of a form, field names are ignored)."""
    service: Service = request.app.state.service
    return JSONResponse({"images": await service.predict(request, threshold)})


@protected_routes.get("/v1/model", responses={401: ERROR_RESPONSES[401]})
async def model(request: Request) -> ModelResponse:
    """The model's metadata, and the limits of a request."""
    answer: ModelResponse = request.app.state.model
    return answer


@protected_routes.get("/metrics", responses={401: ERROR_RESPONSES[401]}, response_class=PlainTextResponse)
def prometheus() -> Response:
    """Counters and durations of all workers, for Prometheus."""
    return Response(metrics.render_metrics(), media_type=metrics.CONTENT_TYPE)


@public_routes.get("/healthz")
async def healthy() -> dict[str, str]:
    """The process is alive."""
    return {"status": "ok"}


@public_routes.get("/readyz", responses={503: ERROR_RESPONSES[503]})
async def ready(request: Request) -> dict[str, str]:
    """The model is loaded and has room for another image."""
    if not request.app.state.service.ready:
        raise HTTPException(503, "the queue is full, or the model has stopped", headers={"Retry-After": "1"})
    return {"status": "ready"}


@public_routes.get("/", include_in_schema=False)
def page() -> Response:
    """A page to try the model in a browser."""
    return Response((PAGE / "index.html").read_bytes(), media_type="text/html", headers=PAGE_HEADERS)


@public_routes.get("/docs", include_in_schema=False)
def docs() -> Response:
    """A page of the routes, rendered from /openapi.json."""
    return Response((PAGE / "docs.html").read_bytes(), media_type="text/html", headers=PAGE_HEADERS)
