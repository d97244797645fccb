"""Judge any checkpoint or exported ONNX file on any split or dataset, in the same way as the evaluate stage.

    python tools/evaluate_on.py MODEL DATASET [--format F] [--split S] [--tile N [--overlap X]] [--out FOLDER]

    python tools/evaluate_on.py models/model.onnx test
    python tools/evaluate_on.py models/detector.safetensors data/raw/bccd_voc --format voc --split test
    python tools/evaluate_on.py models/model.onnx data/raw/aerial --format yolo --tile 640

MODEL     a checkpoint (.safetensors, with its .json beside it) or a file that export wrote (.onnx)
DATASET   train, val or test of this repository; or a dataset's folder, with its format; or a COCO file (.json)
          that coco-convert or this command wrote
FOLDER    evaluations/DATASET_MODEL-HASH_FORMAT where it is not given

Writes into FOLDER metrics.json and details.json (as the evaluate stage does), predictions.json (COCO results),
ground_truth.json (COCO; its category ids are those of the predictions), pictures/ and, of a dataset's folder,
findings.csv (everything that was left out or repaired).
Reads params.yaml: `evaluate`, and for a folder the rules of `preprocess` and `coco_convert.present_states`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from detector.engine.environment import check_torch, keep_freed_memory

check_torch()  # before the imports below, where a mismatched pair fails obscurely

from any_model import Model, Outcome, open_model, try_on
from detector.core.errors import UserError, run_command
from detector.core.params import load_section
from detector.engine.dataset import read_coco
from detector.engine.seeding import make_deterministic
from detector.evaluation.settings import EvaluateParams
from detector.evaluation.writers import write_numbers, write_predictions
from detector.manifest.manifest import SPLITS
from detector.models.postprocess import Postprocess, PostprocessParams
from detector.preprocessing.cleaning import Finding, PreprocessParams
from detector.preprocessing.formats import READERS
from detector.preprocessing.read_dataset import read_folder
from detector.runners.tiling import Tiling, tiling_of
from detector.splitting.coco_writer import CocoConvertParams, coco_dataset

PARAMS = Path("params.yaml")
COCO = Path("data/coco")
EVALUATIONS = Path("evaluations")
MEMORY = Path(".cache/preprocess")  # what preprocess knows of files
KEYS = ("images", "annotations", "categories", "states")  # of the COCO files that coco-convert writes


class Dataset(NamedTuple):
    """coco: as coco-convert writes it; name: for the output folder; findings: None unless it was a raw folder."""

    coco: dict[str, Any]
    name: str
    findings: list[Finding] | None
    notes: dict[str, int]


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help="a checkpoint (.safetensors) or an exported file (.onnx)")
    parser.add_argument("dataset", help="train, val or test; or a dataset's folder; or a COCO file of this project")
    parser.add_argument("--format", choices=READERS, help="of the dataset's folder")
    parser.add_argument("--split", choices=SPLITS, help="only this list of the dataset's own")
    parser.add_argument("--tile", type=int, help="side in pixels of overlapping tiles, for large images")
    parser.add_argument("--overlap", type=float, default=0.2, help="of neighbouring tiles, as a share (default: 0.2)")
    parser.add_argument("--out", type=Path, help="folder to write into")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Judge, and write the folder."""
    given = parse(sys.argv[1:] if arguments is None else arguments)
    params = load_section(PARAMS, "evaluate", EvaluateParams)
    postprocess = Postprocess(**load_section(PARAMS, "postprocess", PostprocessParams).model_dump())
    tiling = None if given.tile is None else tiling_of(given.tile, given.overlap)
    make_deterministic(0, params.threads)
    keep_freed_memory()
    model = open_model(given.model, params.threads, postprocess)
    folder = given.out or EVALUATIONS / name_of(given, model)
    dataset = open_dataset(given, folder)
    if tiling is not None:
        check_tile(tiling, dataset.coco)
    make_writable(folder)
    training = own_data(model)
    outcome = try_on(model, dataset.coco, None if training is None else training["val"], params, tiling)
    about = about_of(given, dataset, model, outcome, training)
    write(folder, outcome, about, dataset.findings)
    outcome.draw(folder / "pictures", params.gallery)
    tell(outcome, about, folder)


def check_tile(tiling: Tiling, coco: dict[str, Any]) -> None:
    """UserError where no image would be cut into tiles."""
    largest = max((max(image["width"], image["height"]) for image in coco["images"]), default=0)
    if tiling.side >= largest:
        raise UserError(
            f"--tile {tiling.side}: no image is larger, the largest has a side of {largest} pixels; take a smaller "
            "tile, or leave --tile out"
        )


def name_of(given: argparse.Namespace, model: Model) -> str:
    """Of the output folder: dataset, model with the start of its hash, format, and tiles."""
    dataset = given.dataset if given.dataset in SPLITS else Path(given.dataset).resolve().stem
    parts = [
        dataset if given.split is None else f"{dataset}-{given.split}",
        f"{given.model.stem}-{model.digest[:8]}",
        model.kind,
    ]
    if given.tile is not None:
        parts.append(f"tile{given.tile}-{given.overlap:g}")
    return "_".join(parts)


