"""Find objects in images, folders, videos or what a camera sees, with an exported model.

    python tools/predict.py MODEL INPUT... [--out FOLDER] [--format coco,jsonl,csv,pictures]

    python tools/predict.py models/model.onnx photos/ --format csv,pictures
    python tools/predict.py models/model.onnx 'scans/**/*.tif' --tile 640
    python tools/predict.py models/model.onnx clip.mp4 --format pictures

MODEL     a file that export wrote (.onnx); or, with DVC, a git revision or an artifact (tools/model_source.py)
INPUT     images, folders (searched through), patterns, videos, or the number of a camera; each counts once

Writes into FOLDER, by format: predictions.json (coco), dataset.jsonl (what `preprocess.format: jsonl` reads, to be
corrected and trained on), predictions.csv, pictures/ (annotated images and videos). docs/predict.md has the details.
Needs numpy, pillow and onnxruntime; for videos and cameras opencv-python-headless.
Ends with 0; 1 after an error; 3 when it is done, but some inputs could not be read; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from detector.core.errors import UserError, run_command
from detector.inference.annotate import Pictures
from detector.inference.decoding import Problem, allow_large_images
from detector.inference.inputs import Inputs, gather
from detector.inference.pipeline import Detector, Totals, predict
from detector.inference.progress import Progress
from detector.inference.result_files import CocoFile, CsvFile, JsonLinesFile, ResultFile
from detector.inference.video import count_frames
from detector.runners.onnx_runner import PROVIDERS, open_onnx
from detector.runners.tiled import ModelMetadata
from detector.runners.tiling import tiling_of
from detector.training.interruption import deferred, interrupt, listen, requested
from model_source import model_path

FILES: dict[str, Callable[[Path, ModelMetadata], ResultFile]] = {
    "coco": CocoFile,
    "jsonl": JsonLinesFile,
    "csv": CsvFile,
}
FORMATS = (*FILES, "pictures")
INCOMPLETE = 3  # exit code: done, but not with every input


def main(arguments: list[str] | None = None) -> None:
    """Look at everything, and write the folder."""
    listen()
    warnings.simplefilter("ignore")  # Pillow's, of oddities in files that can be read all the same
    allow_large_images()
    given = parse(sys.argv[1:] if arguments is None else arguments)
    detector = open_detector(given)
    inputs = gather(given.input, given.out)
    progress, totals = Progress(total_of(inputs)), Totals()

    def report(problem: Problem) -> None:
        totals.problems.append(problem)
        progress.say(f"{problem.path}: {problem.reason}")

    make_folder(given.out)
    with deferred():
        with ExitStack() as stack:
            files = [open_file(name, given, detector.facts, inputs, stack) for name in given.format]
            for seen, predictions in predict(inputs.listed, detector, keeps_frames(given.format), report):
                for file in files:
                    file.add(seen, predictions)
                totals.add(seen, predictions)
                progress.step()
                if requested():
                    break
        tell(totals, inputs, detector.facts, progress, given)
        if requested():
            raise interrupt(f"stopped; {given.out} holds what was done before")
    if totals.problems:
        sys.exit(INCOMPLETE)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="a file that export wrote (.onnx), a git revision or an artifact")
    parser.add_argument("input", nargs="+", help="images, folders, patterns, videos, or a camera's number")
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="folder to write (default: predictions)")
    parser.add_argument("--format", type=formats, default=["coco"],
                        help=f"one or more of {','.join(FORMATS)} (default: coco)")  # fmt: skip
    parser.add_argument("--threshold", type=share,
                        help="least score of any class (default: the model's own for each class)")  # fmt: skip
    parser.add_argument("--tile", type=int, help="side in pixels of overlapping tiles, for large images")
    parser.add_argument("--overlap", type=float, default=0.2, help="of neighbouring tiles, as a share (default: 0.2)")
    parser.add_argument("--provider", choices=("auto", *PROVIDERS), default="auto",
                        help="what computes (default: auto, the fastest that works here)")  # fmt: skip
    parser.add_argument("--threads", type=count, default=cores(), help="of the CPU (default: all)")
    parser.add_argument("--batch-size", type=count, default=8, help="images at a time (default: 8)")
    return parser.parse_args(arguments)


def formats(text: str) -> list[str]:
    """Names with commas between them."""
    names = [name.strip() for name in text.split(",")]
    if wrong := [name for name in names if name not in FORMATS]:
        raise argparse.ArgumentTypeError(f"found {', '.join(map(repr, wrong))}, expected some of {','.join(FORMATS)}")
    return list(dict.fromkeys(names))


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"found {text}, expected a number from 0 to 1")
    return value


def count(text: str) -> int:
    """A number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {text}, expected 1 or more")
    return value


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_detector(given: argparse.Namespace) -> Detector:
    """The model, and how to run it."""
    tiling = None if given.tile is None else tiling_of(given.tile, given.overlap)
    facts, runner = open_onnx(model_path(given.model), given.threads, given.provider)
    return Detector(facts, runner, given.threshold, tiling, given.batch_size, given.threads)


def total_of(inputs: Inputs) -> int:
    """Images and frames, 0 when nobody knows. Raises UserError where videos cannot be read at all."""
    counts = [1 if one.kind == "image" else 0 if one.kind == "camera" else count_frames(one.path)
              for one in inputs.listed]  # fmt: skip
    return sum(counts) if all(counts) else 0


def keeps_frames(chosen: list[str]) -> bool:
    """Whether a format needs the pictures of a video's frames."""
    return bool({"jsonl", "pictures"} & set(chosen))


def make_folder(folder: Path) -> None:
    """Now rather than after the first batch. Raises UserError when it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); name another folder with --out") from None


def open_file(
    name: str, given: argparse.Namespace, facts: ModelMetadata, inputs: Inputs, stack: ExitStack
) -> ResultFile:
    """What answers are written to in a format; the stack closes it."""
    file: ResultFile
    if name == "pictures":
        file = Pictures(given.out / name, facts, common_folder(inputs), given.threads)
    else:
        file = FILES[name](given.out, facts)
    stack.callback(file.close)
    return file


def common_folder(inputs: Inputs) -> Path:
    """The innermost folder that holds all inputs."""
    return Path(os.path.commonpath([one.path.parent.resolve() for one in inputs.listed]))


def tell(totals: Totals, inputs: Inputs, facts: ModelMetadata, progress: Progress, given: argparse.Namespace) -> None:
    """The summary, on stdout."""
    progress.clear()
    boxes = totals.boxes.total()
    print(f"{totals.images:,} images, {boxes:,} objects, {progress.seconds():.1f} s, {progress.speed()}")
    for number, name in enumerate(facts.classes, 1):
        print(f"  {name}: {totals.boxes[number]:,}")
    if facts.states:
        print(
            "states: " + ", ".join(f"{name} {totals.states[number]:,}" for number, name in enumerate(facts.states, 1))
        )
    notes = {
        "images without an object": totals.empty,
        "inputs that could not be read (to their end)": len(totals.problems),
        "inputs that were given twice": inputs.doubles,
        "animated or paged images, of which the first picture counts": totals.first_of_many,
        "other files in the folders": inputs.left_out.total(),
    }
    for text, number in notes.items():
        if number:
            print(f"{text}: {number:,}")
    print(f"written: {given.out} ({', '.join(given.format)})")


if __name__ == "__main__":
    run_command(main)
