"""Print what the last `dvc repro` reached, where it lies, and what to type next.

    python tools/summary.py

Reads metrics/*.json and, where it is, logs/train.json; `make repro` ends with it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detector.core.errors import UserError, run_command

METRICS = Path("metrics")
TIMES = Path("logs/train.json")
PLACES = {
    "model": "models/model.onnx",
    "plots": "plots/report.html (and pictures in plots/)",
    "metrics": "metrics/",
    "predictions": "data/predictions/{split}.json",
}
NEXT = {
    "dvc exp run -S train.lr=0.005": "try another value; only what it changes runs",
    "dvc exp show --only-changed": "compare the experiments",
    "dvc plots diff": "see both in a browser, before and after",
    "README.md": "see `Use your own images`",
}


def read(name: str) -> dict[str, Any]:
    """One of the metrics files. Raises UserError when it is missing or no JSON."""
    path = METRICS / f"{name}.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro` in the repository's root") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): run `dvc repro`, which writes it anew") from None


def score(value: float | None) -> str:
    """Three digits; `-` for a number that the test set cannot give."""
    return "-" if value is None else f"{value:.3f}"


def with_interval(metrics: dict[str, Any], name: str) -> str:
    """The number with its 95% interval, where it has one."""
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    span = "" if low is None or high is None else f" ({score(low)} to {score(high)})"
    return score(metrics[name]) + span


def data_line(preprocess: dict[str, Any], split: dict[str, Any]) -> str:
    """Images and boxes that were used, and what was dropped."""
    reasons = preprocess["findings"].items()
    boxes = sum(count for reason, count in reasons if "box" in reason and reason.endswith("dropped"))
    images = preprocess["images_listed"] - preprocess["images"]
    dealt = ", ".join(f"{count:,} {name}" for name, count in split["images"].items())
    return (
        f"{preprocess['images']:,} images ({dealt}), {preprocess['boxes']:,} boxes; "
        f"dropped {images:,} images, {boxes:,} boxes"
    )


def training_time() -> str:
    """How long training took on this machine, when it ran here."""
    try:
        minutes, seconds = divmod(round(json.loads(TIMES.read_text(encoding="utf-8"))["seconds"]), 60)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f"; trained in {minutes} min {seconds} s"


def table(rows: dict[str, str]) -> list[str]:
    """A row a line, the second column aligned."""
    width = max(map(len, rows))
    return [f"  {name:{width}}  {text}" for name, text in rows.items()]


def summary() -> list[str]:
    """The lines to print. Raises UserError when a stage has not run."""
    preprocess, split, evaluate, details, export = map(
        read, ("preprocess", "split", "evaluate", "evaluate/details", "export")
    )
    try:
        judged = details["split"]
        rows = {
            judged: f"AP {with_interval(evaluate, 'AP')}, AP50 {with_interval(evaluate, 'AP50')}{training_time()}",
            "threshold": f"{score(evaluate['threshold'])}, with precision {score(evaluate['precision'])} "
            f"and recall {score(evaluate['recall'])}",
            **(
                {"states": f"macro F1 {with_interval(evaluate, 'state_macro_F1')}"}
                if "state_macro_F1" in evaluate
                else {}
            ),
            "data": data_line(preprocess, split),
        }
        places = {name: place.format(split=judged) for name, place in PLACES.items()}
        places["model"] += f" ({export['bytes'] / 1e6:.1f} MB)"
    except KeyError as error:
        raise UserError(f"{METRICS}: no {error} in these files, an older version wrote them: run `dvc repro`") from None
    return ["", *table(rows | places), "", "Next:", *table(NEXT)]


def main() -> None:
    """Print it."""
    print("\n".join(summary()))


if __name__ == "__main__":
    run_command(main)
