"""Evaluate any checkpoint or exported ONNX file on any split or dataset, in the same way as the evaluate stage.

    python tools/evaluate_model.py MODEL DATASET [--format F] [--split S] [--tile N [--overlap X]] [--out FOLDER]

    python tools/evaluate_model.py models/model.onnx test
    python tools/evaluate_model.py models/detector.safetensors data/raw/bccd_voc --split test
    python tools/evaluate_model.py models/model.onnx data/raw/aerial --tile 640

MODEL     a checkpoint (.safetensors, with its .json beside it) or an exported file (.onnx); or, with DVC, a git
          revision, an experiment's name or an artifact such as model@v1.2.0 (tools/model_source.py)
DATASET   train, val or test of this repository; or a dataset's folder; or a COCO file (.json) that coco-convert or
          this command wrote
FOLDER    default: evaluations/DATASET_MODEL-HASH_FORMAT

Writes into FOLDER metrics.json (`metrics` of metrics/evaluate/details.json, and under `about` what they refer to),
details.json, predictions.json (COCO results), ground_truth.json (COCO, with the category ids of the predictions),
pictures/ and, for a dataset's folder, findings.csv (everything that was dropped or repaired).
Reads params.yaml: `evaluate`, `postprocess`, and for a folder `preprocess` and `coco_convert.absent_states`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from detector.engine.environment import check_torch, keep_freed_memory

check_torch()  # before the imports below, where a mismatched pair fails obscurely

from detector.comparison.coco_file import read_coco_file
from detector.comparison.model_evaluation import EvaluationResult, LoadedModel, evaluate_model, open_model
from detector.core.errors import UserError, run_command
from detector.core.machine import load_machine_settings
from detector.core.output_files import write_bytes, write_text
from detector.core.params import load_section
from detector.engine.coco_stream import read_ground_truth
from detector.engine.seeding import make_deterministic
from detector.engine.settings import PostprocessParams
from detector.evaluation.galleries import GALLERY_SIZE
from detector.evaluation.settings import EvaluateParams
from detector.evaluation.writers import write_metrics_json, write_predictions
from detector.manifest.manifest import SPLITS
from detector.models.postprocess import Postprocess
from detector.preprocessing.findings import FindingLog, describe_counts, summarize_counts
from detector.preprocessing.formats import READERS
from detector.preprocessing.formats.recognition import recognize_format
from detector.preprocessing.read_dataset import read_clean_dataset
from detector.preprocessing.settings import PreprocessParams
from detector.runners.tiling import OVERLAP, Tiling, make_tiling
from detector.splitting.coco_writer import build_coco_dataset
from detector.splitting.settings import CocoConvertParams
from model_source import resolve_model

PARAMS = Path("params.yaml")
MACHINE = Path("machine.yaml")
COCO = Path("data/coco")
EVALUATIONS = Path("evaluations")
INSPECTION_CACHE = Path(".cache/preprocess")  # what preprocess remembers of files


class Dataset(NamedTuple):
    """coco: as coco-convert writes it; name: for the output folder; log, format: None unless it was a raw folder."""

    coco: dict[str, Any]
    name: str
    log: FindingLog | None
    format: str | None


class TrainingData(NamedTuple):
    """contents: hashes of train's images; val: COCO dictionary."""

    contents: frozenset[str]
    val: dict[str, Any]


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="a checkpoint (.safetensors), an .onnx file, a revision or an artifact")
    parser.add_argument("dataset", help="train, val or test; or a dataset's folder; or a COCO file of this project")
    parser.add_argument("--format", choices=READERS, help="format of the dataset's folder (default: recognized)")
    parser.add_argument("--split", choices=SPLITS, help="only this one of the dataset's own lists")
    parser.add_argument("--tile", type=int, help="side in pixels of overlapping tiles, for large images")
    parser.add_argument("--overlap", type=float, help=f"overlap of tiles, as a fraction (default: {OVERLAP})")
    parser.add_argument("--out", type=Path, help="output folder")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Evaluate, and write the folder."""
    given = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    params = load_section(PARAMS, "evaluate", EvaluateParams)
    machine = load_machine_settings(MACHINE)
    postprocess = Postprocess(**load_section(PARAMS, "postprocess", PostprocessParams).model_dump())
    if given.tile is None and given.overlap is not None:
        raise UserError("--overlap needs --tile")
    given.overlap = OVERLAP if given.overlap is None else given.overlap
    tiling = None if given.tile is None else make_tiling(given.tile, given.overlap)
    make_deterministic(0, params.threads)
    keep_freed_memory()
    path = resolve_model(given.model)
    model = open_model(path, params.threads, machine.evaluation_batch_size, postprocess)
    folder = given.out or EVALUATIONS / folder_name(given, path.stem, model)
    dataset = open_dataset(given, folder)
    if tiling is not None:
        check_tile(tiling, dataset.coco)
    create_folder(folder)
    training = load_training_data(model)
    result = evaluate_model(model, dataset.coco, None if training is None else training.val, params, tiling)
    about = describe_evaluation(given, dataset, model, result, training)
    write_results(folder, result, about, dataset.log)
    result.draw_galleries(folder / "pictures", GALLERY_SIZE)
    print_summary(result, about, folder)


def check_tile(tiling: Tiling, coco: dict[str, Any]) -> None:
    """Raises UserError when no image would be cut into tiles."""
    largest = max((max(image["width"], image["height"]) for image in coco["images"]), default=0)
    if tiling.side >= largest:
        raise UserError(
            f"--tile {tiling.side}: no image is larger, the largest has a side of {largest} pixels; take a smaller "
            "tile, or leave --tile out"
        )


def folder_name(given: argparse.Namespace, stem: str, model: LoadedModel) -> str:
    """The name of the output folder: dataset, the model file's name and the start of its hash, format, and tiles."""
    dataset = given.dataset if given.dataset in SPLITS else Path(given.dataset).resolve().stem
    parts = [
        dataset if given.split is None else f"{dataset}-{given.split}",
        f"{stem}-{model.digest[:8]}",
        model.kind,
    ]
    if given.tile is not None:
        parts.append(f"tile{given.tile}-{given.overlap:g}")
    return "_".join(parts)


