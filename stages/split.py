"""Deal the images to train, val and test.

command  python stages/split.py
reads    params.yaml (split), data/clean/manifest.jsonl, split.lock (what was dealt before)
writes   data/split/{train,val,test}.txt (an image path a line), metrics/split.json, and split.lock, which
         is an input that grows: it belongs into git, so that adding images never moves an old one
time     under 0.5 s for thousands of images
"""

from __future__ import annotations

import json
from pathlib import Path

from detector.core.errors import run_command
from detector.core.params import load_section
from detector.manifest.manifest import SPLITS, read_outlines
from detector.splitting.split_lock import read_lock, updated_lock, write_lock
from detector.splitting.splitting import (
    SplitParams,
    check_splits,
    deal,
    describe,
    straddling,
)

MANIFEST = Path("data/clean/manifest.jsonl")
LOCK = Path("split.lock")
LISTS = Path("data/split")
METRICS = Path("metrics/split.json")


def main() -> None:
    params = load_section(Path("params.yaml"), "split", SplitParams)
    images = list(read_outlines(MANIFEST))
    text = LOCK.read_text(encoding="utf-8") if LOCK.exists() else ""
    lock = read_lock(text, params)
    if text.strip() and not lock and params.strategy != "given":
        print("all images are dealt anew: split.lock was made under another strategy, ratios or seed")
    splits, new = deal(images, lock, params)
    check_splits(images, splits)
    LISTS.mkdir(parents=True, exist_ok=True)
    for name in SPLITS:
        paths = sorted(image.image for image, split in zip(images, splits, strict=True) if split == name)
        (LISTS / f"{name}.txt").write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    metrics = describe(images, splits)
    METRICS.parent.mkdir(parents=True, exist_ok=True)
    METRICS.write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if params.strategy != "given":
        LOCK.write_text(write_lock(updated_lock(lock, images, splits), params), encoding="utf-8")
    dealt = ", ".join(f"{splits.count(name):,} {name}" for name in SPLITS)
    print(f"{dealt} images; {new} dealt just now")
    print(f"  classes deviate by at most {metrics['largest_deviation_in_points']} points")
    for unit in straddling(images, splits):
        print(f"  leak: near-duplicates or one sequence in several splits: {', '.join(unit)}")
    for image, split in zip(images, splits, strict=True):
        if split is None:
            print(f"  left out: {image.image}")


if __name__ == "__main__":
    run_command(main)
