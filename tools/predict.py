"""Detect objects in images, folders, videos or a camera stream with an exported model.

    python tools/predict.py MODEL INPUT... [--out FOLDER] [--format coco,jsonl,csv,pictures]

    python tools/predict.py models/model.onnx photos/ --format csv,pictures
    python tools/predict.py models/model.onnx 'scans/**/*.tif' --tile 640
    python tools/predict.py models/model.onnx clip.mp4 --format pictures

MODEL     an exported .onnx file; or, with DVC, a git revision or an artifact (tools/model_source.py)
INPUT     images, folders (searched recursively), patterns, videos, or a camera number; an input given twice is
          processed once

Writes to FOLDER, depending on the format: predictions.json (coco), dataset.jsonl (for `preprocess.format: jsonl`, to
correct and train on), predictions.csv, pictures/ (annotated images and videos). Every `score` written is calibrated.
Details: docs/predict.md. Needs numpy, pillow, pydantic and onnxruntime; for videos and cameras also
opencv-python-headless.
Exit code: 0; 1 after an error; 3 if some inputs could not be read completely; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from detector.core.errors import UserError, run_command
from detector.core.text_output import escape_controls
from detector.inference.annotate import ImageAnnotator
from detector.inference.decoding import UnreadableInput
from detector.inference.inputs import CollectedInputs, collect_inputs
from detector.inference.pipeline import Detector, Totals, predict_inputs
from detector.inference.progress import Progress, pluralize
from detector.inference.result_files import CocoFile, CsvFile, JsonLinesFile, ResultFile
from detector.inference.video import count_frames
from detector.runners.onnx_runner import PROVIDERS, open_onnx
from detector.runners.tiled import ModelMetadata
from detector.runners.tiling import make_tiling
from detector.training.interruption import defer_signals, install_signal_handlers, is_stop_requested, make_interrupted
from model_source import resolve_model

WRITERS: dict[str, Callable[[Path, ModelMetadata], ResultFile]] = {
    "coco": CocoFile,
    "jsonl": JsonLinesFile,
    "csv": CsvFile,
}
FORMATS = (*WRITERS, "pictures")
MOST = 1024  # threads, and images per batch
INCOMPLETE = 3  # exit code: some inputs could not be read completely


def main(arguments: list[str] | None = None) -> None:
    """Run the model on all inputs and write the results."""
    install_signal_handlers()
    args = parse(sys.argv[1:] if arguments is None else arguments)
    detector = open_detector(args)
    collected = collect_inputs(args.input, args.out)
    progress, totals = Progress(count_images(collected)), Totals()

    def report(problem: UnreadableInput) -> None:
        totals.problems.append(problem)
        progress.print_line(f"{problem.path}: {problem.reason}")

    create_folder(args.out)
    with defer_signals():
        with ExitStack() as stack:
            files = [open_result_file(name, args, detector.metadata, collected, stack) for name in args.format]
            for image, predictions in predict_inputs(collected.inputs, detector, needs_frames(args.format), report):
                for file in files:
                    file.add(image, predictions)
                totals.add(image, predictions)
                progress.step()
                if is_stop_requested():
                    break
        print_summary(totals, collected, detector.metadata, progress, args)
        if is_stop_requested():
            raise make_interrupted(f"stopped; {args.out} contains the results so far")
    if totals.problems:
        sys.exit(INCOMPLETE)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("model", help="an exported .onnx file, a git revision or an artifact")
    add("input", nargs="+", help="images, folders, patterns, videos, or a camera number")
    add("--out", type=Path, default=Path("predictions"), help="output folder (default: predictions)")
    formats = f"one or more of {','.join(FORMATS)} (default: coco)"
    add("--format", type=parse_formats, default=["coco"], help=formats)
    threshold = "minimum calibrated score, for all classes (default: the threshold per class stored in the model)"
    add("--threshold", type=parse_fraction, help=threshold)
    add("--tile", type=int, help="split large images into overlapping tiles with this side in pixels")
    add("--overlap", type=float, default=0.2, help="overlap of neighboring tiles as a fraction (default: 0.2)")
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
    tiling = None if args.tile is None else make_tiling(args.tile, args.overlap)
    metadata, runner = open_onnx(resolve_model(args.model), args.threads, args.provider)
    return Detector(
        metadata,
        runner,
        threshold=args.threshold,
        tiling=tiling,
        batch_size=args.batch_size,
        threads=args.threads,
    )


def count_images(collected: CollectedInputs) -> int:
    """Count images and video frames, 0 if the total is unknown. Raises UserError if OpenCV is missing for a video."""
    counts = [count_frames(one.path) if one.kind == "video" else int(one.kind == "image") for one in collected.inputs]
    return sum(counts) if all(counts) else 0


def needs_frames(chosen: list[str]) -> bool:
    """Return whether one of the formats needs the full-size frames of videos."""
    return bool({"jsonl", "pictures"} & set(chosen))


def create_folder(folder: Path) -> None:
    """Create the output folder before the first batch runs. Raises UserError when that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot create folder ({error.strerror}); choose another --out folder") from None


def open_result_file(
    name: str, args: argparse.Namespace, metadata: ModelMetadata, collected: CollectedInputs, stack: ExitStack
) -> ResultFile:
    """Open the output file of a format; the stack closes it."""
    file: ResultFile
    if name == "pictures":
        file = ImageAnnotator(args.out / name, metadata, find_common_folder(collected), args.threads)
    else:
        file = WRITERS[name](args.out, metadata)
    stack.callback(file.close)
    return file


def find_common_folder(collected: CollectedInputs) -> Path:
    """Return the innermost folder that contains all inputs."""
    return Path(os.path.commonpath([one.path.parent.resolve() for one in collected.inputs]))


def print_summary(
    totals: Totals, collected: CollectedInputs, metadata: ModelMetadata, progress: Progress, args: argparse.Namespace
) -> None:
    """Print the summary to stdout."""
    progress.clear()
    images, detections = pluralize(totals.images, "image"), pluralize(totals.boxes.total(), "detection")
    print(f"{images}, {detections}, {progress.seconds():.1f} s, {progress.speed()}")
    for number, name in enumerate(metadata.classes, 1):
        print(f"  {escape_controls(name)}: {totals.boxes[number]:,}")
    if metadata.states:
        counts = [f"{name} {totals.states[number]:,}" for number, name in enumerate(metadata.states, 1)]
        print(f"states: {escape_controls(', '.join(counts))}")
    notes = {
        "images without detections": totals.empty,
        "inputs that could not be read completely": len(totals.problems),
        "inputs given more than once (processed once)": collected.duplicates,
        "animated or multi-page images (first picture only)": totals.multi_page,
        "other files in the folders (skipped)": collected.skipped.total(),
    }
    for text, number in notes.items():
        if number:
            print(f"{text}: {number:,}")
    print(f"written: {args.out} ({', '.join(args.format)})")


if __name__ == "__main__":
    run_command(main)
