"""The routes."""

from __future__ import annotations

import hmac
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles
from PIL import Image

from detector.engine.environment import keep_freed_memory
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import ModelMetadata, Runner
from detector.serving import metrics
from detector.serving.middleware import Watched
from detector.serving.schemas import Answer, ModelAnswer, Problem, model_answer
from detector.serving.service import Service
from detector.serving.settings import Settings
from detector.serving.uploads import MULTIPART

PAGE = Path(__file__).with_name("page")
# The pages load nothing from elsewhere, whatever a file's name or a class's may hold.
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
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why}
    for status, why in {
        400: "empty, cut off or malformed",
        401: "wrong token",
        408: "the upload took too long",
        413: "too many bytes, pixels or images",
        415: "not an image",
        422: "an image that cannot be decoded, or a threshold that is none",
        503: "too much to do; Retry-After says when to try again",
    }.items()
}
secured = APIRouter()
open_to_all = APIRouter()


def create_app(settings: Settings) -> FastAPI:
    """The service of a model file, which is opened when the server starts. Raises UserError when it cannot be."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        keep_freed_memory()
        Image.MAX_IMAGE_PIXELS = settings.max_pixels  # for frames that are larger than their header says
        warnings.simplefilter("ignore")  # Pillow's, of oddities in files that can be read all the same
        metrics.forget_dead_workers()
        async with serving(app, settings, *open_onnx(settings.model, settings.threads, settings.provider)):
            yield

    return bare_app(settings, lifespan)


@asynccontextmanager
async def serving(app: FastAPI, settings: Settings, facts: ModelMetadata, runner: Runner) -> AsyncIterator[None]:
    """The model at work behind the routes."""
    app.state.service = Service(facts, runner, settings)
    app.state.model = model_answer(facts, settings)
    yield
    await app.state.service.close()


def bare_app(settings: Settings, lifespan: Any) -> FastAPI:
    """The routes; lifespan as FastAPI takes it, around `serving`."""
    app = FastAPI(
        title="Detector",
        version="1",
        description="Finds objects in images. Authorization is needed only where the service asks for a token.",
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere; ours is page/docs.html
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.token = settings.token
    app.add_middleware(Watched)
    app.add_exception_handler(RequestValidationError, _in_words)
    app.include_router(open_to_all)
    app.include_router(secured, dependencies=[Depends(check_token)])
    app.mount("/page", StaticFiles(directory=PAGE))
    return app


async def check_token(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> None:
    """Raises HTTPException 401 without the token; in a time that tells nothing of it."""
    token: str | None = request.app.state.token
    sent = given.credentials.encode("latin-1") if given else b""
    if token is not None and not hmac.compare_digest(sent, token.encode()):
        raise HTTPException(401, "wrong or missing token: send `Authorization: Bearer TOKEN`",
                            headers={"WWW-Authenticate": "Bearer"})  # fmt: skip


async def _in_words(request: Request, error: Exception) -> JSONResponse:
    """A parameter that cannot be: as one sentence, like every other refusal."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()[0]
    return JSONResponse({"detail": f"`{found['loc'][-1]}`: {found['msg']}"}, 422)


@secured.post("/v1/predict", response_model=Answer, responses=REFUSALS, openapi_extra={"requestBody": IMAGE_BODY})
async def predict(
    request: Request,
    threshold: Annotated[
        float | None,
        Query(ge=0, le=1, description="score from which detections are answered; else each class's own"),
    ] = None,
) -> JSONResponse:
    """Find objects in one image (its bytes as the body) or in several (files of a form, in whatever fields)."""
    service: Service = request.app.state.service
    return JSONResponse({"images": await service.predict(request, threshold)})


@secured.get("/v1/model", responses={401: REFUSALS[401]})
async def model(request: Request) -> ModelAnswer:
    """What the model file says of itself, and what a request may hold."""
    answer: ModelAnswer = request.app.state.model
    return answer


@secured.get("/metrics", responses={401: REFUSALS[401]}, response_class=PlainTextResponse)
def prometheus() -> Response:
    """Counts and durations of all workers, for Prometheus."""
    return Response(metrics.latest(), media_type=metrics.CONTENT_TYPE)


@open_to_all.get("/healthz")
async def healthy() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@open_to_all.get("/readyz", responses={503: REFUSALS[503]})
async def ready(request: Request) -> dict[str, str]:
    """The model is loaded and has room for another image."""
    if not request.app.state.service.ready:
        raise HTTPException(503, "the queue is full, or the model has stopped", headers={"Retry-After": "1"})
    return {"status": "ready"}


@open_to_all.get("/", include_in_schema=False)
def page() -> Response:
    """To try the model in a browser."""
    return Response((PAGE / "index.html").read_bytes(), media_type="text/html", headers=PAGE_HEADERS)


@open_to_all.get("/docs", include_in_schema=False)
def docs() -> Response:
    """The routes, drawn from /openapi.json."""
    return Response((PAGE / "docs.html").read_bytes(), media_type="text/html", headers=PAGE_HEADERS)
