"""The routes of the Open Inference Protocol, version 2, as KServe, Triton and their clients speak it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response

from detector.serving.errors import ProtocolErrorResponse, describe_statuses, suggest
from detector.serving.service import Service
from detector.serving.tensors import INPUT, describe_tensors

VERSION = "1"  # of the model, for clients that ask for one: a service has one model
JSON_LENGTH = "Inference-Header-Content-Length"
TENSOR_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"type": "object"},
            "example": {"inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [1, 3, 2, 2], "data": [0] * 12}]},
        }
    },
}
INFER_REFUSALS = describe_statuses(ProtocolErrorResponse, 400, 401, 404, 408, 413, 415, 422, 503)
UNKNOWN_MODEL = describe_statuses(ProtocolErrorResponse, 401, 404, 422)
NOT_READY = describe_statuses(ProtocolErrorResponse, 503)


async def find_service(request: Request, name: str) -> Service:
    """The service of the model that a path names. Raises HTTPException 404 for any other model."""
    service: Service = request.app.state.service
    version = request.path_params.get("version", VERSION)
    if name != service.name:
        # The probe needs no token, so it must not tell the name.
        hint = "" if request.scope["path"].endswith("/ready") else suggest(name, [service.name])
        raise HTTPException(404, f"no model {name[:80]!r}{hint}")
    if version != VERSION:
        raise HTTPException(404, f"no version {version[:80]!r} of the model, expected {VERSION!r} or none")
    return service


FoundService = Annotated[Service, Depends(find_service)]
MODEL = "/v2/models/{name}"
MODEL_VERSION = MODEL + "/versions/{version}"
protocol_probes = APIRouter()
protocol_routes = APIRouter()


@protocol_probes.get("/v2/health/live")
async def live() -> dict[str, bool]:
    """The process is alive."""
    return {"live": True}


@protocol_probes.get("/v2/health/ready", responses=NOT_READY)
async def server_ready(request: Request) -> dict[str, bool]:
    """The model is loaded and has room for another image."""
    request.app.state.service.check_ready()
    return {"ready": True}


@protocol_probes.get(MODEL + "/ready", responses=describe_statuses(ProtocolErrorResponse, 404, 503))
@protocol_probes.get(MODEL_VERSION + "/ready", include_in_schema=False)
async def model_ready(service: FoundService) -> dict[str, Any]:
    """The model is loaded and has room for another image."""
    service.check_ready()
    return {"name": service.name, "ready": True}


@protocol_routes.get("/v2", responses=describe_statuses(ProtocolErrorResponse, 401))
async def server_metadata() -> dict[str, Any]:
    """The server and the extensions of the protocol that it has."""
    return {"name": "detector", "version": "1", "extensions": ["binary_tensor_data"]}


@protocol_routes.get(MODEL, responses=UNKNOWN_MODEL)
@protocol_routes.get(MODEL_VERSION, include_in_schema=False)
async def model_metadata(service: FoundService) -> dict[str, Any]:
    """Names, types and shapes of the model's input and outputs, which are those of the exported file."""
    return {"name": service.name, "versions": [VERSION], "platform": "onnx_onnxv1", **describe_tensors(service.facts)}


@protocol_routes.post(MODEL + "/infer", responses=INFER_REFUSALS, openapi_extra={"requestBody": TENSOR_BODY})
@protocol_routes.post(MODEL_VERSION + "/infer", include_in_schema=False)
async def infer(request: Request, service: FoundService) -> Response:
    """Run the model on input tensors, letterboxed by the client; scores are the model's own, not calibrated."""
    answer = await service.infer(request, request.headers.get(JSON_LENGTH), VERSION)
    if answer.json_length is None:
        return Response(answer.body, media_type="application/json")
    headers = {JSON_LENGTH: str(answer.json_length)}
    return Response(answer.body, media_type="application/octet-stream", headers=headers)
