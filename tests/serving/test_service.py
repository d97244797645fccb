"""What the service answers when it is used as it is meant to be."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.service_process import (
    STARTED,
    HttpResponse,
    ServiceProcess,
    build_multipart,
    build_request,
    send_request,
)
from detector.inference.thresholds import apply_thresholds
from detector.plotting.palette import PALETTE
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import detect_images
from tests.support.brightness import FACTS, picture, write_model


def send(port: int, *arguments: str | bytes, **more: str) -> HttpResponse:
    return asyncio.run(send_request(port, build_request(*arguments, **more)))  # type: ignore[arg-type]


def get(port: int, path: str, **headers: str) -> HttpResponse:
    return send(port, path=path, method="GET", **headers)


def test_it_answers_like_the_model_on_the_same_file(served: ServiceProcess, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(picture(204, (256, 192)))
    facts, runner = open_onnx(model, 1)
    (expected,) = (apply_thresholds(found, facts, 0.0) for found in detect_images([file], runner, facts, 1))
    answer = send(served.port, file.read_bytes(), "image/png", "/v1/predict?threshold=0").json()["images"][0]
    assert (answer["name"], answer["width"], answer["height"]) == ("", 256, 192)
    found = answer["detections"]
    assert [one["box_xyxy"] for one in found] == expected.boxes_xyxy.tolist()
    assert [one["score"] for one in found] == pytest.approx(expected.scores.tolist(), abs=1e-5)
    assert [one["category_id"] for one in found] == expected.labels.tolist()
    assert [(one["category"], one["state"]) for one in found] == [("bright", None), ("dim", "whole")]
    assert found[0]["box_xyxy"] == [16, 32, 144, 160]  # twice the input's, as the image is twice as large


def test_many_images_come_back_in_their_order(served: ServiceProcess) -> None:
    body, kind = build_multipart(picture(250), picture(100), picture(180, (64, 300)))
    answer = send(served.port, body, kind).json()["images"]
    assert [one["name"] for one in answer] == ["1.jpg", "2.jpg", "3.jpg"]
    assert [(one["width"], one["height"]) for one in answer] == [(128, 96), (128, 96), (64, 300)]
    # By the raw scores: bright from 0.6, dim (half as sure) from 0.2; the long image is padded, so it is dark.
    assert [[one["category"] for one in image["detections"]] for image in answer] == [["bright", "dim"], [], []]


def test_a_threshold_is_of_the_score_that_is_answered(served: ServiceProcess) -> None:
    """Raw 0.8 and 0.4 are calibrated to 0.667 and 0.449 at the temperature 2."""
    for threshold, count in (("0.6", 1), ("0.44", 2), ("0.7", 0)):
        found = send(served.port, picture(204), path=f"/v1/predict?threshold={threshold}").json()["images"][0]
        assert len(found["detections"]) == count
    assert send(served.port, picture(204), path="/v1/predict?threshold=2").status == 422


def test_scores_say_their_scale(served: ServiceProcess) -> None:
    assert send(served.port, picture(204)).json()["scores"] == "calibrated"


@pytest.mark.parametrize("kind", ["", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream"])
def test_an_image_is_known_by_its_bytes(served: ServiceProcess, kind: str) -> None:
    """`curl --data-binary` sends the second one."""
    assert len(send(served.port, picture(204), kind).json()["images"][0]["detections"]) == 2


def test_a_photograph_taken_sideways(served: ServiceProcess) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.full((40, 80, 3), 255, np.uint8)).save(file, "JPEG", exif=exif)
    answer = send(served.port, file.getvalue()).json()["images"][0]
    assert (answer["width"], answer["height"]) == (40, 80)


def test_boxes_stay_inside_the_image(served: ServiceProcess) -> None:
    (found,) = send(served.port, picture(255, (64, 10)), path="/v1/predict?threshold=0").json()["images"]
    assert found["detections"][0]["box_xyxy"] == [4, 8, 36, 10]


def test_the_model_says_what_it_is(served: ServiceProcess, model: Path) -> None:
    answer = get(served.port, "/v1/model").json()
    assert {key: answer[key] for key in ("model", "classes", "states", "data", "code", "dataset", "precision")} == {
        key: FACTS[key] for key in ("model", "classes", "states", "data", "code", "dataset", "precision")
    }
    assert answer["size"] == [96, 128]
    assert answer["file"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert answer["threshold"] == {"dim": pytest.approx(1 / 3, abs=1e-5), "bright": pytest.approx(0.55051, abs=1e-5)}
    assert answer["limits"]["max_images"] == 3
    assert answer["colors"] == list(PALETTE[:2])


def test_probes_and_numbers(served: ServiceProcess) -> None:
    assert get(served.port, "/healthz").status == get(served.port, "/readyz").status == 200
    before = numbers(served.port)
    assert send(served.port, picture(200)).status == 200
    assert get(served.port, f"/{'x' * 50}").status == 404
    after = numbers(served.port)
    for name, more in (
        ('detector_requests_total{path="/v1/predict",status="200"}', 1),
        ('detector_requests_total{path="other",status="404"}', 1),
        ("detector_images_total", 1),
        ("detector_batch_images_count", 1),
        ("detector_images_in_progress", 0),
    ):
        assert after[name] - before.get(name, 0) == more


def numbers(port: int, **headers: str) -> dict[str, float]:
    """Name and value of each line of /metrics."""
    answer = get(port, "/metrics", **headers)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = [line.rpartition(" ") for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_a_line_in_the_log_without_names_or_contents(served: ServiceProcess) -> None:
    body, kind = build_multipart(picture(111), picture(112))
    answer = send(served.port, body.replace(b"1.jpg", b"secret.jpg"), kind, "/v1/predict?threshold=0.123")
    (line,) = served.wait_for_log_lines(1, request=answer.headers["x-request-id"])
    assert line["status"] == 200
    assert line["images"] == 2
    assert line["path"] == "/v1/predict"
    assert line["ms"] > 0
    assert "secret" not in str(line)


def test_pages_need_nothing_from_elsewhere(served: ServiceProcess) -> None:
    for path in ("/", "/docs"):
        answer = get(served.port, path)
        assert answer.headers["content-type"].startswith("text/html")
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert b"http" not in answer.body
    paths = get(served.port, "/openapi.json").json()["paths"]
    assert set(paths) == {
        "/v1/predict", "/v1/model", "/metrics", "/healthz", "/readyz", "/v2", "/v2/health/live", "/v2/health/ready",
        "/v2/models/{name}", "/v2/models/{name}/ready", "/v2/models/{name}/infer",
    }  # fmt: skip
    assert set(paths["/v1/predict"]["post"]["requestBody"]["content"]) == {"multipart/form-data", "image/*"}
    assert set(paths["/v1/predict"]["post"]["responses"]) == {"200", "400", "401", "408", "413", "415", "422", "503"}


def test_a_token_locks_what_computes_or_tells(model: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s€cret\n", encoding="utf-8")
    with ServiceProcess(model, "--token-file", str(tmp_path / "token")) as served:
        assert get(served.port, "/healthz").status == get(served.port, "/").status == 200
        assert get(served.port, "/v2/health/ready").status == get(served.port, "/v2/models/model/ready").status == 200
        assert get(served.port, "/v2/models/x/ready").json() == {"error": "no model 'x'"}  # nor does it tell the name
        for path, method in (("/v1/predict", "POST"), ("/v1/model", "GET"), ("/metrics", "GET"), ("/v2", "GET"),
                             ("/v2/models/model", "GET")):  # fmt: skip
            for wrong in ({}, {"Authorization": "Bearer s"}, {"Authorization": "Basic s€cret"}):
                answer = send(served.port, picture(9), path=path, method=method, **wrong)
                assert answer.status == 401
                assert answer.headers["www-authenticate"] == "Bearer"
            right = send(served.port, picture(9), path=path, method=method, Authorization="Bearer s€cret")
            assert right.status == 200
        assert send(served.port, b"{}", path="/v2/models/model/infer").status == 401
        assert "cret" not in str(served.read_log())


def test_several_workers_are_one_service(model: Path) -> None:
    """They count together; one that is killed is replaced, and nobody notices."""
    token = {"Authorization": "Bearer t"}
    with ServiceProcess(model, "--workers", "2", DETECTOR_TOKEN="t") as served:
        first, second = (line["process"] for line in served.wait_for_log_lines(2, message=STARTED))
        assert {send(served.port, picture(200), **token).status for _ in range(20)} == {200}
        assert len(served.wait_for_log_lines(20, path="/v1/predict")) == 20  # they are counted after the answer
        os.kill(first, signal.SIGKILL)
        third = served.wait_for_log_lines(3, message=STARTED)[2]["process"]
        assert len({first, second, third}) == 3
        assert {send(served.port, picture(200), **token).status for _ in range(10)} == {200}
        assert len(served.wait_for_log_lines(30, path="/v1/predict")) == 30
        counted = numbers(served.port, **token)
        assert counted['detector_requests_total{path="/v1/predict",status="200"}'] == 30
        assert counted["detector_images_total"] == 30
        assert served.stop() == 0


def test_pages_elsewhere_may_ask_only_if_allowed(served: ServiceProcess, model: Path) -> None:
    preflight = {"Origin": "https://a.example", "Access_Control_Request_Method": "POST",
                 "Access_Control_Request_Headers": "authorization"}  # fmt: skip
    assert "access-control-allow-origin" not in get(served.port, "/v1/model", Origin="https://a.example").headers
    assert send(served.port, path="/v1/predict", method="OPTIONS", **preflight).status == 405
    with ServiceProcess(model, "--allow-origin", "https://a.example", DETECTOR_TOKEN="t") as open_served:
        answer = send(open_served.port, path="/v1/predict", method="OPTIONS", **preflight)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        assert "Authorization" in answer.headers["access-control-allow-headers"]
        refused = get(open_served.port, "/v1/model", Origin="https://a.example")
        assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, "https://a.example")
        assert send(open_served.port, path="/v1/predict", method="OPTIONS", **preflight | {"Origin": "http://b"}
                    ).status == 400  # fmt: skip
        page = get(open_served.port, "/", Origin="http://b")
        assert page.status == 200
        assert "access-control-allow-origin" not in page.headers


def test_a_single_worker_replaces_its_model(tmp_path: Path) -> None:
    """SIGHUP ends neither the process that loads the model nor, sent to all processes of a terminal, the worker."""
    path = write_model(tmp_path / "model.onnx")
    with ServiceProcess(path) as served:
        (worker,) = (line["process"] for line in served.wait_for_log_lines(1, message=STARTED))
        os.kill(worker, signal.SIGHUP)
        assert get(served.port, "/healthz").status == 200
        write_model(tmp_path / "new.onnx", code="new").replace(path)
        served.process.send_signal(signal.SIGHUP)
        assert served.wait_for_log_lines(1, message="the model was replaced in all 1 workers")
        assert get(served.port, "/v1/model").json()["code"] == "new"
        assert not [line for line in served.read_log() if "died" in line["message"]]
        assert served.process.poll() is None


@pytest.mark.long
def test_a_new_model_takes_over_while_requests_come(tmp_path: Path) -> None:
    """After SIGHUP each of several workers opens the file that is there by now; the others answer meanwhile."""
    path = write_model(tmp_path / "model.onnx")
    with ServiceProcess(path, "--workers", "2") as served:
        served.wait_for_log_lines(2, message=STARTED)
        write_model(tmp_path / "new.onnx", code="new").replace(path)
        served.process.send_signal(signal.SIGHUP)
        statuses, codes, resets = [], ["code"], 0
        end = time.monotonic() + 60
        while codes[-20:] != ["new"] * 20 and time.monotonic() < end:
            try:
                statuses.append(send(served.port, picture(200)).status)
                codes.append(get(served.port, "/v1/model").json()["code"])
            except (ConnectionResetError, asyncio.IncompleteReadError):
                resets += 1  # it was accepted by a worker in its last moment
        assert codes[-20:] == ["new"] * 20
        assert codes.count("code") > 3, "the old workers answered meanwhile"
        assert set(statuses) == {200}
        assert resets <= 2, "at most one of each old worker"
        assert served.stop() == 0
