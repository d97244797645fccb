"""Detect objects in images, folders, videos or a camera stream with an exported model.

    python tools/predict.py MODEL INPUT... [--out FOLDER] [--format coco,csv,pictures] [--classes NAME,...]

    python tools/predict.py models/model.onnx photos/ --format csv,pictures
    python tools/predict.py models/model.onnx 'scans/**/*.tif' --tile auto --save-crops
    find photos -newer last.txt | python tools/predict.py models/model.onnx - --format label-studio

MODEL     an exported .onnx file; or, with DVC, a git revision or an artifact (tools/model_source.py)
INPUT     images, folders (searched recursively), patterns, videos, a camera number, a .txt file with one path per line,
          or - for such lines on standard input; an input given twice is processed once

Writes to FOLDER, depending on the format: predictions.json (coco), results.json (coco-results), labels/ (yolo),
cvat.xml (cvat), label_studio.json (label-studio), dataset.jsonl with images/ (jsonl: to correct and train on),
predictions.csv, pictures/ (annotated images and videos); with --save-crops also crops/. Every `score` is calibrated.
Details: docs/predict.md. Needs numpy, pillow, pydantic and onnxruntime; for videos and cameras also
opencv-python-headless.
Exit code: 0; 1 after an error; 3 if some inputs could not be read completely; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from detector.core.errors import UserError, run_command
from detector.core.text_output import escape_controls
from detector.inference.annotate import ImageAnnotator
from detector.inference.crops import CropWriter
from detector.inference.dataset_file import JsonLinesFile, check_no_dataset
from detector.inference.decoding import UnreadableInput
from detector.inference.inputs import CollectedInputs, collect_inputs
from detector.inference.labeling_files import CvatFile, LabelStudioFile, check_cvat_inputs
from detector.inference.pipeline import Detector, Totals, predict_inputs
from detector.inference.progress import Progress, pluralize
from detector.inference.result_files import CocoFile, CocoResultsFile, CsvFile, ResultFile, YoloFolder
from detector.inference.thresholds import choose_classes
from detector.inference.video import count_frames
from detector.runners.model_metadata import ModelMetadata
from detector.runners.onnx_runner import PROVIDERS, open_onnx
from detector.runners.tiling import AUTO, OVERLAP, Tiling, choose_tiling, make_tiling
from detector.training.interruption import (
    StopRequested,
    defer_signals,
    install_signal_handlers,
    is_stop_requested,
    make_interrupted,
)
from model_source import resolve_model

WRITERS: dict[str, Callable[[Path, ModelMetadata, Path], ResultFile]] = {
    "coco": CocoFile,
    "coco-results": CocoResultsFile,
    "yolo": YoloFolder,
    "cvat": CvatFile,
    "label-studio": LabelStudioFile,
    "jsonl": JsonLinesFile,
    "csv": CsvFile,
}
FORMATS = (*WRITERS, "pictures")
NEED_FRAMES = {"label-studio", "jsonl", "pictures"}  # full-size frames of videos
LARGE = 2  # an image this many times as large as the training images is one for tiles
MOST = 1024  # threads, and images per batch
INCOMPLETE = 3  # exit code: some inputs could not be read completely


def main(arguments: list[str] | None = None) -> None:
    """Run the model on all inputs and write the results."""
    install_signal_handlers()
    args = parse(sys.argv[1:] if arguments is None else arguments)
    detector = open_detector(args)
    collected = collect_inputs(args.input, args.out)
    if "cvat" in args.format:
        check_cvat_inputs(collected.inputs)
    if "jsonl" in args.format:
        check_no_dataset(args.out)
    progress, totals = Progress(count_images(collected)), Totals(find_large_side(detector))
    create_folder(args.out)
    with defer_signals():
        with ExitStack() as stack, suppress(StopRequested):
            files = open_result_files(args, detector.metadata, collected.root, stack)
            predict_all(collected, detector, files, progress, totals, keep_frames=needs_frames(args))
        print_summary(totals, collected, detector, progress, args)
        if is_stop_requested():
            raise make_interrupted(f"stopped; {args.out} contains the results so far")
    if totals.problems:
        sys.exit(INCOMPLETE)


def predict_all(
    collected: CollectedInputs,
    detector: Detector,
    files: list[ResultFile],
    progress: Progress,
    totals: Totals,
    *,
    keep_frames: bool,
) -> None:
    """Run the model on all inputs. Raises StopRequested after a signal, between two batches, also of tiles."""

    def report(problem: UnreadableInput) -> None:
        totals.problems.append(problem)
        progress.print_line(f"{problem.path}: {problem.reason}")

    def watch(done: int, tiles: int) -> None:
        if is_stop_requested():
            raise StopRequested
        progress.count_tiles(done, tiles)

    for image, predictions in predict_inputs(collected.inputs, detector, keep_frames, report, watch):
        for file in files:
            file.add(image, predictions)
        totals.add(image, predictions)
        progress.step()
        if is_stop_requested():
            raise StopRequested


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("model", help="an exported .onnx file, a git revision or an artifact")
    inputs = (
        "images, folders, patterns, videos, a camera number, .txt files with a path per line, or - for standard input"
    )
    add("input", nargs="+", help=inputs)
    add("--out", type=Path, default=Path("predictions"), help="output folder (default: predictions)")
    formats = f"one or more of {','.join(FORMATS)} (default: coco)"
    add("--format", type=parse_formats, default=["coco"], help=formats)
    threshold = "minimum calibrated score, for all classes (default: the threshold per class stored in the model)"
    add("--threshold", type=parse_fraction, help=threshold)
    classes = "detect only these classes, separated by commas or in several --classes"
    add("--classes", action="append", metavar="NAME", help=classes)
    add("--save-crops", action="store_true", help="save each detection as a picture, in crops/CLASS")
    tile = "split large images into overlapping tiles with this side in pixels; auto: objects as large as in training"
    add("--tile", type=parse_tile, metavar="SIDE", help=tile)
    overlap = f"overlap of neighboring tiles as a fraction (default: {OVERLAP}; with --tile auto, from the model)"
    add("--overlap", type=float, help=overlap)
    provider = "ONNX Runtime execution provider (default: auto, the fastest available)"
    add("--provider", choices=("auto", *PROVIDERS), default="auto", help=provider)
    add("--threads", type=parse_count, default=count_cores(), help="number of CPU threads (default: all cores)")
    add("--batch-size", type=parse_count, default=8, help="images per batch (default: 8)")
    return parser.parse_args(arguments)


def parse_formats(text: str) -> list[str]:
    """Parse comma-separated format names."""
    names = [name.strip() for name in text.split(",")]
    if wrong := [name for name in names if name not in FORMATS]:
        raise argparse.ArgumentTypeError(
            f"got {', '.join(map(repr, wrong))}, expected one or more of {','.join(FORMATS)}"
        )
    return list(dict.fromkeys(names))


def parse_tile(text: str) -> int | str:
    """Parse a tile's side in pixels or `auto`."""
    if text != AUTO and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected {AUTO} or a number of pixels")
    return AUTO if text == AUTO else int(text)