def create_folder(folder: Path) -> None:
    """Create the folder now, rather than find out after minutes that it cannot be written."""
    try:
        write_bytes(folder / "metrics.json", b"")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); name another folder with --out") from None
    (folder / "metrics.json").unlink()  # a failed run leaves no metrics


def open_dataset(given: argparse.Namespace, out: Path) -> Dataset:
    """Open the split, folder or file. Raises UserError when it cannot be used."""
    path, is_split = Path(given.dataset), given.dataset in SPLITS
    if path.is_dir() and not is_split:
        return read_raw_dataset(given, out)
    if given.format or given.split:
        raise UserError(f"{given.dataset}: --format and --split apply to a dataset's folder, which this is not")
    coco = read_converted_coco(COCO / f"{path}.json" if is_split else path)
    return Dataset(coco, path.stem, None, None)


def read_converted_coco(path: Path) -> dict[str, Any]:
    """Read a COCO file as coco-convert writes it."""
    if not path.exists():
        raise UserError(
            f"{path}: missing; expected {', '.join(SPLITS)} (after `dvc repro coco-convert`), a dataset's folder, or "
            "a COCO file that coco-convert wrote"
        )
    try:
        return read_coco_file(path)
    except UserError as error:
        raise UserError(
            f"{error}\n{path} is not a COCO file as coco-convert writes it; for other COCO files, name the dataset's "
            "folder, with --format coco"
        ) from None


