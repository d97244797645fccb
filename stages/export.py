"""Write the trained detector as an ONNX file, and prove that it answers like the model.

command  python stages/export.py
reads    params.yaml (export, postprocess), models/detector.{safetensors,json}, data/coco/{train,test}.json and images,
         data/predictions/test.json (what the model found), metrics/evaluate/details.json (thresholds, calibration),
         data/clean/manifest.jsonl (only its hash)
writes   models/model.onnx, metrics/export.json, logs/export.json (times; ignored by git); when the proof fails, no
         model file, but logs/export_worst.png (the image on which they differ most, with both answers)
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

from detector.engine.environment import check_torch, keep_freed_memory

check_torch()  # before the imports below, where a mismatched pair fails obscurely

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from detector.core.boxes import scale_to_fit
from detector.core.errors import UserError, run_command
from detector.core.images import load_letterboxed
from detector.core.params import load_section
from detector.engine.checkpoint import load_checkpoint
from detector.engine.coco_metrics import coco_numbers, evaluate_boxes
from detector.engine.dataset import present_objects, read_coco
from detector.engine.detections import Detections, Prediction, coco_results
from detector.engine.seeding import make_deterministic
from detector.exporting.gate import Compared, Tolerance, compare, refuse
from detector.exporting.isolated import answers_without_torch
from detector.exporting.onnx_file import OPSET, make_onnx, save_onnx
from detector.exporting.parity import Difference, ExportParams
from detector.exporting.precision import in_8_bits, in_half
from detector.models import load_model
from detector.models.postprocess import Postprocess, PostprocessParams
from detector.runners.subprocess_run import Pass
from detector.runners.tiled import ModelMetadata
from detector.runners.torch_runner import facts_of, runner_of

CHECKPOINT = Path("models/detector.safetensors")
TRAIN = Path("data/coco/train.json")
TEST = Path("data/coco/test.json")
PREDICTIONS = Path("data/predictions/test.json")
DETAILS = Path("metrics/evaluate/details.json")
MANIFEST = Path("data/clean/manifest.jsonl")
MODEL = Path("models/model.onnx")
METRICS = Path("metrics/export.json")
TIMES = Path("logs/export.json")
WORST = Path("logs/export_worst.png")
BATCHES = (8, 1, 2)  # the first is that of the whole split
AP_TOLERANCE = 0.001  # of the file in single precision
CALIBRATION = 64  # images of train, by which the ranges of 8 bits are set


class Judged(NamedTuple):
    """A file: its bytes, AP on test (None without objects), seconds of batches of 1 and 8, and how close it came."""

    content: bytes
    ap: float | None
    seconds: dict[int, float]
    worst: Difference


def main() -> None:
    params = load_section(Path("params.yaml"), "export", ExportParams)
    # What was evaluated is what is exported.
    postprocess = Postprocess(**load_section(Path("params.yaml"), "postprocess", PostprocessParams).model_dump())
    make_deterministic(0, params.threads)
    keep_freed_memory()
    MODEL.unlink(missing_ok=True)  # whatever stops this stage, an old file does not pass for a new one
    weights, card = load_checkpoint(CHECKPOINT)
    model = load_model(card.model, weights, len(card.classes), len(card.states), postprocess)
    facts = with_operating_point(facts_of(card, postprocess))
    test = read_coco(TEST)
    paths = [image["file_name"] for image in test["images"]]
    if not paths:
        raise UserError(f"{TEST}: no images, so nothing shows whether the ONNX file answers like the model")
    print(f"export {card.model}, {card.size[0]}x{card.size[1]}, opset {OPSET}, {params.precision}", flush=True)
    file = make_onnx(model, facts)
    run = runner_of(model, torch.device("cpu"))
    answers = [run(image[None].copy())[0] for image in letterboxed(paths[: params.images], facts)]
    ap = average_precision(test, json.loads(PREDICTIONS.read_text(encoding="utf-8")))
    judged = {"fp32": judge("fp32", file, facts, test, answers, params)}
    check_ap("fp32", judged["fp32"].ap, ap, AP_TOLERANCE)
    if params.precision != "fp32":
        other = in_half(file) if params.precision == "fp16" else in_8_bits(file, calibration_images(facts))
        described = facts._replace(precision=params.precision)
        judged[params.precision] = judge(params.precision, other, described, test, None, params)
        check_ap(params.precision, judged[params.precision].ap, ap, params.max_ap_drop)
    MODEL.write_bytes(judged[params.precision].content)
    write_numbers(judged, params, answers, ap)


def with_operating_point(facts: ModelMetadata) -> ModelMetadata:
    """What evaluation found out about the detector, and which dataset it comes from."""
    details = json.loads(DETAILS.read_text(encoding="utf-8"))
    threshold = {row["class"]: row["threshold"] for row in details["classes"]}
    temperature = details["calibration"]["temperature"]
    if list(threshold) != facts.classes:
        raise UserError(
            f"{DETAILS} is of classes {list(threshold)}, the checkpoint of {facts.classes}; run `dvc repro`"
        )
    return facts._replace(
        threshold=threshold,
        temperature=1.0 if temperature is None else temperature,  # nothing to fit it by
        dataset=hashlib.sha256(MANIFEST.read_bytes()).hexdigest(),
    )


def letterboxed(paths: list[str], facts: ModelMetadata) -> Iterator[NDArray[np.uint8]]:
    """The images as the model sees them, uint8 [3, H, W]."""
    for path in paths:
        yield load_letterboxed(Path(path), facts.size, facts.fill).pixels.transpose(2, 0, 1)


def calibration_images(facts: ModelMetadata) -> Iterator[NDArray[np.uint8]]:
    """Images spread evenly over train."""
    paths = [image["file_name"] for image in read_coco(TRAIN)["images"]]
    return letterboxed(paths[:: -(-len(paths) // CALIBRATION)], facts)


def judge(
    precision: str, file: onnx.ModelProto, facts: ModelMetadata, test: dict[str, Any], expected: list[Detections] | None,
    params: ExportParams,
) -> Judged:  # fmt: skip
    """Run the file without torch on test and compare; expected: the model's answers to the first images.

    Without them, batches of 1 and 2 must answer like batches of 8. Raises UserError when answers differ.
    """
    paths = [image["file_name"] for image in test["images"]]
    some = min(params.images, len(paths))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL.name
        save_onnx(file, facts, path)
        passes = [Pass(BATCHES[0], len(paths)), *(Pass(batch, some) for batch in BATCHES[1:])]
        replayed = answers_without_torch(path, paths, passes, params.threads)
        content = path.read_bytes()
    tolerance = Tolerance(params.box_tolerance, params.score_tolerance)
    worst = []
    for batch, (found, _) in zip(BATCHES, replayed, strict=True):
        reference = expected or replayed[0].found[:some]
        compared: Compared = compare(reference, found[:some], tolerance, facts.max_detections)
        if not compared.is_within(tolerance):
            other = "the model" if expected else f"in batches of {BATCHES[0]}"
            what = f"the ONNX file ({precision}) answers in batches of {batch} differently from {other}"
            pair = (reference[compared.image], found[compared.image])
            refuse(compared, tolerance, what, paths[compared.image], facts, pair, WORST)
        worst.append(compared.worst)
    seconds = {batch: statistics.median(one.seconds) for batch, one in zip(BATCHES, replayed, strict=True)}
    ap = average_precision(test, results_of(test, replayed[0].found, facts))
    return Judged(content, ap, seconds, Difference(*(max(values) for values in zip(*worst, strict=True))))


def results_of(test: dict[str, Any], found: list[Detections], facts: ModelMetadata) -> list[Prediction]:
    """Detections in pixels of the input as COCO results."""
    results = []
    for image, one in zip(test["images"], found, strict=True):
        width, height = image["width"], image["height"]
        scale = scale_to_fit(width, height, facts.size[1], facts.size[0])
        placed = one._replace(boxes_xyxy=one.boxes_xyxy.astype(np.float64) / scale)
        results += coco_results(placed, image["id"], width, height)
    return results


def average_precision(test: dict[str, Any], predictions: list[Prediction]) -> float | None:
    """COCO's AP; None when test has no object to find."""
    return coco_numbers(evaluate_boxes(present_objects(test), predictions))["AP"]


