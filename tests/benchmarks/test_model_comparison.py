"""The table of the models, from a real training."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import full_training, model_comparison
from detector.core.errors import UserError


def test_changes_on_the_command_line() -> None:
    assert model_comparison.parse_changes(["epochs=2", "scale=[1.0, 1.5]"]) == {"epochs": 2, "scale": [1.0, 1.5]}
    with pytest.raises(UserError, match="--set takes KEY=VALUE"):
        model_comparison.parse_changes(["epochs"])


@pytest.mark.long
def test_the_table_has_a_row_per_trained_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "raw")
    monkeypatch.setattr(model_comparison, "HOME", tmp_path / "home")
    arguments = "--format jsonl --strategy random --models simple --set epochs=1 image_size=64 batch_size=4 threads=1"
    monkeypatch.setattr(sys, "argv", ["command", str(tmp_path / "raw"), *arguments.split()])
    model_comparison.main()
    row = capsys.readouterr().out.splitlines()[-1].split(" | ")
    assert row[0] == "| `simple`"
    assert (
        row[1] == f"{full_training.count_parameters(tmp_path / 'home/simple/models/detector.safetensors') / 1e6:.1f} M"
    )
    assert row[3] == "1"


def write_dataset(folder: Path) -> None:
    """Write sixteen noise images with a box each, as JSON Lines."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    lines = []
    for index in range(16):
        pixels = random.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        Image.fromarray(pixels).save(folder / f"images/{index}.png")
        box: dict[str, object] = {"annotation_label": "a"}
        box |= {f"{side}_normalized": 0.25 for side in ("x_min", "y_min")}
        box |= {f"{side}_normalized": 0.75 for side in ("x_max", "y_max")}
        lines.append(json.dumps({"image_path": f"images/{index}.png", "bounding_box_annotations": [box]}))
    (folder / "dataset.jsonl").write_text("\n".join(lines) + "\n")