def make_writable(folder: Path) -> None:
    """Make the folder now rather than find out after minutes that it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").open("a").close()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); name another folder with --out") from None
    (folder / "metrics.json").unlink()  # what is left when this fails has no numbers


def open_dataset(given: argparse.Namespace, out: Path) -> Dataset:
    """The split, folder or file that was named. Raises UserError when it cannot be used."""
    path, is_split = Path(given.dataset), given.dataset in SPLITS
    if path.is_dir() and not is_split:
        return open_folder(given, out)
    if given.format or given.split:
        raise UserError(f"{given.dataset}: --format and --split are for a dataset's folder, and this is none")
    coco = read_contract(COCO / f"{path}.json" if is_split else path)
    return Dataset(coco, path.stem, None, {})


def read_contract(path: Path) -> dict[str, Any]:
    """A COCO file as coco-convert writes it."""
    if not path.exists():
        raise UserError(
            f"{path}: missing; expected {', '.join(SPLITS)} (after `dvc repro coco-convert`), a dataset's folder, or "
            "a COCO file that coco-convert wrote"
        )
    advice = "for other COCO files, name the dataset's folder, with --format coco"
    try:
        coco = read_coco(path)
        missing = [key for key in KEYS if key not in coco]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as a COCO file ({error}); {advice}") from None
    if missing or any("state" not in annotation for annotation in coco["annotations"]):
        raise UserError(f'{path}: no COCO file that coco-convert wrote: no "{(*missing, "state")[0]}"; {advice}')
    if not coco["images"]:
        raise UserError(f"{path}: no images, so nothing can be measured")
    return coco


def open_folder(given: argparse.Namespace, out: Path) -> Dataset:
    """A raw dataset, cleaned by the rules of params.yaml; all classes and states that occur."""
    if given.format is None:
        raise UserError(f"{given.dataset}: say with --format what the folder holds: {', '.join(READERS)}")
    rules = load_section(PARAMS, "preprocess", PreprocessParams)
    every = {"dataset": given.dataset, "format": given.format, "classes": None, "states": None}
    make_writable(out)
    cleaned = read_folder(rules.model_copy(update=every), given.split, out / "images", MEMORY)
    if not cleaned.images:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in count_reasons(cleaned.findings).items())
        raise UserError(f"{given.dataset}: not one of its images can be used: {reasons}")
    present = load_section(PARAMS, "coco_convert", CocoConvertParams).present_states
    known = None if present is None else [state for state in present if state in cleaned.labels.states]
    coco = coco_dataset(cleaned.images, cleaned.labels, CocoConvertParams(present_states=known))
    return Dataset(coco, Path(given.dataset).resolve().name, cleaned.findings, cleaned.notes)


def own_data(model: Model) -> dict[str, dict[str, Any]] | None:
    """The train and val of this repository, if the model was trained on just these."""
    paths = [COCO / f"{split}.json" for split in ("train", "val")]
    if not all(path.is_file() for path in paths):
        return None
    data = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    return {path.stem: read_coco(path) for path in paths} if data == model.facts.data else None


def about_of(
    given: argparse.Namespace,
    dataset: Dataset,
    model: Model,
    outcome: Outcome,
    training: dict[str, dict[str, Any]] | None,
) -> dict[str, Any]:
    """What was judged, and all that was left out."""
    seen = None if training is None else {image["content"] for image in training["train"]["images"]}
    contents = [image.get("content") for image in dataset.coco["images"]]
    return {
        "model": given.model.as_posix(),
        "sha256": model.digest,
        "architecture": model.facts.model,
        "dataset": given.dataset,
        "format": given.format,
        "split": given.split,
        "tile": given.tile,
        "overlap": None if given.tile is None else given.overlap,
        "images": len(contents),
        "images_seen_in_training": None if seen is None else sum(content in seen for content in contents),
        "objects": outcome.objects,
        "classes": outcome.matched.classes,
        "threshold_chosen_on": outcome.chosen_on,
        **outcome.left_out,
        "findings": dataset.notes | count_reasons(dataset.findings or []),
    }


def count_reasons(findings: list[Finding]) -> dict[str, int]:
    """How often each reason occurs, in alphabetical order."""
    reasons = sorted(finding.reason for finding in findings)
    return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}


def write(folder: Path, outcome: Outcome, about: dict[str, Any], findings: list[Finding] | None) -> None:
    """All files but the pictures; metrics.json last."""
    write_predictions(folder / "predictions.json", outcome.judged.predictions)
    truth = json.dumps(outcome.matched.truth, ensure_ascii=False, separators=(",", ":"))
    (folder / "ground_truth.json").write_text(truth + "\n", encoding="utf-8")
    if findings is not None:
        with (folder / "findings.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(Finding._fields)
            writer.writerows(findings)
    write_numbers(folder / "details.json", outcome.measured.details)
    write_numbers(folder / "metrics.json", outcome.measured.flat | {"about": about})


def tell(outcome: Outcome, about: dict[str, Any], folder: Path) -> None:
    """The main numbers and all that was left out, on the console."""
    print(f"{about['images']:,} images, {outcome.objects:,} objects")
    print(outcome.measured.headline())
    print(f"  the threshold was chosen on {outcome.chosen_on}")
    if about["images_seen_in_training"]:
        print(f"  {about['images_seen_in_training']:,} of the images were trained on: the numbers flatter the model")
    kinds = {
        "classes_only_in_dataset": "objects left out, of a class that the model does not know",
        "classes_only_in_model": "detections left out, of a class that the dataset does not have",
        "states_only_in_dataset": "objects in a state that the model does not know",
    }
    for key, meaning in kinds.items():
        for name, count in outcome.left_out[key].items():
            print(f"  {count:6,}  {meaning}: {name}")
    for reason, count in about["findings"].items():
        print(f"  {count:6,}  {reason}")
    print(f"  see {folder}")


if __name__ == "__main__":
    run_command(main)
