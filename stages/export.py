"""Write the trained detector as an ONNX file, and prove that it answers like the model.

command  python stages/export.py
reads    params.yaml (export, evaluate), models/detector.{safetensors,json}, data/coco/test.json and images,
         metrics/evaluate/details.json (thresholds, calibration), data/clean/manifest.jsonl (only its hash)
writes   models/model.onnx, metrics/export.json; no model file when the proof fails
time     about 20 s on 2 cores
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from detector.environment import check_torch, keep_freed_memory

check_torch()  # before the imports below, where a mismatched pair fails obscurely

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from detector.checkpoint import load_checkpoint
from detector.data.dataset import read_coco
from detector.data.images import load_letterboxed
from detector.errors import UserError, run_command
from detector.evaluation.settings import EvaluateParams, postprocess_of
from detector.evaluation.torch_runner import facts_of
from detector.exporting.onnx_file import INPUT, OPSET, OUTPUTS, write_onnx
from detector.exporting.parity import Answer, Difference, ExportParams, difference
from detector.inference.running import Facts
from detector.models import load_model
from detector.params import load_section
from detector.seeding import make_deterministic

CHECKPOINT = Path("models/detector.safetensors")
TEST = Path("data/coco/test.json")
DETAILS = Path("metrics/evaluate/details.json")
MANIFEST = Path("data/clean/manifest.jsonl")
MODEL = Path("models/model.onnx")
METRICS = Path("metrics/export.json")
BATCHES = (1, 2, 3)
# Two boxes with almost the same score may change places at NMS: a detection that only one side has may have at
# most this score.
WEAK = 0.05


def main() -> None:
    params = load_section(Path("params.yaml"), "export", ExportParams)
    # What was evaluated is what is exported.
    evaluated = load_section(Path("params.yaml"), "evaluate", EvaluateParams)
    make_deterministic(0, evaluated.threads)
    keep_freed_memory()
    weights, card = load_checkpoint(CHECKPOINT)
    postprocess = postprocess_of(evaluated)
    model = load_model(card.model, weights, len(card.classes), len(card.states), postprocess)
    facts = with_operating_point(facts_of(card, postprocess))
    print(f"export {card.model}, {card.size[0]}x{card.size[1]}, opset {OPSET}", flush=True)
    try:
        write_onnx(model, facts, MODEL)
        compared, worst = compare(model, facts, params)
    except BaseException:
        MODEL.unlink(missing_ok=True)
        raise
    size = MODEL.stat().st_size
    metrics = {
        "images": compared,
        "batches": list(BATCHES),
        "opset": OPSET,
        "bytes": size,
        # Rounded up to one digit: how far below its tolerance a difference lies is noise.
        "box_difference_below": ceiling(worst.box),
        "score_difference_below": ceiling(worst.score),
    }
    METRICS.parent.mkdir(parents=True, exist_ok=True)
    METRICS.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    print(f"{MODEL}: {size / 1e6:.1f} MB; {compared} images in batches of {BATCHES} agree: "
          f"boxes to {worst.box:.1e} pixels, scores to {worst.score:.1e}")  # fmt: skip


def with_operating_point(facts: Facts) -> Facts:
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


def compare(model: nn.Module, facts: Facts, params: ExportParams) -> tuple[int, Difference]:
    """Both on the same test images; raises UserError with the worst image when they disagree."""
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    paths = [image["file_name"] for image in read_coco(TEST)["images"]][: params.images]
    worst = Difference(0.0, 0.0, 0.0)
    for batch in tqdm(list(batches(paths)), desc="compare", unit="batch", disable=None):
        images = np.stack(
            [load_letterboxed(Path(path), facts.size, facts.fill).pixels.transpose(2, 0, 1) for path in batch]
        )
        pairs = zip(batch, answers_of_model(model, images), answers_of_file(session, images, MODEL), strict=True)
        for path, expected, found in pairs:
            now = difference(expected, found, params.score_tolerance)
            if now.box > params.box_tolerance or now.score > params.score_tolerance or now.unmatched > WEAK:
                raise UserError(
                    f"the ONNX file answers differently from the model on {path} (batch of {len(batch)}): boxes by "
                    f"{now.box:.3g} pixels, scores by {now.score:.3g}, a detection of score {now.unmatched:.3g} on "
                    f"one side only; allowed are {params.box_tolerance}, {params.score_tolerance} and {WEAK}. "
                    "No model file is left; metrics/export.json is not written."
                )
            worst = Difference(*(max(pair) for pair in zip(worst, now, strict=True)))
    return len(paths), worst


def batches(paths: list[str]) -> Iterator[list[str]]:
    """All paths, in batches of each size in turn."""
    rest = iter(paths)
    for size in itertools.cycle(BATCHES):
        batch = list(itertools.islice(rest, size))
        if not batch:
            return
        yield batch


def answers_of_model(model: nn.Module, images: NDArray[np.uint8]) -> list[Answer]:
    """What the PyTorch model says to uint8 images [B, 3, H, W]."""
    with torch.no_grad():
        detections = model(torch.from_numpy(images)).detections
    columns = (detections.boxes_xyxy, detections.scores, detections.labels, detections.states, detections.state_scores)
    return [Answer(*row) for row in zip(*(column.numpy() for column in columns), strict=True)]


def answers_of_file(session: onnxruntime.InferenceSession, images: NDArray[np.uint8], path: Path) -> list[Answer]:
    """What the ONNX file says; raises UserError when it answers fewer images than it was given."""
    outputs = session.run(None, {INPUT: images})
    if any(len(output) != len(images) for output in outputs):
        raise UserError(f"{path} answered {len(outputs[0])} images of a batch of {len(images)}")
    if len(outputs) == len(OUTPUTS):  # no state head: what the model says then
        outputs += [np.zeros_like(outputs[2]), np.zeros_like(outputs[1])]
    return [Answer(*row) for row in zip(*outputs, strict=True)]


def ceiling(value: float) -> float:
    """The next power of ten; 1e-7 at least."""
    return float(f"1e{max(-7, int(np.ceil(np.log10(max(value, 1e-12)))))}")


if __name__ == "__main__":
    run_command(main)
