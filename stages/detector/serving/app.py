"""The routes."""

from __future__ import annotations

import hmac
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.cors import CORSMiddleware

from detector.core.errors import UserError
from detector.engine.environment import keep_freed_memory
from detector.runners.model_metadata import ModelMetadata
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import Runner
from detector.serving import metrics
from detector.serving.errors import ErrorResponse, describe_error, describe_statuses, suggest
from detector.serving.inference_routes import JSON_LENGTH, protocol_probes, protocol_routes
from detector.serving.middleware import ObservabilityMiddleware
from detector.serving.schemas import ModelResponse, PredictResponse, build_model_response
from detector.serving.service import PredictOptions, Service
from detector.serving.settings import Settings
from detector.serving.tile_option import parse_tile
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
PREDICT_REFUSALS = describe_statuses(ErrorResponse, 400, 401, 408, 413, 415, 422, 503)
UNAUTHORIZED = describe_statuses(ErrorResponse, 401)
protected_routes = APIRouter()
public_routes = APIRouter()


def create_app(settings: Settings) -> FastAPI:
    """The service of a model file, which is opened when the server starts. Raises UserError when it cannot be read.

    Called once in each worker.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # for the parent, though the whole process group may get it

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
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", JSON_LENGTH],
            expose_headers=["X-Request-ID", "Retry-After", JSON_LENGTH],
        )
    app.add_middleware(ObservabilityMiddleware)  # the last one is the outermost
    app.add_exception_handler(RequestValidationError, _explain_validation_error)
    app.add_exception_handler(StarletteHTTPException, _explain_refusal)
    for routes in (public_routes, protocol_probes):
        app.include_router(routes)
    for routes in (protected_routes, protocol_routes):
        app.include_router(routes, dependencies=[Depends(check_token), Depends(check_query)])
    app.mount("/page", StaticFiles(directory=PAGE))
    return app


async def check_token(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> None:
    """Raises HTTPException 401 without the token; compares in constant time."""
    token: str | None = request.app.state.token
    sent = given.credentials.encode("latin-1") if given else b""
    if token is not None and not hmac.compare_digest(sent, token.encode()):
        raise HTTPException(401, "wrong or missing token: send `Authorization: Bearer TOKEN`",
                            headers={"WWW-Authenticate": "Bearer"})  # fmt: skip


async def check_query(request: Request) -> None:
    """Raises HTTPException 422 for a query parameter that the route does not know: it would be ignored."""
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            raise HTTPException(422, f"`{name[:80]}`: unknown query parameter{suggest(name, known)}")


async def _explain_validation_error(request: Request, error: Exception) -> JSONResponse:
    """An invalid parameter as one sentence, like every other error."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()[0]
    return JSONResponse(describe_error(request.scope, f"`{found['loc'][-1]}`: {found['msg']}"), 422)


async def _explain_refusal(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse(describe_error(request.scope, error.detail), error.status_code, error.headers)


@protected_routes.post(
    "/v1/predict", response_model=PredictResponse, responses=PREDICT_REFUSALS, openapi_extra={"requestBody": IMAGE_BODY}
)
async def predict_route(
    request: Request,
    threshold: Annotated[
        float | None,
        Query(ge=0, le=1, description="minimum calibrated score; default: the operating threshold of each class"),
    ] = None,
    tile: Annotated[
        str | None,
        Query(
            description="side of overlapping tiles in pixels, for small objects in large images; auto: as large as the "
            "training images; 0: whole images"
        ),
    ] = None,
) -> JSONResponse:
    """Detect objects in one image (its bytes as the body) or in several (files of a form, field names are ignored)."""
    service: Service = request.app.state.service
    try:
        tiling = service.tiling if tile is None else parse_tile(tile, service.facts)
    except UserError as error:
        raise HTTPException(422, str(error)) from None
    options = PredictOptions(threshold, tiling)
    return JSONResponse({"scores": "calibrated", "images": await service.predict(request, options)})


@protected_routes.get("/v1/model", responses=UNAUTHORIZED)
async def model(request: Request) -> ModelResponse:
    """The model's metadata, and the limits of a request."""
    answer: ModelResponse = request.app.state.model
    return answer


@protected_routes.get("/metrics", responses=UNAUTHORIZED, response_class=PlainTextResponse)
def prometheus() -> Response:
    """Counters and durations of all workers, for Prometheus."""
    return Response(metrics.render_metrics(), media_type=metrics.CONTENT_TYPE)


@public_routes.get("/healthz")
async def healthy() -> dict[str, str]:
    """The process is alive."""
    return {"status": "ok"}


@public_routes.get("/readyz", responses=describe_statuses(ErrorResponse, 503))
async def ready(request: Request) -> dict[str, str]:
    """The model is loaded and has room for another image."""
    request.app.state.service.check_ready()
    return {"status": "ready"}


@public_routes.get("/", include_in_schema=False)
def page() -> Response:
    """A page to try the model in a browser."""
    return Response((PAGE / "index.html").read_bytes(), media_type="text/html", headers=PAGE_HEADERS)


@public_routes.get("/docs", include_in_schema=False)
def docs() -> Response:
    """A page of the routes, rendered from /openapi.json."""
    return Response((PAGE / "docs.html").read_bytes(), media_type="text/html", headers=PAGE_HEADERS)
