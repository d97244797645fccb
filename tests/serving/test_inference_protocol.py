"""The Open Inference Protocol over HTTP: as its clients speak it, with the limits of the service's own routes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.service_process import HttpResponse, ServiceProcess, build_request, send_request
from detector.engine.detections import Detections
from tests.support.brightness import SIZE, picture

Hosting = Callable[..., AbstractContextManager[int]]
INFER = "/v2/models/model/infer"
# Two images; the raw scores of their detections are grey / 255 and half of that.
IMAGES = np.stack([np.full((3, *SIZE), gray, np.uint8) for gray in (204, 51)])
EXPECTED = {
    "location": [[[8, 16, 72, 80], [0, 0, 32, 32]]] * 2,
    "score": [[0.8, 0.4], [0.2, 0.1]],
    "category": [[2, 1], [2, 1]],
    "state": [[0, 1], [0, 1]],
    "state_score": [[0.8, 0.4], [0.2, 0.1]],
}
SHAPE = ",".join(map(str, IMAGES.shape))
# As recorded from tritonclient 2.73 and kserve 0.21, with the images of this file.
TRITON = (
    f'{{"id":"7","inputs":[{{"name":"image","shape":[{SHAPE}],"datatype":"UINT8",'
    f'"parameters":{{"binary_data_size":{IMAGES.size}}}}}],"parameters":{{"binary_data_output":true}}}}'
).encode()
KSERVE = (
    f'{{"id":"7","model_name":"model","inputs":[{{"name":"image","shape":[{SHAPE}],"datatype":"UINT8",'
    f'"data":{json.dumps(IMAGES.ravel().tolist(), separators=(",", ":"))}}}]}}'
).encode()
KSERVE_BINARY = (
    f'{{"id":"7","model_name":"model","inputs":[{{"name":"image","shape":[{SHAPE}],"datatype":"UINT8",'
    f'"parameters":{{"binary_data_size":{IMAGES.size}}}}}]}}'
).encode()
TYPES = {"FP32": "<f4", "INT64": "<i8"}


def send(port: int, body: bytes, *, json_length: int | None = None, path: str = INFER, **headers: str) -> HttpResponse:
    if json_length is not None:
        headers["Inference_Header_Content_Length"] = str(json_length)
    return asyncio.run(send_request(port, build_request(body, "application/octet-stream", path, **headers)))


def get(port: int, path: str) -> HttpResponse:
    return asyncio.run(send_request(port, build_request(path=path, method="GET")))


def read_outputs(answer: HttpResponse) -> dict[str, Any]:
    """The tensors of a response, from its JSON or from the bytes after it."""
    assert answer.status == 200, answer.body
    length = answer.headers.get("inference-header-content-length")
    head = json.loads(answer.body[: None if length is None else int(length)])
    assert (head["model_name"], head["id"], head["parameters"]["scores"]) == ("model", "7", "uncalibrated")
    place, found = 0 if length is None else int(length), {}
    for output in head["outputs"]:
        kind, shape = np.dtype(TYPES[output["datatype"]]), output["shape"]
        if "data" in output:
            found[output["name"]] = np.array(output["data"], kind).reshape(shape)
        else:
            size = output["parameters"]["binary_data_size"]
            found[output["name"]] = np.frombuffer(answer.body[place : place + size], kind).reshape(shape)
            place += size
    assert place in (0, len(answer.body))
    return found


def check(found: dict[str, NDArray[Any]]) -> None:
    assert set(found) == set(EXPECTED)
    for name, expected in EXPECTED.items():
        assert found[name] == pytest.approx(np.array(expected), abs=1e-6)


@pytest.mark.parametrize("head", [TRITON, KSERVE_BINARY])
def test_images_as_bytes(served: ServiceProcess, head: bytes) -> None:
    answer = send(served.port, head + IMAGES.tobytes(), json_length=len(head))
    check(read_outputs(answer))
    assert (answer.headers["content-type"] == "application/octet-stream") == (head == TRITON)


def test_images_as_numbers(served: ServiceProcess) -> None:
    answer = send(served.port, KSERVE)
    assert answer.headers["content-type"] == "application/json"
    check(read_outputs(answer))


def test_triton_s_client(served: ServiceProcess) -> None:
    http = pytest.importorskip("tritonclient.http")
    client = http.InferenceServerClient(f"127.0.0.1:{served.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("model")
    assert client.is_model_ready("model", "1")
    assert not client.is_model_ready("other")
    assert client.get_model_metadata("model")["inputs"][0]["shape"] == [-1, 3, *SIZE]
    for binary in (True, False):
        given = http.InferInput("image", list(IMAGES.shape), "UINT8")
        given.set_data_from_numpy(IMAGES, binary_data=binary)
        answer = client.infer("model", [given])
        check({name: answer.as_numpy(name) for name in EXPECTED})
    with pytest.raises(Exception, match="did you mean 'score'"):
        client.infer("model", [given], outputs=[http.InferRequestedOutput("scores")])


def test_the_server_and_its_model_say_what_they_are(served: ServiceProcess) -> None:
    assert get(served.port, "/v2/health/live").json() == {"live": True}
    assert get(served.port, "/v2/health/ready").json() == {"ready": True}
    assert get(served.port, "/v2/models/model/versions/1/ready").json() == {"name": "model", "ready": True}
    assert get(served.port, "/v2").json()["extensions"] == ["binary_tensor_data"]
    model = get(served.port, "/v2/models/model").json()
    assert (model["name"], model["versions"], model["platform"]) == ("model", ["1"], "onnx_onnxv1")
    assert model["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 3, *SIZE]}]
    assert [one["name"] for one in model["outputs"]] == list(EXPECTED)


@pytest.mark.parametrize(
    ("body", "path", "status", "said"),
    [
        (KSERVE, "/v2/models/modle/infer", 404, "no model 'modle'; did you mean 'model'?"),
        (KSERVE, "/v2/models/model/versions/2/infer", 404, "no version '2'"),
        (KSERVE, f"{INFER}?version=2", 422, "`version`: unknown query parameter"),
        (b"", INFER, 400, "not valid JSON"),
        (picture(204), INFER, 400, "utf-8"),
        (KSERVE.replace(b'"image"', b'"picture"'), INFER, 400, "input 'picture', expected 'image'"),
        (KSERVE.replace(b"[2,3,", b"[4,3,"), INFER, 413, "4 images in one request, 3 are allowed"),
        (bytes(1_000_001), INFER, 413, "1,000,000 bytes"),
        (KSERVE, "/v2/models/model/explain", 404, "Not Found"),
    ],
)
def test_a_bad_request_is_refused_in_the_words_of_the_protocol(
    served: ServiceProcess, body: bytes, path: str, status: int, said: str
) -> None:
    refused = send(served.port, body, path=path)
    assert refused.status == status
    assert set(refused.json()) == {"error"}
    assert said in refused.json()["error"]
    assert send(served.port, KSERVE).status == 200


def test_its_images_are_counted_and_logged(served: ServiceProcess) -> None:
    def count(name: str) -> float:
        lines = get(served.port, "/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    requests = 'detector_requests_total{path="/v2/models/{name}/infer",status="200"}'
    before = count("detector_images_total"), count(requests)
    answer = send(served.port, KSERVE)
    (line,) = served.wait_for_log_lines(1, request=answer.headers["x-request-id"])
    assert (line["path"], line["images"], line["bytes"]) == ("/v2/models/{name}/infer", 2, len(KSERVE))
    assert (count("detector_images_total"), count(requests)) == (before[0] + 2, before[1] + 1)
    assert count("detector_images_in_progress") == 0


def test_the_queue_counts_them_and_the_model_runs_them_together(hosted: Hosting) -> None:
    batches: list[int] = []

    def model(images: NDArray[np.uint8]) -> list[Detections]:
        batches.append(len(images))
        labels, scores = np.zeros(0, np.int64), np.zeros(0, np.float32)
        return [Detections(np.zeros((0, 4)), scores, labels, labels, scores)] * len(images)

    with hosted(model, queue=2, max_images=2, batch=8) as port:
        del batches[:]
        assert send(port, KSERVE).status == 200
        assert batches == [2]
    with hosted(model, queue=1, max_images=2, batch=8) as port:
        refused = send(port, KSERVE)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert "1 are allowed" in refused.json()["error"]


def test_a_model_that_fails_says_so_in_the_words_of_the_protocol(hosted: Hosting) -> None:
    calls: list[int] = []

    def model(images: NDArray[np.uint8]) -> list[Detections]:
        calls.append(len(images))
        if len(calls) > 2:  # the first two calls warm it up
            raise RuntimeError("out of order")
        return []

    with hosted(model) as port:
        failed = send(port, KSERVE)
        assert failed.status == 500
        assert "the service failed" in failed.json()["error"]
