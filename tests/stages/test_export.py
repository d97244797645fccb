"""The export stage in a folder with an untrained detector, and the real torch-free process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import export
from detector.core.errors import UserError
from detector.core.params import load_section
from detector.engine.checkpoint import Card, save_checkpoint
from detector.engine.coco_stream import read_ground_truth
from detector.engine.detections import pack_rows
from detector.engine.ground_truth import pack_ground_truth
from detector.engine.settings import PostprocessParams
from detector.exporting import isolated_process
from detector.exporting.onnx_file import convert_to_onnx
from detector.exporting.settings import ExportParams
from detector.models.postprocess import Postprocess
from detector.models.state_head import StateConfig
from detector.runners.model_metadata import ModelMetadata
from detector.runners.onnx_runner import open_onnx
from detector.runners.torch_runner import build_runner, open_checkpoint
from tests.support.synthetic_model import build_synthetic_model

ROOT = Path(__file__).parents[2]
SIZE = (64, 96)
CLASSES = ["a", "b"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_project()
    return root


def make_project() -> None:
    """Write everything that export reads: nine images whose ground truth is the detector's best detections."""
    set_params()
    pixels = np.random.default_rng(0).integers(0, 256, (9, *SIZE, 3), dtype=np.uint8)
    model = build_synthetic_model("simple", StateConfig((True,), (1.0,), 0.5), pixels.transpose(0, 3, 1, 2).copy())
    card = Card(
        model="simple",
        classes=CLASSES,
        states=["whole"],
        size=SIZE,
        mean=(120,) * 3,
        std=(60,) * 3,
        recipe={},
        seed=0,
        data="data",
        validation={},
        code="code",
    )
    save_checkpoint(export.CHECKPOINT, model.state_dict(), card)
    postprocess = Postprocess(**load_section(Path("params.yaml"), "postprocess", PostprocessParams).model_dump())
    metadata, module = open_checkpoint(export.CHECKPOINT, postprocess, torch.device("cpu"))
    for path in (export.TEST, export.PREDICTIONS, export.DETAILS, export.MANIFEST):
        path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": k, "file_name": f"data/{k}.png", "width": 96, "height": 64} for k in range(1, 10)]
    for image, one in zip(images, pixels, strict=True):
        Image.fromarray(one).save(str(image["file_name"]))
    coco: dict[str, Any] = {"images": images, "annotations": [],
                            "states": [{"id": 1, "name": "whole", "present": True}],
                            "categories": [{"id": k, "name": name} for k, name in enumerate(CLASSES, 1)]}  # fmt: skip
    detections = build_runner(module, torch.device("cpu"))(pixels.transpose(0, 3, 1, 2).copy())
    results = list(export.build_predictions(pack_ground_truth(coco).images, detections, metadata).to_rows())
    for row in [row for image in images for row in [r for r in results if r["image_id"] == image["id"]][:4]]:
        area = row["bbox"][2] * row["bbox"][3]
        coco["annotations"].append({"id": len(coco["annotations"]) + 1, "image_id": row["image_id"], "iscrowd": 0,
                                    "category_id": row["category_id"], "bbox": row["bbox"], "area": area,
                                    "state": 1})  # fmt: skip
    export.TEST.write_text(json.dumps(coco))
    export.TRAIN.write_text(json.dumps(coco))
    export.PREDICTIONS.write_text(json.dumps(results))
    export.MANIFEST.write_text("manifest\n")
    rows = [{"class": name, "threshold": 0.9, "raw_threshold": 0.25} for name in CLASSES]
    export.DETAILS.write_text(json.dumps({"classes": rows, "calibration": {"temperature": None}}))


def convert_once(root: Path) -> Callable[..., onnx.ModelProto]:
    """Wrap `convert_to_onnx` to run once with and once without NMS; later calls load the saved file."""

    def convert(model: torch.nn.Module, metadata: ModelMetadata) -> onnx.ModelProto:
        saved = root / f"saved_{metadata.decoding is None}.onnx"
        if not saved.exists():
            onnx.save(convert_to_onnx(model, metadata), saved)
        return onnx.load(saved)

    return convert


def set_params(**values: str) -> None:
    """Write the project's params.yaml, on one thread, with changed values in the section `export`."""
    text = (ROOT / "params.yaml").read_text().replace("  threads: 2 ", "  threads: 1 ")
    for name, value in values.items():
        text, count = re.subn(rf"(\nexport:\n(?:.*\n)*?  {name}: )\S+", rf"\g<1>{value}", text)
        assert count == 1, name
    Path("params.yaml").write_text(text)