def read_raw_dataset(given: argparse.Namespace, out: Path) -> Dataset:
    """Read a raw dataset and clean it as params.yaml says, with all its classes and states."""
    rules = load_section(PARAMS, "preprocess", PreprocessParams)
    format_ = given.format
    if format_ is None:
        recognized = recognize_format(Path(given.dataset))
        format_ = recognized.format
        print(f"{given.dataset}: {recognized}")
    every = {"dataset": given.dataset, "format": format_, "classes": None, "states": None}
    create_folder(out)
    cleaned = read_clean_dataset(rules.model_copy(update=every), given.split, out / "images", INSPECTION_CACHE)
    if not cleaned.images:
        found = summarize_counts(cleaned.log.counts())
        raise UserError(f"{given.dataset}: none of its images can be used; findings: {found}")
    coco = build_coco_dataset(cleaned.images, cleaned.labels, load_section(PARAMS, "coco_convert", CocoConvertParams))
    return Dataset(coco, Path(given.dataset).resolve().name, cleaned.log, format_)


def load_training_data(model: LoadedModel) -> TrainingData | None:
    """The training data of this repository, if the model was trained on exactly these."""
    paths = [COCO / f"{split}.json" for split in ("train", "val")]
    if not all(path.is_file() for path in paths):
        return None
    data = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    if data != model.metadata.data:
        return None
    return TrainingData(frozenset(read_ground_truth(paths[0]).images.contents.tolist()), read_coco_file(paths[1]))


def describe_evaluation(
    given: argparse.Namespace,
    dataset: Dataset,
    model: LoadedModel,
    result: EvaluationResult,
    training: TrainingData | None,
) -> dict[str, Any]:
    """What was evaluated, and everything that was left out."""
    trained = None if training is None else training.contents
    contents = [image.get("content") for image in dataset.coco["images"]]
    return {
        "model": given.model,
        "sha256": model.digest,
        "architecture": model.metadata.model,
        "dataset": given.dataset,
        "format": dataset.format,
        "split": given.split,
        "tile": given.tile,
        "overlap": None if given.tile is None else given.overlap,
        "images": len(contents),
        "images_seen_in_training": None if trained is None else sum(content in trained for content in contents),
        "objects": result.objects,
        "classes": result.mapped.classes,
        "threshold_chosen_on": result.chosen_on,
        **result.left_out,
        "findings": {} if dataset.log is None else dataset.log.counts(),
    }


def write_results(folder: Path, result: EvaluationResult, about: dict[str, Any], log: FindingLog | None) -> None:
    """Write all files but the pictures; metrics.json last."""
    write_predictions(folder / "predictions.json", result.matched.predictions)
    truth = json.dumps(result.mapped.truth, ensure_ascii=False, separators=(",", ":"))
    write_text(folder / "ground_truth.json", truth + "\n")
    if log is not None:
        log.write_csv(folder / "findings.csv")
    write_metrics_json(folder / "details.json", result.metrics.details)
    write_metrics_json(folder / "metrics.json", result.metrics.flat | {"about": about})


def print_summary(result: EvaluationResult, about: dict[str, Any], folder: Path) -> None:
    """Print the main metrics and everything that was left out."""
    print(f"{about['images']:,} images, {result.objects:,} objects")
    print(result.metrics.format_headline())
    print(f"  the threshold was chosen on {result.chosen_on}")
    if about["images_seen_in_training"]:
        print(f"  {about['images_seen_in_training']:,} of the images are in train: the metrics are optimistic")
    kinds = {
        "classes_only_in_dataset": "objects left out: class unknown to the model",
        "classes_only_in_model": "detections left out: class not in the dataset",
        "states_only_in_dataset": "objects in a state unknown to the model",
    }
    for key, meaning in kinds.items():
        for name, count in result.left_out[key].items():
            print(f"  {count:6,}  {meaning}: {name}")
    for line in describe_counts(about["findings"]):
        print(line)
    print(f"  see {folder}")


if __name__ == "__main__":
    run_command(main)