def check_ap(precision: str, found: float | None, expected: float | None, most: float) -> None:
    """Raises UserError when the file finds less than the model by more than `most`; in fp32, or more by as much."""
    if found is None or expected is None:
        return
    gap = abs(expected - found) if precision == "fp32" else expected - found
    if gap <= most:
        return
    advice = (
        "is data/predictions of this checkpoint? `dvc repro` runs what is lacking"
        if precision == "fp32"
        else "take export.precision: fp32, or allow more by export.max_ap_drop"
    )
    raise UserError(
        f"the ONNX file ({precision}) reaches AP {found:.4f} on test, the model {expected:.4f}: they "
        f"differ by {gap:.4f}, and {most} is allowed. No model file is left; {advice}"
    )


def write_numbers(judged: dict[str, Judged], params: ExportParams, answers: list[Detections], ap: float | None) -> None:
    """What can be repeated into the metrics, times into a file that is not tracked; a summary on the console."""
    worst, images, detections = judged["fp32"].worst, len(answers), sum(len(one.labels) for one in answers)
    metrics = {
        "images": images,
        "detections": detections,
        "batches": sorted(BATCHES),
        "opset": OPSET,
        "precision": params.precision,
        "bytes": len(judged[params.precision].content),
        # Rounded up to one digit: how far below its tolerance a difference lies is noise.
        "box_difference_below": ceiling(worst.box),
        "score_difference_below": ceiling(worst.score),
        "precisions": {
            name: {"bytes": len(one.content), "AP": rounded(one.ap), "AP_drop": rounded(drop(one.ap, ap))}
            for name, one in judged.items()
        },
    }
    METRICS.parent.mkdir(parents=True, exist_ok=True)
    METRICS.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    times = {name: {f"batch_{batch}_ms": round(one.seconds[batch] * 1000, 2) for batch in sorted(BATCHES)}
             for name, one in judged.items()}  # fmt: skip
    TIMES.parent.mkdir(exist_ok=True)
    TIMES.write_text(json.dumps(times) + "\n", encoding="utf-8")
    print(f"{images} images in batches of {sorted(BATCHES)} agree, {detections:,} detections: boxes to "
          f"{worst.box:.1e} pixels, scores to {worst.score:.1e}")  # fmt: skip
    if not detections:
        print("note: the model detects nothing on them, so this says little: train it longer")
    for name, one in judged.items():
        reached = "-" if one.ap is None else f"{one.ap:.4f}"
        print(f"{name}: {len(one.content) / 1e6:.1f} MB, AP {reached}, {one.seconds[1] * 1000:.1f} ms an image alone, "
              f"{one.seconds[8] * 1000 / 8:.1f} ms in batches of 8")  # fmt: skip


def drop(found: float | None, expected: float | None) -> float | None:
    """What the file finds less than the model."""
    return None if found is None or expected is None else expected - found


def rounded(value: float | None) -> float | None:
    """To 6 digits; without a minus before zero."""
    return None if value is None else round(value, 6) + 0.0


def ceiling(value: float) -> float:
    """The next power of ten; 1e-7 at least."""
    return float(f"1e{max(-7, int(np.ceil(np.log10(max(value, 1e-12)))))}")


if __name__ == "__main__":
    run_command(main)
