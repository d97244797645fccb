"""Large images in tiles: as tools/predict.py finds objects in them, within the limits of the service."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from fastapi import HTTPException
from numpy.typing import NDArray
from PIL import Image

from benchmarks.service_process import HttpResponse, ServiceProcess, build_multipart, build_request, send_request
from detector.engine.detections import Detections
from detector.inference.thresholds import apply_thresholds
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import detect_in_tiles
from detector.runners.tiling import Tiling, compute_windows
from detector.serving import decoding
from detector.serving.uploads import Upload
from tests.support.bright_model import make_image, write_bright
from tests.support.brightness import picture

Hosting = Callable[..., AbstractContextManager[int]]
NO_LABELS, NO_SCORES = np.zeros(0, np.int64), np.zeros(0, np.float32)
NOTHING = Detections(np.zeros((0, 4)), NO_SCORES, NO_LABELS, NO_LABELS, NO_SCORES)
SMALL = make_image((640, 480), white=(300, 200, 308, 206), red=(20, 400, 26, 410))
WINDOWS = len(compute_windows(256, 192, Tiling(96, 0.2)))


def send(port: int, body: bytes, query: str, kind: str = "image/png") -> HttpResponse:
    return asyncio.run(send_request(port, build_request(body, kind, f"/v1/predict?{query}")))


def test_it_answers_like_predict(tmp_path: Path) -> None:
    """Objects of 6 to 10 pixels, and a model whose input is a tenth of the image: whole, they are not seen."""
    model, file = write_bright(tmp_path / "bright.onnx"), io.BytesIO()
    SMALL.save(file, "PNG")
    (tmp_path / "small.png").write_bytes(file.getvalue())
    facts, runner = open_onnx(model, 1)
    (found,) = detect_in_tiles([tmp_path / "small.png"], runner, facts, 8, tiling=Tiling(128, 0.2),
                               iou_threshold=facts.nms_iou, max_detections=1000)  # fmt: skip
    expected = apply_thresholds(found, facts)
    with ServiceProcess(model, "--tile", "128") as served:
        for query, count in (("", 2), ("tile=128", 2), ("tile=0", 0)):
            (image,) = send(served.port, file.getvalue(), query).json()["images"]
            assert (image["width"], image["height"]) == (640, 480)
            assert len(image["detections"]) == count
            if count:
                assert [one["box_xyxy"] for one in image["detections"]] == expected.boxes_xyxy.round(2).tolist()
                assert [one["category_id"] for one in image["detections"]] == expected.labels.tolist()
        model_says = asyncio.run(send_request(served.port, build_request(path="/v1/model", method="GET"))).json()
        assert (model_says["tile"], model_says["auto_tile"]) == ("128", None)
    assert [box[:2] for box in expected.boxes_xyxy.round().tolist()] == [[300, 200], [20, 400]]


def test_tiles_as_large_as_the_training_images(tmp_path: Path) -> None:
    model = write_bright(tmp_path / "bright.onnx", object_size={"image_side": 128, "p10": 5, "p50": 7, "p90": 10})
    file = io.BytesIO()
    SMALL.save(file, "PNG")
    with ServiceProcess(model) as served:
        answers = [send(served.port, file.getvalue(), query).json() for query in ("tile=auto", "tile=128", "")]
        assert [len(answer["images"][0]["detections"]) for answer in answers] == [2, 2, 0]
        model_says = asyncio.run(send_request(served.port, build_request(path="/v1/model", method="GET"))).json()
        assert (model_says["tile"], model_says["auto_tile"]) == ("0", 128)


def test_several_images_come_back_in_their_order(served: ServiceProcess) -> None:
    body, kind = build_multipart(picture(250, (256, 192)), picture(10), picture(250, (64, 300)))
    images = send(served.port, body, "tile=96&threshold=0.3", kind).json()["images"]
    assert [(one["width"], one["height"]) for one in images] == [(256, 192), (128, 96), (64, 300)]
    assert [bool(one["detections"]) for one in images] == [True, False, True]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (picture(9, (700, 700)), 413, "image 1 has 730 tiles of 32 pixels, 256 are allowed: choose larger ones"),
        (picture(9, (1000, 700)), 413, "500,000 pixels"),
        (picture(9)[:200], 422, "image 1 cannot be used"),
        (b"text", 415, "JPEG, PNG"),
    ],
)
def test_the_limits_hold(served: ServiceProcess, body: bytes, status: int, said: str) -> None:
    refused = send(served.port, body, "tile=32")
    assert refused.status == status
    assert said in refused.json()["detail"]


def test_too_many_tiles_are_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file may have millions of pixels in a row."""
    built: list[int] = []
    monkeypatch.setattr(decoding, "compute_windows", lambda *size: built.append(1))
    file = io.BytesIO()
    Image.new("1", (1_000_000, 1)).save(file, "PNG")
    with pytest.raises(HTTPException, match=r"413: image 1 has 38463 tiles of 32 pixels, 256 are allowed"):
        decoding.decode_upload_in_full(Upload("", file.getvalue()), 1, 1_000_000, Tiling(32, 0.2), 256)
    assert not built


def test_one_batch_of_a_request_waits_at_a_time(hosted: Hosting) -> None:
    """So a request of many tiles does not keep the others waiting for all of them."""
    batches: list[int] = []

    def model(images: NDArray[np.uint8]) -> list[Detections]:
        batches.append(len(images))
        return [NOTHING] * len(images)

    with hosted(model, batch=4, queue=1, max_images=1) as port:  # an image is one, however many tiles it has
        del batches[:]
        assert send(port, picture(200, (256, 192)), "tile=96").status == 200
    assert sum(batches) == WINDOWS
    assert max(batches) <= 4


def test_who_has_gone_is_not_computed_to_the_end(hosted: Hosting) -> None:
    """The deadline ends a request of many tiles between two batches."""
    seen: list[int] = []

    def model(images: NDArray[np.uint8]) -> list[Detections]:
        seen.append(len(images))
        if len(seen) > 2:  # the first two calls warm it up
            gate.wait(0.4)
        return [NOTHING] * len(images)

    gate = threading.Event()
    with hosted(model, batch=2, timeout=0.2) as port:
        late = send(port, picture(200, (256, 192)), "tile=32")
        assert late.status == 503
        gate.set()
        assert send(port, picture(200), "").status == 200
    assert len(seen) <= 5