def parse_fraction(text: str) -> float:
    """Parse a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a number from 0 to 1")
    return value


def parse_count(text: str) -> int:
    """Parse a number of threads or images: more than `MOST` would only take all memory."""
    value = int(text)
    if not 1 <= value <= MOST:
        raise argparse.ArgumentTypeError(f"got {text}, expected 1 to {MOST:,}")
    return value


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_detector(args: argparse.Namespace) -> Detector:
    """Open the model and combine it with the options for running it."""
    metadata, runner = open_onnx(resolve_model(args.model), args.threads, args.provider)
    return Detector(
        metadata,
        runner,
        threshold=args.threshold,
        classes=None if args.classes is None else choose_classes(args.classes, metadata.classes),
        tiling=build_tiling(args, metadata),
        batch_size=args.batch_size,
        threads=args.threads,
    )


def find_large_side(detector: Detector) -> float:
    """The longer side from which on images should probably be processed in tiles; infinite if they are."""
    trained_on = detector.metadata.object_size
    return math.inf if trained_on is None or detector.tiling is not None else LARGE * trained_on.image_side


def build_tiling(args: argparse.Namespace, metadata: ModelMetadata) -> Tiling | None:
    """Return the tiles asked for. Raises UserError for an invalid option or if the model does not know its own."""
    if args.tile is None:
        if args.overlap is not None:
            raise UserError("--overlap needs --tile")
        return None
    if args.tile != AUTO:
        return make_tiling(args.tile, OVERLAP if args.overlap is None else args.overlap)
    chosen = choose_tiling(metadata.object_size)
    return chosen if args.overlap is None else chosen._replace(overlap=make_tiling(chosen.side, args.overlap).overlap)


def count_images(collected: CollectedInputs) -> int:
    """Count images and video frames, 0 if the total is unknown. Raises UserError if OpenCV is missing for a video."""
    counts = [count_frames(one.path) if one.kind == "video" else int(one.kind == "image") for one in collected.inputs]
    return sum(counts) if all(counts) else 0


def needs_frames(args: argparse.Namespace) -> bool:
    """Return whether the output needs the full-size frames of videos."""
    return bool(NEED_FRAMES & set(args.format)) or args.save_crops


def create_folder(folder: Path) -> None:
    """Create the output folder before the first batch runs. Raises UserError when that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot create folder ({error.strerror}); choose another --out folder") from None