@pytest.fixture
def project(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Change to the project's folder; torch's exporter, which takes seconds, runs twice for all tests."""
    monkeypatch.chdir(made)
    monkeypatch.setattr(export, "convert_to_onnx", convert_once(made))
    yield made
    set_params()
    export.remove_outputs()


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("nms", ["true", "false"])
def test_the_exported_file_is_self_contained(project: Path, precision: str, nms: str) -> None:
    set_params(precision=precision, max_ap_drop="0.5", nms=nms)
    export.main()
    metadata, runner = open_onnx(export.MODEL, 1)
    assert metadata.precision == precision
    assert metadata.threshold == {"a": 0.25, "b": 0.25}
    assert (metadata.temperature, metadata.code, metadata.data) == (1.0, "code", "data")
    assert metadata.dataset == "7021e610a5f62eefd01830fea68e5fa180e8cf017c08ea0890c326b2854ebc96"
    assert len(runner(np.zeros((5, 3, *SIZE), np.uint8))) == 5
    assert (metadata.decoding is None) == (nms == "true")
    assert metadata.versions["onnxruntime"] == onnxruntime.__version__
    written = {entry.key: json.loads(entry.value) for entry in onnx.load(export.MODEL).metadata_props}
    assert read(export.SIDECAR) == written
    assert not export.WORST_IMAGE.exists()
    check_metrics(precision, nms == "true")


@pytest.mark.parametrize("drawback", ["", "20 ms per image, the other file 30 ms"])
def test_auto_exports_the_int8_file_if_it_has_no_drawback(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], drawback: str
) -> None:
    set_params(precision="auto", max_ap_drop="0.5")
    monkeypatch.setattr(export, "find_drawback", lambda *_: drawback)
    export.main()
    precision = "fp32" if drawback else "int8"
    assert open_onnx(export.MODEL, 1)[0].precision == read(export.SIDECAR)["precision"] == precision
    assert (f"precision auto is fp32: {drawback}" in capsys.readouterr().out) == bool(drawback)
    check_metrics(precision, True, made=["fp32", "int8"])


def check_metrics(precision: str, nms: bool, made: list[str] | None = None) -> None:
    """They are those of the file that ships; made: all files that were verified."""
    details = read(export.RESULTS / "details.json")
    own, fp32 = details["precisions"][precision], details["precisions"]["fp32"]
    assert list(details["precisions"]) == (made or list(dict.fromkeys(["fp32", precision])))
    assert own.items() <= details.items()
    assert read(export.METRICS) == {"export": {"AP": own["AP"], "AP_drop": own["AP_drop"]}}
    assert details["bytes"] == export.MODEL.stat().st_size
    assert (details["precision"], details["nms"], details["parity_images"]) == (precision, nms, 9)
    assert details["batch_sizes"] == ([1, 2, 8] if nms else [1])
    assert fp32["AP"] > 0.5
    assert abs(fp32["AP_drop"]) <= 0.001
    assert fp32["box_difference_below"] <= load_section(Path("params.yaml"), "export", ExportParams).box_tolerance
    assert fp32["unmatched_detections"] == 0
    predictions = export.RESULTS / "predictions.json"
    assert predictions.exists() == (precision != "fp32")
    if precision != "fp32":
        assert own["box_difference_below"] > fp32["box_difference_below"], "each file's own difference from the model"
        ap = export.compute_ap(read_ground_truth(export.TEST), pack_rows(read(predictions)))
        assert round(ap or 0, 6) == own["AP"]
    assert set(read(export.TIMES)) == set(details["precisions"])


def test_a_file_with_different_detections_is_not_written(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The detections that the file is compared with have shifted boxes."""
    original = export.build_runner

    def build_shifted(*arguments: Any) -> Any:
        run = original(*arguments)
        return lambda images: [one._replace(boxes_xyxy=one.boxes_xyxy + 0.7) for one in run(images)]

    monkeypatch.setattr(export, "build_runner", build_shifted)
    monkeypatch.setattr("detector.exporting.rounding.build_runner", build_shifted)
    for path in (export.MODEL, export.SIDECAR, export.METRICS):
        path.write_text("from an earlier run")
    with pytest.raises(UserError, match=r"fp32, batch size 8.* from the model on data/\d\.png"):
        export.main()
    assert not any(path.exists() for path in (export.MODEL, export.SIDECAR, export.METRICS))
    assert not list(export.RESULTS.iterdir())
    with Image.open(export.WORST_IMAGE) as image:
        assert image.size == (2 * 96, 64)


def test_a_file_with_lower_ap_is_not_written(project: Path) -> None:
    set_params(precision="int8", max_ap_drop="0")
    with pytest.raises(UserError, match=r"\(int8\) reaches AP 0\.\d+ on test, .* export\.max_ap_drop"):
        export.main()
    assert not any(path.exists() for path in (export.MODEL, export.SIDECAR, export.METRICS))
    assert not list(export.RESULTS.iterdir())


def test_predictions_from_another_model(project: Path) -> None:
    results = export.PREDICTIONS.read_text()
    export.PREDICTIONS.write_text("[]")
    with pytest.raises(UserError, match="data/predictions"):
        export.main()
    export.PREDICTIONS.write_text(results)


def test_thresholds_for_other_classes(project: Path) -> None:
    details = export.DETAILS.read_text()
    export.DETAILS.write_text(details.replace('"a"', '"c"'))
    with pytest.raises(UserError, match=r"details\.json .*\['c', 'b'\], the checkpoint \['a', 'b'\]"):
        export.main()
    export.DETAILS.write_text(details)


def test_the_isolated_process_cannot_import_torch() -> None:
    preamble = isolated_process.CODE.partition("from pathlib")[0]
    done = subprocess.run(
        [sys.executable, "-c", preamble + "import torch"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_errors_of_the_isolated_process_are_shown(project: Path) -> None:
    Path("bad.onnx").write_text("no ONNX")
    with pytest.raises(UserError, match=r"(?s)bad\.onnx cannot be run without torch.*ONNX Runtime cannot load it"):
        isolated_process.run_without_torch(Path("bad.onnx"), [], [], 1)
