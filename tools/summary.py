"""Print the metrics of the last `dvc repro`, the output paths and the next steps.

    python tools/summary.py

Reads metrics/ and, if it exists, logs/train.json. `make repro` runs it last.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from detector.core.errors import UserError, run_command
from detector.evaluation.metric_names import interval_names

METRICS = Path("metrics")
TRAINING_TIMES = Path("logs/train.json")
OUTPUTS = {
    "model": "models/model.onnx",
    "report": "plots/report.html (single plots in plots/)",
    "metrics": "metrics/",
    "predictions": "data/predictions/{split}.json",
}
NEXT_STEPS = {
    "dvc exp run -S train.lr=0.005": "try another value; only the stages that depend on it run",
    "dvc exp show --only-changed": "compare the experiments",
    "dvc plots diff": "compare the plots in a browser",
    "README.md": "see the section on your own images",
}


def read_metrics_file(name: str) -> dict[str, Any]:
    """Read metrics/NAME.json. Raises UserError if it is missing or not JSON."""
    path = METRICS / f"{name}.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro` in the repository root") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): run `dvc repro`, which rewrites it") from None


def format_score(value: float | None) -> str:
    """Three decimals; `-` for an undefined value."""
    return "-" if value is None else f"{value:.3f}"


def format_with_interval(metrics: dict[str, Any], name: str) -> str:
    """A metric with its 95% confidence interval, if it has one."""
    low, high = (metrics.get(bound) for bound in interval_names(name))
    interval = "" if low is None or high is None else f" ({format_score(low)} to {format_score(high)})"
    return format_score(metrics[name]) + interval


def describe_data(preprocess: dict[str, Any], split: dict[str, Any]) -> str:
    """The number of images and boxes, used and dropped."""
    boxes = sum(preprocess["findings"].get("dropped_box", {}).values())
    images = preprocess["images_listed"] - preprocess["images"]
    by_split = ", ".join(f"{count:,} {name}" for name, count in split["images"].items())
    return (
        f"{preprocess['images']:,} images ({by_split}), {preprocess['boxes']:,} boxes; "
        f"dropped {images:,} images, {boxes:,} boxes"
    )


def describe_training_time() -> str:
    """The training time, if training ran on this machine."""
    try:
        minutes, seconds = divmod(round(json.loads(TRAINING_TIMES.read_text(encoding="utf-8"))["seconds"]), 60)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f"; trained in {minutes} min {seconds} s"


def align_rows(rows: dict[str, str]) -> list[str]:
    """One line per row, the second column aligned."""
    width = max(map(len, rows))
    return [f"  {name:{width}}  {text}" for name, text in rows.items()]


def build_summary() -> list[str]:
    """The lines to print. Raises UserError if a stage has not run."""
    preprocess, split, details, export = (
        read_metrics_file(f"{stage}/details") for stage in ("preprocess", "split", "evaluate", "export")
    )
    try:
        test_split, evaluate = details["split"], details["metrics"]
        ap, ap50 = format_with_interval(evaluate, "AP"), format_with_interval(evaluate, "AP50")
        threshold, precision, recall = (format_score(evaluate[name]) for name in ("threshold", "precision", "recall"))
        rows = {
            test_split: f"AP {ap}, AP50 {ap50}{describe_training_time()}",
            "threshold": f"{threshold} (precision {precision}, recall {recall})",
        }
        if "state_F1" in evaluate:
            rows["states"] = f"macro F1 {format_with_interval(evaluate, 'state_F1')}"
        rows["data"] = describe_data(preprocess, split)
        outputs = {name: path.format(split=test_split) for name, path in OUTPUTS.items()}
        outputs["model"] += f" ({export['bytes'] / 1e6:.1f} MB)"
    except KeyError as error:
        raise UserError(
            f"{METRICS}/*/details.json lack {error}: an older version wrote them; run `dvc repro`"
        ) from None
    return ["", *align_rows(rows | outputs), "", "Next, after `source .venv/bin/activate`:", *align_rows(NEXT_STEPS)]


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_args()  # `--help` starts nothing
    print("\n".join(build_summary()))


if __name__ == "__main__":
    run_command(main)