def open_result_files(
    args: argparse.Namespace, metadata: ModelMetadata, root: Path, stack: ExitStack
) -> list[ResultFile]:
    """Open the output files; the stack closes them."""
    files: list[ResultFile] = []

    def add(file: ResultFile) -> None:
        stack.callback(file.close)
        files.append(file)

    for name in args.format:
        if name == "pictures":
            add(ImageAnnotator(args.out / name, metadata, root, args.threads))
        else:
            add(WRITERS[name](args.out, metadata, root))
    if args.save_crops:
        add(CropWriter(args.out / "crops", metadata, root, args.threads))
    return files


def print_summary(
    totals: Totals, collected: CollectedInputs, detector: Detector, progress: Progress, args: argparse.Namespace
) -> None:
    """Print the summary to stdout."""
    progress.clear()
    metadata = detector.metadata
    images, detections = pluralize(totals.images, "image"), pluralize(totals.boxes.total(), "detection")
    print(f"{images}, {detections}, {progress.seconds():.1f} s, {progress.speed()}")
    for number, name in enumerate(metadata.classes, 1):
        if detector.classes is None or number in detector.classes:
            print(f"  {escape_controls(name)}: {totals.boxes[number]:,}")
    if metadata.states:
        counts = [f"{name} {totals.states[number]:,}" for number, name in enumerate(metadata.states, 1)]
        print(f"states: {escape_controls(', '.join(counts))}")
    notes = {
        "images without detections": totals.empty,
        f"images with more than {LARGE} times the pixels per side of those trained on (see --tile auto)": totals.large,
        "inputs that could not be read completely": len(totals.problems),
        "inputs given more than once (processed once)": collected.duplicates,
        "animated or multi-page images (first picture only)": totals.multi_page,
        "other files in the folders (skipped)": collected.skipped.total(),
    }
    for text, number in notes.items():
        if number:
            print(f"{text}: {number:,}")
    if detector.tiling is not None:
        print(f"tiles: {detector.tiling.side} pixels, overlapping by {detector.tiling.overlap:g}")
    written = [*args.format, *(["crops"] if args.save_crops else [])]
    print(f"written: {args.out} ({', '.join(written)}); images are named relative to {collected.root}")


if __name__ == "__main__":
    run_command(main)
